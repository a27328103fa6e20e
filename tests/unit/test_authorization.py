"""Pending authorization requests: opaque, bound to their browser, short-lived."""

from __future__ import annotations

import base64
import re
from typing import Any, cast

import pytest

from omnifund.authorization import (
    MAX_NEXT_LENGTH,
    PENDING_PER_BROWSER,
    PENDING_SECONDS,
    AuthorizationRequest,
    PendingRequests,
    new_code_verifier,
    new_state,
)
from omnifund.encryption import Cipher
from omnifund.errors import InvalidState, OwnerMismatch

NOW = 1_800_000_000.0


def pending(key: str = "k" * 40) -> PendingRequests:
    # Without a store: a method that sent a command would fail with another error.
    return PendingRequests(Cipher([key]), cast(Any, None), cookie_prefix="attempt_")


def new_request(
    now: float = NOW, next: str = "/customers?page=2", owner: str = ""
) -> AuthorizationRequest:
    return AuthorizationRequest(new_state(), new_code_verifier(), next, now, owner)


def test_a_hundred_thousand_states_and_verifiers_are_distinct_and_opaque() -> None:
    """A4, A8"""
    values = {make() for make in (new_state, new_code_verifier) for _ in range(100_000)}
    assert len(values) == 200_000
    # 32 random bytes in base64url: nothing but the characters of RFC 7636 §4.1, no structure.
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", value) for value in values)


def test_the_bits_of_states_are_random() -> None:
    """A4: over 20,000 states each of the 256 bits is set about half of the time."""
    count = 20_000
    numbers = [
        int.from_bytes(base64.urlsafe_b64decode(new_state() + "="), "big") for _ in range(count)
    ]
    for bit in range(256):
        share = sum(number >> bit & 1 for number in numbers) / count
        assert 0.47 < share < 0.53


def test_a_request_comes_back_from_its_own_cookie() -> None:
    request = new_request()
    assert (
        pending().find(
            [("state", request.state)], dict([pending().cookie(request)]), now=NOW, owner=None
        )
        == request
    )


def test_the_cookie_shows_nothing_of_the_request() -> None:
    """D1"""
    request = new_request(owner="user-4711")
    name, value = pending().cookie(request)
    decoded = base64.urlsafe_b64decode(value)
    for secret in (request.state, request.code_verifier, request.next, request.owner):
        assert secret not in name + value
        assert secret.encode() not in decoded


def test_the_repr_shows_no_secret() -> None:
    """D2"""
    request = new_request()
    assert request.state not in repr(request)
    assert request.code_verifier not in repr(request)


@pytest.mark.parametrize("age", [0, 1, PENDING_SECONDS, -60])
def test_a_request_is_valid_for_ten_minutes(age: float) -> None:
    """B1"""
    request = new_request()
    cookies = dict([pending().cookie(request)])
    assert pending().find([("state", request.state)], cookies, now=NOW + age, owner=None) == request


@pytest.mark.parametrize("age", [PENDING_SECONDS + 1, 86400, -61])
def test_a_request_is_not_valid_for_longer(age: float) -> None:
    """B1"""
    request = new_request()
    with pytest.raises(InvalidState):
        pending().find(
            [("state", request.state)], dict([pending().cookie(request)]), now=NOW + age, owner=None
        )


def test_another_state_decrypts_nothing_even_under_the_right_name() -> None:
    """B1"""
    mine, other = new_request(), new_request()
    (name, _), (_, others_value) = pending().cookie(mine), pending().cookie(other)
    for cookies in ({}, dict([pending().cookie(other)]), {name: others_value}):
        with pytest.raises(InvalidState):
            pending().find([("state", mine.state)], cookies, now=NOW, owner=None)


@pytest.mark.parametrize("value", ["", "x", "%%%", "é", "A" * 100, "A" * 5000])
def test_a_forged_cookie_is_no_request(value: str) -> None:
    """B1"""
    request = new_request()
    name, _ = pending().cookie(request)
    with pytest.raises(InvalidState):
        pending().find([("state", request.state)], {name: value}, now=NOW, owner=None)


def test_an_altered_cookie_is_no_request() -> None:
    """B1"""
    request = new_request()
    name, value = pending().cookie(request)
    sealed = bytearray(base64.urlsafe_b64decode(value))
    sealed[-1] ^= 1
    with pytest.raises(InvalidState):
        pending().find(
            [("state", request.state)],
            {name: base64.urlsafe_b64encode(sealed).decode()},
            now=NOW,
            owner=None,
        )


def test_another_servers_key_decrypts_nothing() -> None:
    """H2"""
    request = new_request()
    cookies = dict([pending().cookie(request)])
    with pytest.raises(InvalidState):
        pending("another" * 6).find([("state", request.state)], cookies, now=NOW, owner=None)


@pytest.mark.parametrize(
    ("started_by", "completed_by"),
    [("1", "2"), ("1", None), ("", "1"), ("1", "1 "), ("a", "A"), ("1", "01")],
)
def test_another_owner_cannot_complete_a_request(started_by: str, completed_by: str | None) -> None:
    """M1"""
    request = new_request(owner=started_by)
    cookies = dict([pending().cookie(request)])
    with pytest.raises(OwnerMismatch):
        pending().find([("state", request.state)], cookies, now=NOW, owner=completed_by)


@pytest.mark.parametrize("owner", [None, "1", "f47ac10b-58cc-4372", "Zoë ' \" \\"])
def test_the_owner_who_started_a_request_completes_it(owner: str | None) -> None:
    """M1"""
    request = new_request(owner=owner or "")
    cookies = dict([pending().cookie(request)])
    assert pending().find([("state", request.state)], cookies, now=NOW, owner=owner) == request


def test_the_oldest_requests_are_dropped_first() -> None:
    """A5"""
    cookies: dict[str, str] = {"other": "cookie"}
    for second in range(300):
        for name in pending().surplus(cookies, room_for=1):
            del cookies[name]
        name, value = pending().cookie(new_request(NOW + second))
        cookies[name] = value
    names = [name for name in cookies if name.startswith("attempt_")]
    assert len(names) == PENDING_PER_BROWSER
    assert names == sorted(names)
    assert str(int((NOW + 299) * 1000)) in names[-1]


@pytest.mark.parametrize("room_for", [0, 1])
def test_requests_that_started_in_parallel_are_dropped_down_to_the_limit(room_for: int) -> None:
    """K5"""
    made = [pending().cookie(new_request(NOW + number))[0] for number in range(50)]
    surplus = pending().surplus({"other": "", **dict.fromkeys(made, "")}, room_for=room_for)
    assert surplus == sorted(made)[: 50 - PENDING_PER_BROWSER + room_for]


def test_cookies_stay_small_whatever_the_path() -> None:
    """A5, K5"""
    longest = new_request(next="/" + "x" * (MAX_NEXT_LENGTH - 1), owner="o" * 64)
    name, value = pending().cookie(longest)
    assert len(name) + len(value) < 1024
    # All of them together still fit into one header line of common servers.
    assert PENDING_PER_BROWSER * (len(name) + len(value) + 3) < 8190


def test_requests_of_the_same_moment_have_different_cookies() -> None:
    assert len({pending().cookie(new_request())[0] for _ in range(100)}) == 100
