"""Rate limits: floods are stopped, and no visitor can lock another out."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from flask.testing import FlaskClient

from local_omnifund.settings import DEMO_MERCHANT_PASSWORD
from tests.support.browsing import csrf_token_of
from tests.support.rig import fleet, rig
from tests.support.servers import REPOSITORY
from tests.support.stack import Stack, running_stack
from tests.support.valkey import ValkeyServer


@pytest.fixture
def limited(redis_url: str) -> Iterator[Stack]:
    """The app with its limits, behind one proxy, so that a test can come from many addresses."""
    with running_stack(redis_url, rate_limits=True, trusted_proxies=1) as stack:
        yield stack


def until_refused(client: FlaskClient, path: str, address: str, most: int) -> int:
    """Return after how many requests the answer was 429; fails if it never was."""
    for number in range(most + 1):
        answer = client.get(path, headers={"X-Forwarded-For": address})
        if answer.status_code == 429:
            assert 0 < int(answer.headers["Retry-After"]) <= 60
            assert b"Too many requests" in answer.data
            return number
    raise AssertionError("never refused")


@pytest.mark.parametrize("path", ["/login", "/callback?code=x&state=y"])
def test_a_flood_from_one_address_is_stopped_and_others_are_not(limited: Stack, path: str) -> None:
    """G5"""
    client = limited.app.test_client(use_cookies=False)
    assert until_refused(client, path, "192.0.2.1", 100) == 100
    other = client.get(path, headers={"X-Forwarded-For": "192.0.2.2"})
    assert other.status_code != 429


@pytest.mark.parametrize(
    ("mine", "others"),
    [
        ("2001:db8:0:1::{number:x}", "2001:db8:0:2::1"),
        ("fe80::{number:x}%eth0", "fe80:0:0:1::1"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8"),
    ],
)
def test_a_flood_from_one_network_is_stopped_however_many_addresses_it_has(
    limited: Stack, mine: str, others: str
) -> None:
    """G5: a line with IPv6 has 2^64 addresses."""
    client = limited.app.test_client(use_cookies=False)

    def statuses(address: str, count: int) -> list[int]:
        addresses = [address.format(number=number) for number in range(1, count + 1)]
        return [
            client.get("/login", headers={"X-Forwarded-For": each}).status_code
            for each in addresses
        ]

    assert statuses(mine, 102) == [302] * 100 + [429] * 2
    assert statuses(others, 1) == [302]


def test_guessing_passwords_is_stopped_without_locking_the_account(limited: Stack) -> None:
    """G5: the account's own merchant, at another address, is not affected."""
    client = limited.app.test_client()
    token = csrf_token_of(client.get("/login/password").text)

    def post(address: str, username: str) -> int:
        fields = {"csrf_token": token, "username": username, "password": "guess"}
        headers = {"X-Forwarded-For": address}
        return client.post("/login/password", data=fields, headers=headers).status_code

    guesses = [post("192.0.2.1", "merchant") for _ in range(12)]
    assert guesses == [401] * 10 + [429] * 2
    assert post("192.0.2.2", "merchant") == 401
    # One address may not go through many accounts either.
    many = [post("192.0.2.3", f"merchant-{number}") for number in range(22)]
    assert many == [401] * 20 + [429] * 2


def test_no_password_is_tried_by_another_method_than_post(limited: Stack) -> None:
    """G1, G5: HEAD takes the way of GET, whatever its body holds."""
    client = limited.app.test_client()
    form = {"username": "merchant", "password": DEMO_MERCHANT_PASSWORD}
    for method, status in (("HEAD", 200), ("GET", 200), ("OPTIONS", 200), ("PUT", 405)):
        answer = client.open("/login/password", method=method, data=form)
        assert (answer.status_code, "Location" in answer.headers) == (status, False)
        assert client.get("/session").json == {"signed_in": False}


@pytest.mark.parametrize(
    "address", ["203.0.113.7:{number}", "[2001:db8::7]:{number}", '"\\{number}", 203.0.113.9']
)
def test_a_flood_from_one_address_is_stopped_whatever_its_port(
    limited: Stack, address: str
) -> None:
    """K42, K43"""
    client = limited.app.test_client(use_cookies=False)
    statuses = [
        client.get("/login", headers={"X-Forwarded-For": address.format(number=number)}).status_code
        for number in range(4711, 4711 + 101)
    ]
    assert statuses == [302] * 100 + [429]


def test_an_address_that_a_client_makes_up_is_not_trusted(redis_url: str) -> None:
    """G4"""
    with running_stack(redis_url, rate_limits=True) as stack:
        client = stack.app.test_client(use_cookies=False)
        statuses = [
            client.get("/login", headers={"X-Forwarded-For": f"192.0.2.{number}"}).status_code
            for number in range(101)
        ]
    assert statuses == [302] * 100 + [429]


def test_guesses_are_counted_over_all_processes(redis_url: str) -> None:
    """G5: with four workers there are no more tries than with one."""
    limits = {"RATE_LIMITS": "on", "TRUSTED_PROXIES": "1", "PASSWORD_GRANT": "on"}
    with fleet(redis_url, workers=4, variables=limits) as running:
        browser = requests.Session()
        token = csrf_token_of(browser.get(f"{running.url}/login/password", timeout=10).text)

        def guess(number: int) -> int:
            # A connection for each, so that every worker gets some.
            return requests.post(
                f"{running.url}/login/password",
                data={"csrf_token": token, "username": f"m-{number}", "password": ""},
                cookies=browser.cookies.get_dict(),
                headers={"Connection": "close", "X-Forwarded-For": "192.0.2.1"},
                timeout=20,
            ).status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = sorted(pool.map(guess, range(40)))
    assert statuses == [400] * 20 + [429] * 20


