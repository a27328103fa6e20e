"""Rate limits: floods are stopped, and nobody can lock anybody else out."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

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
    form = client.get("/login/password").text
    token = form.partition('name="csrf_token" value="')[2].partition('"')[0]

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


def test_an_address_that_a_client_makes_up_is_not_believed(redis_url: str) -> None:
    """G4"""
    with running_stack(redis_url, rate_limits=True) as stack:
        client = stack.app.test_client(use_cookies=False)
        statuses = [
            client.get("/login", headers={"X-Forwarded-For": f"192.0.2.{number}"}).status_code
            for number in range(101)
        ]
    assert statuses == [302] * 100 + [429]


def test_without_redis_nobody_is_counted_and_nobody_turned_away(
    limited: Stack, valkey: ValkeyServer
) -> None:
    """F5"""
    client = limited.app.test_client(use_cookies=False)
    assert client.get("/login").status_code == 302
    valkey.pause()
    try:
        started = time.monotonic()
        assert client.get("/login").status_code == 302
        assert time.monotonic() - started < 2
    finally:
        valkey.resume()
