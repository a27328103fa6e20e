"""Where recordings are kept, and for how long."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import redis

from tests.faults.provider import hold, json_answer
from tests.support.merchant import Merchant
from tests.support.rig import Rig, rig
from tests.teaching.recordings import recordings, steps

CUSTOMERS = {"@type": "hydra:Collection", "hydra:member": [], "hydra:totalItems": 0}


@pytest.fixture
def running(redis_url: str) -> Iterator[Rig]:
    with rig(redis_url) as app:
        yield app


def kept_keys(redis_url: str) -> list[bytes]:
    with redis.Redis.from_url(redis_url) as client:
        found: list[bytes] = client.keys("omnifund:{*")
        return found


@pytest.mark.parametrize("page", ["/customers", "/token/refresh"])
def test_a_page_in_progress_during_a_sign_out_brings_nothing_back(
    running: Rig, redis_url: str, page: str
) -> None:
    """F3"""
    merchant = running.merchant()
    signed_out = threading.Event()
    if page == "/customers":
        running.provider.next_api_answer(hold(signed_out, json_answer(CUSTOMERS)))
        visit = threading.Thread(target=lambda: merchant.in_parallel(page, 1))
        path = "/api/customers"
    else:
        answer = json_answer({"access_token": "a" * 40, "token_type": "bearer"})
        running.provider.next_token_answer(hold(signed_out, answer))
        token = merchant.csrf_token()
        cookies = {"omnifund_session": merchant.session_id}
        visit = threading.Thread(
            target=lambda: merchant.post(
                running.url + page,
                {"csrf_token": token},
                cookies=cookies,
            )
        )
        path = "/oauth/v2/token"
    before = len(running.provider.received(path))
    csrf_token = merchant.csrf_token()
    visit.start()
    running.provider.wait_for(path, before + 1)
    other = Merchant(running)
    other.cookies.set("omnifund_session", merchant.session_id)
    form = {"csrf_token": csrf_token}
    other.post(f"{running.url}/logout", form)
    assert kept_keys(redis_url) == []
    signed_out.set()
    visit.join()
    assert kept_keys(redis_url) == []


def test_a_sign_in_deletes_the_recordings_of_the_session_that_it_replaces(
    running: Rig, redis_url: str
) -> None:
    merchant = running.merchant()
    merchant.get("/customers")
    first = merchant.session_id
    merchant.sign_in()
    assert merchant.session_id != first
    assert len(kept_keys(redis_url)) == 3
    assert [steps(each)[-1] for each in recordings(merchant)] == ["authorization_code"]


def test_a_repeated_callback_deletes_nothing(running: Rig, redis_url: str) -> None:
    merchant = Merchant(running)
    callback = merchant.authorize()
    for _ in range(2):
        merchant.get(callback)
    assert len(kept_keys(redis_url)) == 3
    assert [steps(each)[-1] for each in recordings(merchant)] == [
        "repeated_callback",
        "authorization_code",
    ]


def test_recordings_end_with_the_lifetime_of_their_session(running: Rig, redis_url: str) -> None:
    """F2"""
    merchant = running.merchant()
    merchant.get("/customers")
    with redis.Redis.from_url(redis_url) as client:
        ends = {key.rpartition(b":")[2]: client.pexpiretime(key) for key in kept_keys(redis_url)}
    assert 0 < ends[b"trace"] <= ends[b"session"]
    running.clock.advance(running.settings.session_lifetime_seconds)
    assert merchant.get("/dashboard").status_code == 302
    assert kept_keys(redis_url) == []


def test_a_session_without_its_first_recording_still_keeps_pages(
    running: Rig, redis_url: str
) -> None:
    merchant = running.merchant()
    with redis.Redis.from_url(redis_url) as client:
        client.delete(*client.keys("omnifund:{*:trace"))
    merchant.get("/customers")
    assert [steps(each) for each in recordings(merchant)] == [["page", "api"]]


def test_a_silent_redis_at_the_end_costs_the_recording_only(running: Rig, redis_url: str) -> None:
    merchant = running.merchant()
    with redis.Redis.from_url(redis_url) as client:
        # Any write to the list fails now, as it would on a server that is out of memory.
        (key,) = client.keys("omnifund:{*:trace")
        client.delete(key)
        client.set(key, "not a list")
    assert merchant.get("/customers").status_code == 200


def test_the_sign_in_shows_the_cookie_that_it_has_set(running: Rig) -> None:
    merchant = running.merchant()
    callback = recordings(merchant)[0]["exchanges"][2]
    cookie = callback["response_headers"]["Set-Cookie"]
    assert cookie.startswith("omnifund_session=••••••••;")
    assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
    assert merchant.session_id not in str(recordings(merchant))
