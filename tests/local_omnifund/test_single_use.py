"""Codes and refresh tokens under parallel redemption, and what is left of them in Redis."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.local_omnifund.conftest import Site

PARALLEL = 12


def at_once(call: Callable[[], requests.Response]) -> list[requests.Response]:
    """Make the same request from many threads that start together."""
    gate = threading.Barrier(PARALLEL)

    def wait_and_call(_: int) -> requests.Response:
        gate.wait()
        return call()

    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(wait_and_call, range(PARALLEL)))


@pytest.mark.parametrize("_round", range(3))
def test_of_parallel_redemptions_of_one_code_exactly_one_wins(site: Site, _round: int) -> None:
    code = site.code()

    answers = at_once(lambda: site.exchange(code))

    assert sorted(answer.status_code for answer in answers) == [200] + [400] * (PARALLEL - 1)
    errors = {answer.text for answer in answers if answer.status_code == 400}
    assert errors == {
        '{"error":"invalid_grant",'
        '"error_description":"Code doesn\'t exist or is invalid for the client"}'
    }
    assert len(site.redis.keys("local_omnifund:access:*")) == 1


@pytest.mark.parametrize("_round", range(3))
def test_of_parallel_uses_of_one_refresh_token_exactly_one_wins(site: Site, _round: int) -> None:
    refresh_token = site.password().json()["refresh_token"]

    answers = at_once(lambda: site.refresh(refresh_token))

    assert sorted(answer.status_code for answer in answers) == [200] + [400] * (PARALLEL - 1)
    errors = {answer.text for answer in answers if answer.status_code == 400}
    assert errors == {'{"error":"invalid_grant","error_description":"Invalid refresh token"}'}
    assert len(site.redis.keys("local_omnifund:refresh:*")) == 1


def test_every_record_leaves_redis_an_hour_after_it_expired(site: Site) -> None:
    site.code()
    site.password()

    def seconds_left(kind: str) -> int:
        (key,) = site.redis.keys(f"local_omnifund:{kind}:*")
        return int(site.redis.ttl(key))

    assert 3600 < seconds_left("code") <= 3630
    assert 3600 + 3540 < seconds_left("access") <= 3600 + 3600
    assert 14 * 24 * 3600 < seconds_left("refresh") <= 14 * 24 * 3600 + 3600
    assert 1740 < seconds_left("session") <= 1800


def test_redis_holds_hashes_instead_of_codes_tokens_passwords_and_session_ids(
    site: Site,
) -> None:
    with site.visitor() as visitor:
        visitor.sign_in()
        location = visitor.decide(site.authorize_parameters()).headers["Location"]
        session_id = visitor.http.cookies["PHPSESSID"]
    tokens = site.password().json()

    everything = "".join(
        f"{key!r} {site.redis.hgetall(key) if ':client:' in key else site.redis.get(key)!r}\n"
        for key in site.redis.keys("local_omnifund:*")
        if ":clients:" not in key
    )

    assert "local_omnifund:code:" in everything
    for secret in (
        location.partition("code=")[2],
        session_id,
        tokens["access_token"],
        tokens["refresh_token"],
        site.client_secret,
        "local-omnifund-demo",
    ):
        assert secret not in everything
