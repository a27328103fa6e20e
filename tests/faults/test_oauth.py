"""The token endpoint's responses, good, odd, and bad (group C)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from omnifund.authorization import (
    AuthorizationCode,
    AuthorizationRequest,
    new_code_verifier,
    new_state,
)
from omnifund.errors import (
    ClientMisconfigured,
    InvalidGrant,
    InvalidResponse,
    OmniFundError,
    OmniFundTimeout,
    OmniFundUnavailable,
)
from omnifund.events import Event
from omnifund.http import HTTPClient
from omnifund.oauth import OAuthClient
from omnifund.token import Token
from tests.faults import provider as kit
from tests.faults.provider import ScriptedProvider, every_misbehavior

TOKEN = "/oauth/v2/token"
GOOD: dict[str, Any] = {
    "access_token": kit.new_token(),
    "expires_in": 3600,
    "token_type": "bearer",
    "scope": None,
    "refresh_token": kit.new_token(),
}
SECRET = "s: % + é & = ? # / \\ \" ' end"


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as running:
        yield running


class Noted:
    """An ``on_event`` that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event, **_facts: Any) -> None:
        self.events.append(event)


NOW = 1_800_000_000


def oauth(provider: ScriptedProvider, on_event: Any = None, **times: float) -> OAuthClient:
    return OAuthClient(
        HTTPClient(provider.url, **times),  # type: ignore[arg-type]  # times only
        client_id="3_client",
        client_secret=SECRET,
        redirect_uri="http://localhost:8000/callback",
        clock=lambda: NOW,
        on_event=on_event or Noted(),
    )


def code() -> AuthorizationCode:
    request = AuthorizationRequest(new_state(), new_code_verifier(), "/", NOW)
    return AuthorizationCode("the-code", request)


def test_the_credentials_are_in_the_body_only_and_arrive_intact(
    provider: ScriptedProvider,
) -> None:
    """C1"""
    provider.on("POST", TOKEN, kit.json_answer(GOOD))
    sent = code()
    token = oauth(provider).exchange_code(sent)
    assert token.access_token == GOOD["access_token"]
    (request,) = provider.requests
    assert request.query == ()
    assert request.header("Authorization") is None
    assert request.header("Content-Type") == "application/x-www-form-urlencoded;charset=UTF-8"
    assert request.form == {
        "grant_type": "authorization_code",
        "code": "the-code",
        "redirect_uri": "http://localhost:8000/callback",
        "code_verifier": sent.request.code_verifier,
        "client_id": "3_client",
        "client_secret": SECRET,
    }


def test_the_other_grants_send_what_the_manual_says(provider: ScriptedProvider) -> None:
    """C1"""
    provider.on("POST", TOKEN, kit.json_answer(GOOD))
    oauth(provider).password("me & you", "pä ss+%")
    oauth(provider).refresh(Token("a", "r", 0, 0))
    credentials = {"client_id": "3_client", "client_secret": SECRET}
    assert [request.form for request in provider.requests] == [
        {"grant_type": "password", "username": "me & you", "password": "pä ss+%", **credentials},
        {"grant_type": "refresh_token", "refresh_token": "r", **credentials},
    ]


@pytest.mark.parametrize(("name", "answer"), list(every_misbehavior("http://localhost:1/token")))
def test_no_misbehavior_is_taken_for_a_token_and_each_request_is_sent_once(
    provider: ScriptedProvider, name: str, answer: kit.Answer
) -> None:
    """C3, C4, C5, C6, C7"""
    provider.on("POST", TOKEN, answer)
    with pytest.raises(OmniFundError) as caught:
        oauth(provider, read_timeout=2.0).exchange_code(code())
    expected = OmniFundUnavailable if name.endswith("without an answer") else InvalidResponse
    assert type(caught.value) is expected, name
    assert len(provider.received(TOKEN)) == 1
    shown = f"{caught.value!r} {caught.value.__cause__!r}"
    assert "the-code" not in shown
    assert SECRET not in shown


@pytest.mark.parametrize("status", [201, 202, 203, 206, 400, 401, 403, 404, 418])
def test_a_token_with_another_status_than_200_is_refused(
    provider: ScriptedProvider, status: int
) -> None:
    """C7"""
    provider.on("POST", TOKEN, kit.json_answer(GOOD, status))
    with pytest.raises(InvalidResponse):
        oauth(provider).exchange_code(code())


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 599])
def test_429_and_5xx_are_not_tried_again(provider: ScriptedProvider, status: int) -> None:
    """C9"""
    provider.on("POST", TOKEN, kit.json_answer(GOOD, status))
    with pytest.raises(OmniFundUnavailable):
        oauth(provider).exchange_code(code())
    assert len(provider.received(TOKEN)) == 1


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("17", 17, 17),
        (" 17 ", 17, 17),
        ("999999999", 3600, 3600),
        (formatdate(NOW + 120, usegmt=True), 120, 120),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0),
        ("soon", 5, 5),
        ("-1", 5, 5),
        (None, 5, 5),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 5, 5),
        ("Mon, 01 Jan 2030 00:00:00 +9999999999", 5, 3600),
        ("Fri, 31 Dec 9999 23:59:59 -1400", 5, 3600),
        ("Mon, 01 Jan 0001 00:00:00 +1400", 0, 5),
        ("9" * 400, 5, 3600),
        ("\xb2", 5, 5),
    ],
    ids=[
        *("seconds", "spaces", "too long", "date", "past", "word", "negative", "none"),
        *("giant year", "giant zone", "after the last year", "before the first year"),
        *("400 digits", "not ASCII"),
    ],
)
def test_retry_after_is_honored(
    provider: ScriptedProvider, header: str | None, low: int, high: int
) -> None:
    """C9, K17"""
    headers = {} if header is None else {"Retry-After": header}
    provider.on("POST", TOKEN, kit.json_answer({}, 503, headers))
    with pytest.raises(OmniFundUnavailable) as caught:
        oauth(provider).exchange_code(code())
    assert low <= caught.value.retry_after <= high


