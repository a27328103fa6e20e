"""Refreshing: before expiry, on a 401, on demand; once, however many requests need it."""

from __future__ import annotations

import pytest
import redis

from omnifund.client import OmniFund
from omnifund.errors import ConnectionNotFound
from tests.support.merchant import Merchant
from tests.support.stack import Stack, running_stack


def tokens(merchant: Merchant) -> tuple[str, str | None]:
    """The access token and the refresh token as they are stored now."""
    token = merchant.stored.token
    return token.access_token, token.refresh_token


def test_a_refresh_on_demand_changes_both_tokens(stack: Stack, merchant: Merchant) -> None:
    merchant.sign_in()
    before, expires_at = tokens(merchant), merchant.status()["expires_at"]
    stack.clock.advance(100)
    answer = merchant.press("/dashboard", "/token/refresh")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/dashboard")
    after = tokens(merchant)
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert merchant.status()["expires_at"] == expires_at + 100
    assert "Tokens refreshed" in merchant.get("/dashboard").text
    assert "Tokens refreshed" not in merchant.get("/dashboard").text


@pytest.mark.parametrize(
    ("age", "refreshed"), [(3500, False), (3540, True), (3600, True), (86400, True)]
)
def test_a_token_is_refreshed_before_it_is_used(redis_url: str, age: int, refreshed: bool) -> None:
    """E1"""
    with running_stack(redis_url, session_lifetime_seconds=200_000) as stack:
        merchant = Merchant(stack)
        merchant.sign_in()
        before = tokens(merchant)
        stack.clock.advance(age)
        assert merchant.get("/customers").status_code == 200
        assert (tokens(merchant) != before) is refreshed


@pytest.mark.parametrize("count", [1, 2, 5, 50])
@pytest.mark.parametrize("age", [3545, 3605])
def test_however_many_requests_meet_an_expiring_token_it_is_refreshed_once(
    stack: Stack, merchant: Merchant, count: int, age: int
) -> None:
    """E2"""
    merchant.sign_in()
    before = tokens(merchant)
    stack.clock.advance(age)
    pages = merchant.in_parallel("/customers", count)
    assert [page.status_code for page in pages] == [200] * count, pages
    assert tokens(merchant) != before
    assert merchant.stored.token.generation == 1


def test_a_refused_access_token_is_refreshed_once_and_the_request_repeated(
    stack: Stack, merchant: Merchant
) -> None:
    """E13"""
    merchant.sign_in()
    before = tokens(merchant)
    with redis.Redis.from_url(stack.redis_url) as client:
        for key in client.keys("local_omnifund:*access*"):
            client.delete(key)
    assert merchant.get("/customers").status_code == 200
    assert tokens(merchant) != before


def test_a_revoked_connection_ends_in_one_sign_in_that_returns_to_the_same_page(
    stack: Stack, merchant: Merchant
) -> None:
    """E8, E10"""
    merchant.sign_in()
    with redis.Redis.from_url(stack.redis_url) as client:
        for key in client.keys("local_omnifund:*refresh*"):
            client.delete(key)
    stack.clock.advance(3600)
    answer = merchant.get("/customers?page=2")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/login?next=/customers%3Fpage%3D2"
    with redis.Redis.from_url(stack.redis_url) as client:
        assert client.keys("omnifund:{*") == []
    assert merchant.sign_in("/customers?page=2").headers["Location"] == "/customers?page=2"
    assert "You had to sign in again" in merchant.get("/dashboard").text


def test_after_a_sign_out_nothing_comes_back(stack: Stack, merchant: Merchant) -> None:
    """E6"""
    merchant.sign_in()
    omnifund: OmniFund = stack.app.extensions["omnifund"]
    session_id = merchant.session_id
    stored = omnifund.tokens.load(session_id)
    lock = omnifund.tokens.acquire_refresh_lock(session_id, seconds=10)
    assert lock.acquired
    merchant.press("/dashboard", "/logout")
    late = omnifund.tokens.prepare(session_id, stored.token)
    assert omnifund.tokens.replace(session_id, stored, late, lock) is False
    with pytest.raises(ConnectionNotFound):
        omnifund.tokens.load(session_id)