def test_refreshing_by_hand_is_limited(redis_url: str) -> None:
    """K50: 150 requests at one moment, over several processes, are one refresh."""
    with fleet(redis_url, workers=2, variables={"RATE_LIMITS": "on"}) as running:
        merchant, other = running.merchant(), running.merchant()
        token = merchant.csrf_token()
        before = running.provider.refreshes

        def refresh(_number: int) -> requests.Response:
            return requests.post(
                f"{running.url}/token/refresh",
                data={"csrf_token": token},
                headers={"Cookie": f"omnifund_session={merchant.session_id}"},
                allow_redirects=False,
                timeout=30,
            )

        started = time.monotonic()
        with ThreadPoolExecutor(30) as pool:
            responses = list(pool.map(refresh, range(150)))
        seconds = int(time.monotonic() - started) + 1
        refreshed = [each for each in responses if each.status_code == 303]
        refused = [each for each in responses if each.status_code == 429]
        assert 1 <= len(refreshed) <= min(seconds, 20)
        assert len(refreshed) + len(refused) == 150
        assert running.provider.refreshes - before <= len(refreshed)
        assert all(1 <= int(each.headers["Retry-After"]) <= 60 for each in refused)
        # Another merchant, at the same address, is not affected.
        assert other.post_form("/token/refresh").status_code == 303
        assert running.server.stop() == 0
        log = running.server.log
    assert merchant.session_id not in log


def test_what_redis_holds_for_limits_names_no_visitor_and_ends_soon(
    limited: Stack, valkey: ValkeyServer
) -> None:
    """D3, K30: a window ends in time, also where something else has set another expiry."""
    client = limited.app.test_client()
    token = csrf_token_of(client.get("/login/password").text)
    headers = {"X-Forwarded-For": "192.0.2.77"}

    def post() -> None:
        fields = {"csrf_token": token, "username": "merchant", "password": "guess"}
        client.post("/login/password", data=fields, headers=headers)

    post()
    with valkey.client() as redis:
        keys = list(redis.scan_iter("omnifund:limit:*"))
        assert len(keys) == 2
        assert all(0 < redis.ttl(key) <= 60 for key in keys)
        assert not any(word in key for key in keys for word in (b"192.0.2", b"merchant"))
        redis.persist(keys[0])
        redis.expire(keys[1], 1_000_000)
        post()
        assert all(0 < redis.ttl(key) <= 60 for key in keys)
        assert list(redis.scan_iter("LIMIT*")) == []


@pytest.fixture
def silent(valkey: ValkeyServer) -> Iterator[ValkeyServer]:
    """A Redis that a test may pause."""
    yield valkey
    valkey.resume()


def test_without_redis_floods_are_counted_and_no_visitor_waits(
    limited: Stack, silent: ValkeyServer
) -> None:
    """F5"""
    client = limited.app.test_client(use_cookies=False)
    silent.pause()
    started = time.monotonic()
    assert until_refused(client, "/login", "192.0.2.1", 100) == 100
    assert time.monotonic() - started < 5


def test_without_redis_guesses_are_counted_in_the_process(
    limited: Stack, silent: ValkeyServer
) -> None:
    """F5, G5: never 500, never a wait beyond 2 s, and no unlimited guessing."""
    client = limited.app.test_client()
    token = csrf_token_of(client.get("/login/password").text)
    silent.pause()
    statuses = []
    for _ in range(12):
        started = time.monotonic()
        fields = {"csrf_token": token, "username": "merchant", "password": ""}
        headers = {"X-Forwarded-For": "192.0.2.1"}
        statuses.append(client.post("/login/password", data=fields, headers=headers).status_code)
        assert time.monotonic() - started < 2
    assert statuses == [400] * 10 + [429] * 2


def test_without_redis_a_refresh_is_a_page_of_503_within_two_seconds(
    redis_url: str, silent: ValkeyServer
) -> None:
    """F5"""
    with rig(redis_url, rate_limits=True) as running:
        merchant = running.merchant()
        token = merchant.csrf_token()
        silent.pause()
        for _ in range(3):
            started = time.monotonic()
            response = merchant.post("/token/refresh", {"csrf_token": token}, timeout=30)
            assert time.monotonic() - started < 2
            assert response.status_code in (503, 429)


def test_limits_can_be_switched_off(redis_url: str) -> None:
    with running_stack(redis_url, rate_limits=False) as stack:
        client = stack.app.test_client(use_cookies=False)
        assert {client.get("/login").status_code for _ in range(110)} == {302}


def test_the_documented_rights_in_redis_are_enough(valkey: ValkeyServer) -> None:
    """K27: a count that Redis refuses would be one of each process, and page the operator."""
    text = (REPOSITORY / "docs" / "deploying.md").read_text()
    (line,) = [line for line in text.splitlines() if "`ACL SETUSER`" in line]
    rights = [f"+{command}" for command in re.findall("`([A-Z]+)`", line)]
    with valkey.client() as client:
        user = ("SETUSER", "app", "reset", "on", ">pw", "~omnifund:*", *rights)
        client.execute_command("ACL", *user)
        client.execute_command("ACL", "LOG", "RESET")
        with rig(f"redis://app:pw@127.0.0.1:{valkey.port}", rate_limits=True) as running:
            merchant = running.merchant()
            assert merchant.get("/customers").status_code == 200
            assert merchant.post_form("/token/refresh").status_code == 303
            assert merchant.post_form("/logout").status_code == 303
        denied = {entry["object"] for entry in client.acl_log()}
    assert denied <= {"client|setinfo"}  # redis-py says what it is, and goes on without
