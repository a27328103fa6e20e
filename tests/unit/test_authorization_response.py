"""The callback's query, read strictly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnifund.authorization import (
    MAX_CODE_LENGTH,
    AuthorizationCode,
    AuthorizationRequest,
    Parameters,
    new_code_verifier,
    new_state,
    parse_query,
    read_authorization_response,
    require_state,
)
from omnifund.errors import (
    AccessDenied,
    AuthorizationErrorResponse,
    InvalidAuthorizationResponse,
    InvalidState,
    OmniFundError,
    OmniFundUnavailable,
)

ISSUER = "https://secure.gotobilling.com"
REQUEST = AuthorizationRequest(new_state(), new_code_verifier(), "/dashboard", 1_800_000_000)


def read(parameters: Parameters) -> AuthorizationCode:
    return read_authorization_response(parameters, REQUEST, issuer=ISSUER)


def test_a_valid_callback_gives_a_code_with_its_request() -> None:
    code = read([("state", REQUEST.state), ("code", "abc")])
    assert (code.value, code.request) == ("abc", REQUEST)
    assert "abc" not in repr(code)


def test_the_state_is_found_in_any_place() -> None:
    assert require_state([("code", "x"), ("state", REQUEST.state)]) == REQUEST.state


@pytest.mark.parametrize(
    "parameters",
    [
        [],
        [("state", "")],
        [("state", "short")],
        [("state", "x" * 200)],
        [("state", "spaces are not part of a state")],
        [("state", REQUEST.state + "\n")],
        [("state", REQUEST.state), ("state", REQUEST.state)],
        [("State", REQUEST.state)],
    ],
)
def test_without_exactly_one_state_there_is_no_sign_in(parameters: Parameters) -> None:
    """B1, B8"""
    with pytest.raises(InvalidState):
        require_state(parameters)


@pytest.mark.parametrize(
    "parameters",
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
def test_a_malformed_callback_is_refused(parameters: Parameters) -> None:
    """B8, B9, B10"""
    with pytest.raises(InvalidAuthorizationResponse):
        read(parameters)


@pytest.mark.parametrize(
    "code",
    [
        "%ff",
        "a%ff",
        "%c3",
        "%c3%28",
        "%ed%a0%80",
        "%f4%90%80%80",
        "%EF%BF%BD",
        "%00",
        "a%0d%0ab",
        "a+b",
        "a%20b",
        "%7f",
        "%C2%A0",
        "%u0041%ff",
        "\xff",
    ],
)
def test_a_code_that_cannot_be_sent_byte_for_byte_is_refused(code: str) -> None:
    """K11"""
    for query in (f"code={code}", f"code={code}".encode("latin-1")):
        with pytest.raises(InvalidAuthorizationResponse):
            read(parse_query(query))


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("code=abc", "abc"),
        ("code=a%2Bb%2f%3D", "a+b/="),
        ("code=a%25ff", "a%ff"),
        ("code=%", "%"),
        ("code=%zz", "%zz"),
        ("a=%ff&code=abc", "abc"),
        ("code=abc&error_description=%ff", "abc"),
    ],
)
def test_a_code_is_decoded_once(query: str, code: str) -> None:
    """K11"""
    assert read(parse_query(query)).value == read(parse_query(query.encode())).value == code


@given(st.binary(max_size=60))
def test_any_bytes_are_a_code_that_can_be_sent_or_refused(junk: bytes) -> None:
    """B10, K11"""
    try:
        code = read(parse_query(b"code=" + junk))
    except OmniFundError:
        return
    assert code.value.isascii()
    assert code.value.isprintable()
    assert " " not in code.value


@given(st.binary(max_size=60))
def test_any_bytes_are_a_state_or_refused(junk: bytes) -> None:
    """B1, K11"""
    with pytest.raises(InvalidState):
        require_state(parse_query(b"state=" + junk + b"&state="))


def test_the_configured_issuer_is_accepted() -> None:
    """B9"""
    assert read([("code", "a"), ("iss", ISSUER)]).value == "a"


def test_a_denial_is_a_denial() -> None:
    """B4"""
    with pytest.raises(AccessDenied):
        read([("error", "access_denied")])


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
        ("\udcff", None),
    ],
)
def test_an_error_code_is_named_only_if_it_is_fit_to_be_shown(sent: str, shown: str | None) -> None:
    """B6, B7"""
    with pytest.raises(AuthorizationErrorResponse) as caught:
        read([("error", sent)])
    assert caught.value.code == shown


@pytest.mark.parametrize("error", ["temporarily_unavailable", "server_error"])
def test_a_passing_failure_of_omnifund_is_told_apart(error: str) -> None:
    with pytest.raises(OmniFundUnavailable):
        read([("error", error)])
