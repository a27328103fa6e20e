"""Sign-in attempts: opaque, bound to their browser, short-lived."""

from __future__ import annotations

import base64
import itertools
import re
from typing import Any

import pytest

from omnifund.attempts import ATTEMPT_SECONDS, ATTEMPTS_PER_BROWSER, Attempt, Attempts
from omnifund.errors import AttemptInvalid
from omnifund.redis_client import RedisStore
from omnifund.sealing import Keyring

NOW = 1_800_000_000.0


class NoRedis:
    """Fails the test when anything is asked of Redis."""

    def execute_command(self, *args: Any) -> Any:
        raise AssertionError(args)

    def pipeline(self, transaction: bool = True) -> Any:
        raise AssertionError(transaction)


def book(key: str = "k" * 40) -> Attempts:
    return Attempts(Keyring([key]), RedisStore(NoRedis()), cookie_prefix="attempt_")


def start(now: float = NOW) -> Attempt:
    return Attempt.start("/customers?page=2", pkce=True, now=now)


def test_a_hundred_thousand_states_and_verifiers_are_distinct_and_opaque() -> None:
    """A4, A8"""
    attempts = [start() for _ in range(100_000)]
    values = {value for each in attempts for value in (each.state, each.code_verifier)}
    assert len(values) == 200_000
    # 32 random bytes in base64url: nothing but the characters of RFC 7636 §4.1, no structure.
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", value) for value in values)


def test_the_bits_of_states_are_random() -> None:
    """A4: over 20,000 states each of the 256 bits is set about half of the time."""
    count = 20_000
    numbers = [
        int.from_bytes(base64.urlsafe_b64decode(start().state + "="), "big") for _ in range(count)
    ]
    for bit in range(256):
        share = sum(number >> bit & 1 for number in numbers) / count
        assert 0.47 < share < 0.53


def test_without_pkce_there_is_no_verifier() -> None:
    """A8"""
    assert Attempt.start("/", pkce=False, now=NOW).code_verifier == ""


def test_an_attempt_comes_back_from_its_own_cookie() -> None:
    attempt = start()
    assert book().find(attempt.state, dict([book().cookie(attempt)]), now=NOW) == attempt


def test_the_cookie_shows_nothing_of_the_attempt() -> None:
    """D1"""
    attempt = start()
    name, value = book().cookie(attempt)
    opened = base64.urlsafe_b64decode(value)
    for secret in (attempt.state, attempt.code_verifier, attempt.next_path):
        assert secret not in name + value
        assert secret.encode() not in opened


@pytest.mark.parametrize("age", [0, 1, ATTEMPT_SECONDS, -60])
def test_it_is_good_for_ten_minutes(age: float) -> None:
    """B1"""
    attempt = start()
    assert book().find(attempt.state, dict([book().cookie(attempt)]), now=NOW + age) == attempt


@pytest.mark.parametrize("age", [ATTEMPT_SECONDS + 1, 86400, -61])
def test_it_is_not_good_for_longer(age: float) -> None:
    """B1"""
    attempt = start()
    with pytest.raises(AttemptInvalid):
        book().find(attempt.state, dict([book().cookie(attempt)]), now=NOW + age)


def test_another_state_opens_nothing_even_under_the_right_name() -> None:
    """B1"""
    mine, other = start(), start()
    (name, _), (_, others_value) = book().cookie(mine), book().cookie(other)
    for cookies in ({}, dict([book().cookie(other)]), {name: others_value}):
        with pytest.raises(AttemptInvalid):
            book().find(mine.state, cookies, now=NOW)


@pytest.mark.parametrize("value", ["", "x", "%%%", "é", "A" * 100, "A" * 5000])
def test_a_forged_cookie_is_no_attempt(value: str) -> None:
    """B1"""
    attempt = start()
    name, _ = book().cookie(attempt)
    with pytest.raises(AttemptInvalid):
        book().find(attempt.state, {name: value}, now=NOW)


def test_an_altered_cookie_is_no_attempt() -> None:
    """B1"""
    attempt = start()
    name, value = book().cookie(attempt)
    sealed = bytearray(base64.urlsafe_b64decode(value))
    sealed[-1] ^= 1
    with pytest.raises(AttemptInvalid):
        book().find(attempt.state, {name: base64.urlsafe_b64encode(sealed).decode()}, now=NOW)


def test_another_servers_key_opens_nothing() -> None:
    """H2"""
    attempt = start()
    with pytest.raises(AttemptInvalid):
        book("another" * 6).find(attempt.state, dict([book().cookie(attempt)]), now=NOW)


def test_the_oldest_attempts_go_first() -> None:
    """A5"""
    attempts = book()
    cookies: dict[str, str] = {"other": "cookie"}
    for second in range(300):
        for name in attempts.surplus(cookies):
            del cookies[name]
        name, value = attempts.cookie(start(NOW + second))
        cookies[name] = value
    names = [name for name in cookies if name.startswith("attempt_")]
    assert len(names) == ATTEMPTS_PER_BROWSER
    assert names == sorted(names)
    assert str(int((NOW + 299) * 1000)) in names[-1]


def test_cookies_stay_small_whatever_the_path() -> None:
    """A5"""
    longest = Attempt.start("/" + "x" * 399, pkce=True, now=NOW)
    name, value = book().cookie(longest)
    assert len(name) + len(value) < 1024
    # All of them together still fit into one header line of common servers.
    assert ATTEMPTS_PER_BROWSER * (len(name) + len(value) + 3) < 8190


def test_attempts_of_the_same_moment_have_different_cookies() -> None:
    names = {book().cookie(start())[0] for _ in itertools.repeat(None, 100)}
    assert len(names) == 100