def test_a_timeout_after_sending_is_ambiguous_and_the_code_is_never_sent_again(
    provider: ScriptedProvider,
) -> None:
    """C3"""
    noted = Noted()
    provider.on("POST", TOKEN, kit.slow(kit.json_answer(GOOD), 30))
    with pytest.raises(OmniFundTimeout):
        oauth(provider, noted, read_timeout=0.3).exchange_code(code())
    assert len(provider.received(TOKEN)) == 1
    assert Event.TOKEN_AMBIGUOUS in noted.events


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        ("invalid_grant", 400, InvalidGrant),
        ("invalid_client", 400, ClientMisconfigured),
        ("invalid_client", 401, ClientMisconfigured),
        ("unauthorized_client", 400, ClientMisconfigured),
        ("unsupported_grant_type", 400, ClientMisconfigured),
        ("invalid_request", 400, ClientMisconfigured),
        ("invalid_scope", 400, ClientMisconfigured),
        ("redirect_uri_mismatch", 400, ClientMisconfigured),
        ("temporarily_unavailable", 400, OmniFundUnavailable),
        ("something_else", 400, InvalidResponse),
        ("<b>", 400, InvalidResponse),
        ("", 400, InvalidResponse),
    ],
)
def test_each_error_code_means_one_thing(
    provider: ScriptedProvider, error: str, status: int, expected: type[OmniFundError]
) -> None:
    """C8"""
    description = "<script>alert(1)</script>"
    provider.on(
        "POST", TOKEN, kit.json_answer({"error": error, "error_description": description}, status)
    )
    with pytest.raises(expected) as caught:
        oauth(provider).exchange_code(code())
    assert description not in str(caught.value)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_json_content_types_are_accepted(provider: ScriptedProvider, content_type: str) -> None:
    """C6"""
    provider.on("POST", TOKEN, kit.raw_answer(json.dumps(GOOD).encode(), 200, content_type))
    assert oauth(provider).exchange_code(code()).access_token == GOOD["access_token"]


@pytest.mark.parametrize(
    "change",
    [
        {"access_token": None},
        {"access_token": {}},
        {"access_token": "a b"},
        {"token_type": "mac"},
        {"token_type": None},
        {"expires_in": "abc"},
        {"expires_in": True},
        {"expires_in": []},
        {"scope": ["a"]},
        {"refresh_token": 7},
    ],
)
def test_a_token_that_cannot_be_used_is_refused_on_receipt(
    provider: ScriptedProvider, change: dict[str, Any]
) -> None:
    """C10, C11, C12"""
    provider.on("POST", TOKEN, kit.json_answer({**GOOD, **change}))
    with pytest.raises(InvalidResponse):
        oauth(provider).exchange_code(code())


@pytest.mark.parametrize("expires_in", ["3600", 3600, 3600.0])
def test_a_lifetime_may_be_a_string(provider: ScriptedProvider, expires_in: object) -> None:
    """C11"""
    provider.on("POST", TOKEN, kit.json_answer({**GOOD, "expires_in": expires_in}))
    token = oauth(provider).exchange_code(code())
    assert token.expires_at - token.obtained_at == 3600


def test_authlib_sends_to_the_token_endpoint_only(provider: ScriptedProvider) -> None:
    """D5: whatever URL Authlib is given, and by POST alone."""
    client = oauth(provider)._client()
    provider.on("POST", TOKEN, kit.json_answer(GOOD))
    for url in ("http://localhost:1/", f"{provider.url}/other", f"{provider.url}{TOKEN}/x"):
        client.fetch_token(url, grant_type="refresh_token", refresh_token="x")
        with pytest.raises(AttributeError):
            client.fetch_token(url, method="GET", grant_type="refresh_token", refresh_token="x")
    assert {request.path for request in provider.requests} == {TOKEN}


@pytest.mark.parametrize(
    "description",
    ["expiré", 'say "no"', "two\nlines", "back\\slash", "\u202eltr", 7, None, []],
)
def test_an_error_means_the_same_whatever_its_description(
    provider: ScriptedProvider, description: object
) -> None:
    """C8, E10: RFC 6749 §5.2 allows ASCII only, and servers are translated."""
    body = {"error": "invalid_grant", "error_description": description}
    provider.on("POST", TOKEN, kit.json_answer(body, 400))
    with pytest.raises(InvalidGrant):
        oauth(provider).refresh(Token("a", "r", 0, 0))


@pytest.mark.parametrize("repeated", [SECRET, "the refresh token", "the old access token"])
def test_no_secret_that_was_sent_is_accepted_as_a_scope(
    provider: ScriptedProvider, repeated: str
) -> None:
    """K19"""
    provider.on("POST", TOKEN, kit.json_answer({**GOOD, "scope": f"read {repeated}"}))
    with pytest.raises(InvalidResponse):
        oauth(provider).refresh(Token("the old access token", "the refresh token", 0, 0))
