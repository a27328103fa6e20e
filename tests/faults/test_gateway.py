"""The token endpoint's answers, good, odd and bad (group C)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from omnifund.attempts import Attempt
from omnifund.callback import AuthorizationCode
from omnifund.errors import (
    ClientMisconfigured,
    GrantRejected,
    InvalidResponse,
    OmniFundError,
    OmniFundTimeout,
    OmniFundUnavailable,
)
from omnifund.events import Event
from omnifund.gateway import Gateway
from omnifund.http import HTTPClient
from omnifund.token import Token
from tests.faults import provider as kit
from tests.faults.provider import ScriptedProvider, every_misbehaviour

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
    """An observer that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event, **_facts: Any) -> None:
        self.events.append(event)


def gateway(provider: ScriptedProvider, observe: Any = None, **times: float) -> Gateway:
    return Gateway(
        HTTPClient(provider.url, **times),  # type: ignore[arg-type]  # times only
        client_id="3_client",
        client_secret=SECRET,
        redirect_uri="http://localhost:8000/callback",
        clock=time.time,
        observe=observe or Noted(),
    )


def code() -> AuthorizationCode:
    return AuthorizationCode("the-code", Attempt.start("/", pkce=True, now=time.time()))


def test_the_credentials_go_in_the_body_alone_and_arrive_intact(
    provider: ScriptedProvider,
) -> None:
    """C1"""
    provider.on("POST", TOKEN, kit.json_answer(GOOD))
    sent = code()
    token = gateway(provider).redeem(sent)
    assert token.access_token == GOOD["access_token"]
    (request,) = provider.requests
    assert request.query == ()
    assert request.header("Authorization") is None
    assert request.header("Content-Type") == "application/x-www-form-urlencoded;charset=UTF-8"
    assert request.form == {
        "grant_type": "authorization_code",
        "code": "the-code",
        "redirect_uri": "http://localhost:8000/callback",
        "code_verifier": sent.attempt.code_verifier,
        "client_id": "3_client",
        "client_secret": SECRET,
    }


def test_the_other_grants_send_what_the_manual_says(provider: ScriptedProvider) -> None:
    """C1"""
    provider.on("POST", TOKEN, kit.json_answer(GOOD))
    gateway(provider).password("me & you", "pä ss+%")
    gateway(provider).refresh(Token("a", "r", 0, 0))
    credentials = {"client_id": "3_client", "client_secret": SECRET}
    assert [request.form for request in provider.requests] == [
        {"grant_type": "password", "username": "me & you", "password": "pä ss+%", **credentials},
        {"grant_type": "refresh_token", "refresh_token": "r", **credentials},
    ]


@pytest.mark.parametrize(("name", "answer"), list(every_misbehaviour("http://localhost:1/token")))
def test_no_misbehaviour_is_taken_for_a_token_and_each_is_asked_for_once(
    provider: ScriptedProvider, name: str, answer: kit.Answer
) -> None:
    """C3, C4, C5, C6, C7"""
    provider.on("POST", TOKEN, answer)
    with pytest.raises(OmniFundError) as caught:
        gateway(provider, read_timeout=2.0).redeem(code())
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
        gateway(provider).redeem(code())


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 599])
def test_429_and_5xx_are_not_tried_again(provider: ScriptedProvider, status: int) -> None:
    """C9"""
    provider.on("POST", TOKEN, kit.json_answer(GOOD, status))
    with pytest.raises(OmniFundUnavailable):
        gateway(provider).redeem(code())
    assert len(provider.received(TOKEN)) == 1


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("17", 17, 17),
        (" 17 ", 17, 17),
        ("999999999", 3600, 3600),
        (formatdate(time.time() + 120, usegmt=True), 60, 120),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0),
        ("soon", 5, 5),
        ("-1", 5, 5),
        (None, 5, 5),
    ],
    # The date's own text would be another one in each process that runs tests.
    ids=["seconds", "spaces", "too long", "date", "past", "word", "negative", "none"],
)
def test_retry_after_is_honoured(
    provider: ScriptedProvider, header: str | None, low: int, high: int
) -> None:
    """C9"""
    headers = {} if header is None else {"Retry-After": header}
    provider.on("POST", TOKEN, kit.json_answer({}, 503, headers))
    with pytest.raises(OmniFundUnavailable) as caught:
        gateway(provider).redeem(code())
    assert low <= caught.value.retry_after <= high


def test_a_time_out_after_sending_is_ambiguous_and_never_sent_again(
    provider: ScriptedProvider,
) -> None:
    """C3"""
    noted = Noted()
    provider.on("POST", TOKEN, kit.slow(kit.json_answer(GOOD), 30))
    with pytest.raises(OmniFundTimeout):
        gateway(provider, noted, read_timeout=0.3).redeem(code())
    assert len(provider.received(TOKEN)) == 1
    assert Event.TOKEN_AMBIGUOUS in noted.events


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        ("invalid_grant", 400, GrantRejected),
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
        gateway(provider).redeem(code())
    assert description not in str(caught.value)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_json_content_types_are_accepted(provider: ScriptedProvider, content_type: str) -> None:
    """C6"""
    import json

    provider.on("POST", TOKEN, kit.raw_answer(json.dumps(GOOD).encode(), 200, content_type))
    assert gateway(provider).redeem(code()).access_token == GOOD["access_token"]


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
        gateway(provider).redeem(code())


@pytest.mark.parametrize("expires_in", ["3600", 3600, 3600.0])
def test_a_lifetime_may_be_a_text(provider: ScriptedProvider, expires_in: object) -> None:
    """C11"""
    provider.on("POST", TOKEN, kit.json_answer({**GOOD, "expires_in": expires_in}))
    token = gateway(provider).redeem(code())
    assert token.expires_at - token.obtained_at == 3600


def test_authlib_talks_to_the_token_endpoint_only(provider: ScriptedProvider) -> None:
    """D5"""
    client = gateway(provider)._client()
    for url in ("http://localhost:1/", f"{provider.url}/other", f"{provider.url}{TOKEN}/x"):
        with pytest.raises(ValueError, match="token endpoint"):
            client.fetch_token(url, grant_type="refresh_token", refresh_token="x")
        with pytest.raises(AttributeError):
            client.fetch_token(url, method="GET", grant_type="refresh_token", refresh_token="x")
    assert provider.requests == []
