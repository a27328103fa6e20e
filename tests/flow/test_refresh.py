"""Refreshing: before expiry, on a 401, on demand; once, however many requests need it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import requests

from omnifund.client import OmniFund
from tests.support.stack import Person, Stack, running_stack


def tokens(stack: Stack, person: Person) -> tuple[str, str | None]:
    """The access token and the refresh token as they are stored now."""
    omnifund: OmniFund = stack.app.extensions["omnifund"]
    stored = omnifund.tokens.load(person.browser.cookies["omnifund_session"])
    assert stored is not None
    return stored.token.access_token, stored.token.refresh_token


def test_a_refresh_on_demand_changes_both_tokens(stack: Stack, person: Person) -> None:
    person.sign_in()
    before, expires_at = tokens(stack, person), person.status()["expires_at"]
    stack.clock.advance(100)
    answer = person.press("/dashboard", "/token/refresh")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/dashboard")
    after = tokens(stack, person)
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert person.status()["expires_at"] == expires_at + 100
    assert "Tokens refreshed" in person.get("/dashboard").text
    assert "Tokens refreshed" not in person.get("/dashboard").text


@pytest.mark.parametrize(
    ("age", "refreshed"), [(3500, False), (3540, True), (3600, True), (86400, True)]
)
def test_a_token_is_refreshed_before_it_is_used(redis_url: str, age: int, refreshed: bool) -> None:
    """E1"""
    with running_stack(redis_url, session_lifetime_seconds=200_000) as stack:
        person = stack.person()
        person.sign_in()
        before = tokens(stack, person)
        stack.clock.advance(age)
        assert person.get("/customers").status_code == 200
        assert (tokens(stack, person) != before) is refreshed


@pytest.mark.parametrize("requests_at_once", [1, 2, 5, 50])
@pytest.mark.parametrize("age", [3545, 3605])
def test_however_many_requests_meet_an_expiring_token_it_is_refreshed_once(
    stack: Stack, person: Person, requests_at_once: int, age: int
) -> None:
    """E2"""
    person.sign_in()
    before = tokens(stack, person)
    stack.clock.advance(age)
    cookie = {"Cookie": f"omnifund_session={person.browser.cookies['omnifund_session']}"}

    def visit(_: int) -> int:
        url = f"{stack.url}/customers"
        return requests.get(url, headers=cookie, allow_redirects=False, timeout=30).status_code

    with ThreadPoolExecutor(requests_at_once) as pool:
        answers = list(pool.map(visit, range(requests_at_once)))
    assert answers == [200] * requests_at_once
    assert tokens(stack, person) != before
    omnifund: OmniFund = stack.app.extensions["omnifund"]
    stored = omnifund.tokens.load(person.browser.cookies["omnifund_session"])
    assert stored is not None
    assert stored.token.generation == 1


def test_a_refused_access_token_is_refreshed_once_and_the_request_repeated(
    stack: Stack, person: Person
) -> None:
    """E13"""
    person.sign_in()
    before = tokens(stack, person)
    with redis.Redis.from_url(stack.redis_url) as client:
        for key in client.keys("local_omnifund:*access*"):
            client.delete(key)
    assert person.get("/customers").status_code == 200
    assert tokens(stack, person) != before


def test_a_revoked_connection_ends_in_one_sign_in_that_returns_to_the_same_page(
    stack: Stack, person: Person
) -> None:
    """E8, E10"""
    person.sign_in()
    with redis.Redis.from_url(stack.redis_url) as client:
        for key in client.keys("local_omnifund:*refresh*"):
            client.delete(key)
    stack.clock.advance(3600)
    answer = person.get("/customers?page=2")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/login?next=/customers%3Fpage%3D2"
    with redis.Redis.from_url(stack.redis_url) as client:
        assert client.keys("omnifund:{*") == []
    assert person.sign_in("/customers?page=2").headers["Location"] == "/customers?page=2"
    assert "You had to sign in again" in person.get("/dashboard").text


def test_after_a_sign_out_nothing_comes_back(stack: Stack, person: Person) -> None:
    """E6"""
    person.sign_in()
    omnifund: OmniFund = stack.app.extensions["omnifund"]
    session_id = person.browser.cookies["omnifund_session"]
    stored = omnifund.tokens.load(session_id)
    lock = omnifund.tokens.acquire_refresh_lock(session_id, seconds=10)
    assert stored is not None
    assert lock.acquired
    person.press("/dashboard", "/logout")
    late = omnifund.tokens.prepare(session_id, stored.token)
    assert omnifund.tokens.replace(session_id, stored, late, lock) is False
    assert omnifund.tokens.load(session_id) is None
