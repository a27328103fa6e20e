"""The callback's query, read strictly."""

from __future__ import annotations

import pytest

from omnifund.authorization import Attempt
from omnifund.authorization import MAX_CODE_LENGTH, read, state_of
from omnifund.errors import (
    AccessDenied,
    InvalidState,
    AuthorizationErrorResponse,
    InvalidAuthorizationResponse,
    OmniFundUnavailable,
)

ISSUER = "https://secure.gotobilling.com"
ATTEMPT = Attempt.start("/dashboard", pkce=True, now=1_800_000_000)


def test_a_code_with_its_attempt_is_what_a_good_callback_gives() -> None:
    code = read([("state", ATTEMPT.state), ("code", "abc")], ATTEMPT, issuer=ISSUER)
    assert (code.value, code.attempt) == ("abc", ATTEMPT)
    assert "abc" not in repr(code)


def test_the_state_is_found_wherever_it_stands() -> None:
    assert state_of([("code", "x"), ("state", ATTEMPT.state)]) == ATTEMPT.state


@pytest.mark.parametrize(
    "query",
    [
        [],
        [("state", "")],
        [("state", "short")],
        [("state", "x" * 200)],
        [("state", "spaces are not part of a state")],
        [("state", ATTEMPT.state + "\n")],
        [("state", ATTEMPT.state), ("state", ATTEMPT.state)],
        [("State", ATTEMPT.state)],
    ],
)
def test_without_exactly_one_state_there_is_no_sign_in(query: list[tuple[str, str]]) -> None:
    """B1, B8"""
    with pytest.raises(InvalidState):
        state_of(query)


@pytest.mark.parametrize(
    "query",
    [
        [],
        [("code", "")],
        [("code", "a b")],
        [("code", "a\nb")],
        [("code", "a\x00")],
        [("code", "é")],
        [("code", "x" * (MAX_CODE_LENGTH + 1))],
        [("code", "a"), ("code", "a")],
        [("code", "a"), ("error", "access_denied")],
        [("error", "access_denied"), ("error", "access_denied")],
        [("code", "a"), ("access_token", "b")],
        [("code", "a"), ("id_token", "b")],
        [("code", "a"), ("iss", "https://evil.example")],
        [("code", "a"), ("iss", ISSUER + "/")],
        [("code", "a"), ("iss", ISSUER), ("iss", ISSUER)],
        [("error", "access_denied"), ("iss", "https://evil.example")],
    ],
)
def test_a_malformed_callback_is_refused(query: list[tuple[str, str]]) -> None:
    """B8, B9, B10"""
    with pytest.raises(InvalidAuthorizationResponse):
        read(query, ATTEMPT, issuer=ISSUER)


def test_the_right_issuer_is_accepted() -> None:
    """B9"""
    assert read([("code", "a"), ("iss", ISSUER)], ATTEMPT, issuer=ISSUER).value == "a"


def test_a_denial_is_a_denial() -> None:
    """B4"""
    with pytest.raises(AccessDenied):
        read([("error", "access_denied")], ATTEMPT, issuer=ISSUER)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("redirect_uri_mismatch", "redirect_uri_mismatch"),
        ("invalid_scope", "invalid_scope"),
        ("<script>alert(1)</script>", None),
        ("a b", None),
        ("", None),
        ("x" * 100_000, None),
        ("\u202egnp.exe", None),
    ],
)
def test_an_error_code_is_named_only_if_it_is_fit_to_be_shown(sent: str, shown: str | None) -> None:
    """B6, B7"""
    with pytest.raises(AuthorizationErrorResponse) as caught:
        read([("error", sent)], ATTEMPT, issuer=ISSUER)
    assert caught.value.code == shown


@pytest.mark.parametrize("error", ["temporarily_unavailable", "server_error"])
def test_a_passing_trouble_of_omnifund_is_told_apart(error: str) -> None:
    with pytest.raises(OmniFundUnavailable):
        read([("error", error)], ATTEMPT, issuer=ISSUER)
