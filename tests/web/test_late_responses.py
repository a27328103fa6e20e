"""Responses that arrive late: no cookie of an earlier session replaces or deletes a newer one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import provider as kit
from tests.support.rig import Rig, rig


@pytest.fixture
def running(redis_url: str) -> Iterator[Rig]:
    with rig(redis_url) as app:
        yield app


def test_a_page_that_changes_its_session_sends_no_session_cookie(running: Rig) -> None:
    """B11, F3: the page with a notice rewrites the session in Redis; the browser has its ID."""
    merchant = running.merchant()
    assert merchant.press("/dashboard", "/token/refresh").status_code == 303
    page = merchant.get("/dashboard")
    assert "Tokens refreshed" in page.text
    assert "omnifund_session" not in page.headers.get("Set-Cookie", "")
    assert "Tokens refreshed" not in merchant.get("/dashboard").text


def test_a_connection_that_has_ended_leaves_the_cookie_to_the_tab_that_signs_in(
    running: Rig,
) -> None:
    """B11: another tab may have replaced the cookie since this request was sent."""
    merchant = running.merchant()
    running.clock.advance(3600)
    running.provider.next_token_answer(kit.json_answer({"error": "invalid_grant"}, 400))
    answer = merchant.get("/customers")
    assert answer.headers["Location"] == "/login?next=/customers"
    assert "omnifund_session" not in answer.headers.get("Set-Cookie", "")
    assert merchant.get("/session").json() == {"signed_in": False}


def test_signing_out_does_delete_the_cookie(running: Rig) -> None:
    """F3"""
    merchant = running.merchant()
    answer = merchant.press("/dashboard", "/logout")
    assert "omnifund_session=;" in answer.headers["Set-Cookie"]
