"""``Token.from_response``: what is a token, and what only looks like one."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnifund.errors import InvalidResponse
from omnifund.token import MAX_LIFETIME, Token

NOW = 1_800_000_000
ANSWER: dict[str, Any] = {
    "access_token": "MDFj" * 21 + "ZQ",
    "expires_in": 3600,
    "token_type": "bearer",
    "scope": None,
    "refresh_token": "ZjYy" * 21 + "Ng",
}
OLD = Token("old-access", "old-refresh", NOW - 3600, NOW, "read write")


def test_omnifunds_answer_is_understood() -> None:
    token = Token.from_response(ANSWER, now=NOW)
    assert token.access_token == ANSWER["access_token"]
    assert token.refresh_token == ANSWER["refresh_token"]
    assert token.expires_at == NOW + 3600
    assert token.scope is None


def test_a_token_shows_no_secret_in_its_repr() -> None:
    """D2"""
    shown = repr(Token.from_response(ANSWER, now=NOW))
    assert ANSWER["access_token"] not in shown
    assert ANSWER["refresh_token"] not in shown


@pytest.mark.parametrize("token_type", ["bearer", "Bearer", "BEARER"])
def test_the_token_types_case_does_not_matter(token_type: str) -> None:
    """C10"""
    token = Token.from_response({**ANSWER, "token_type": token_type}, now=NOW)
    assert token.token_type == "Bearer"


@pytest.mark.parametrize("token_type", [None, "mac", "", 1, ["bearer"], {}, True])
def test_an_unknown_token_type_is_refused(token_type: object) -> None:
    """C10"""
    with pytest.raises(InvalidResponse):
        Token.from_response({**ANSWER, "token_type": token_type}, now=NOW)


@pytest.mark.parametrize(
    "access_token",
    [None, "", " ", "a b", "a\nb", "a\r\nX: y", "tab\t", "\x00", "é", {}, [], 7, True, "x" * 9000],
)
def test_an_unusable_access_token_is_refused_on_receipt(access_token: object) -> None:
    """C10"""
    with pytest.raises(InvalidResponse):
        Token.from_response({**ANSWER, "access_token": access_token}, now=NOW)


@pytest.mark.parametrize("name", ["access_token", "token_type"])
def test_a_missing_field_is_refused(name: str) -> None:
    """C10"""
    answer = {key: value for key, value in ANSWER.items() if key != name}
    with pytest.raises(InvalidResponse):
        Token.from_response(answer, now=NOW)


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        (3600, 3600),
        ("3600", 3600),
        (3600.9, 3600),
        (None, 300),
        (0, 0),
        (-5, 0),
        ("-5", 0),
        (10**30, MAX_LIFETIME),
        (1e300, MAX_LIFETIME),
    ],
)
def test_lifetimes_are_read_in_whole_seconds(expires_in: object, lifetime: int) -> None:
    """C11"""
    token = Token.from_response({**ANSWER, "expires_in": expires_in}, now=NOW + 0.9)
    assert token.expires_at == NOW + lifetime


@pytest.mark.parametrize(
    "expires_in", [True, False, "abc", "", "1e3", "3600 ", [], {}, float("nan"), float("inf")]
)
def test_a_lifetime_that_is_no_number_is_refused(expires_in: object) -> None:
    """C11"""
    with pytest.raises(InvalidResponse):
        Token.from_response({**ANSWER, "expires_in": expires_in}, now=NOW)


@pytest.mark.parametrize(
    ("answered", "stored"), [(None, "read write"), ("", "read write"), ("read", "read")]
)
def test_a_scope_that_is_not_named_is_the_one_asked_for(answered: object, stored: str) -> None:
    """C12"""
    answer = {**ANSWER, "scope": answered}
    assert Token.from_response(answer, now=NOW, requested_scope="read write").scope == stored
    assert Token.from_response(answer, now=NOW, previous=OLD).scope == stored


@pytest.mark.parametrize("scope", [["read"], 1, {}, "a\nb", "x" * 5000])
def test_a_scope_that_is_no_text_is_refused(scope: object) -> None:
    """C12"""
    with pytest.raises(InvalidResponse):
        Token.from_response({**ANSWER, "scope": scope}, now=NOW)


@pytest.mark.parametrize("refresh_token", [None, ""])
def test_without_a_new_refresh_token_the_old_one_is_kept(refresh_token: object) -> None:
    """E12"""
    answer = {**ANSWER, "refresh_token": refresh_token}
    assert Token.from_response(answer, now=NOW, previous=OLD).refresh_token == "old-refresh"
    assert Token.from_response(answer, now=NOW).refresh_token is None


def test_a_rotated_refresh_token_replaces_the_old_one() -> None:
    token = Token.from_response(ANSWER, now=NOW, previous=OLD)
    assert token.refresh_token == ANSWER["refresh_token"]
    assert token.generation == OLD.generation + 1


@pytest.mark.parametrize("refresh_token", [7, [], {}, "a b", True])
def test_an_unusable_refresh_token_is_refused(refresh_token: object) -> None:
    with pytest.raises(InvalidResponse):
        Token.from_response({**ANSWER, "refresh_token": refresh_token}, now=NOW)


@pytest.mark.parametrize(
    ("at", "due"), [(0, False), (3539, False), (3540, True), (3600, True), (-300, False)]
)
def test_a_token_is_due_from_the_leeway_on(at: int, due: bool) -> None:
    """E1"""
    assert Token.from_response(ANSWER, now=NOW).due(NOW + at, leeway=60) is due


def test_a_short_lived_token_is_refreshed_at_half_its_life_and_not_on_every_request() -> None:
    """E1"""
    answer = {**ANSWER, "expires_in": 30}
    assert Token.from_response(answer, now=NOW).due(NOW, leeway=60)
    refreshed = Token.from_response(answer, now=NOW, previous=OLD)
    assert [refreshed.due(NOW + at, leeway=60) for at in (0, 14, 15, 30)] == [
        False,
        False,
        True,
        True,
    ]


def test_a_token_that_arrives_expired_does_not_cause_a_refresh_loop() -> None:
    """C11"""
    token = Token.from_response({**ANSWER, "expires_in": 0}, now=NOW, previous=OLD)
    assert token.expired(NOW)
    assert [token.due(NOW + at, leeway=60) for at in (0, 29, 30)] == [False, False, True]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)
likely_fields = st.dictionaries(
    st.sampled_from(sorted(ANSWER)) | st.text(max_size=12), json_values, max_size=8
)


@given(likely_fields)
def test_any_json_object_is_a_usable_token_or_refused(answer: dict[str, Any]) -> None:
    """C10, C11, C12"""
    try:
        token = Token.from_response({"token_type": "bearer", **answer}, now=NOW)
    except InvalidResponse:
        return
    printable = set(string.printable) - set(string.whitespace)
    assert token.access_token
    assert set(token.access_token) <= printable
    assert NOW <= token.expires_at <= NOW + MAX_LIFETIME
    json.dumps([token.scope, token.refresh_token])
