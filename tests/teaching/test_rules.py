"""The checks that the inspector shows are what the code did."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from urllib.parse import urlsplit

import pytest
import requests
from werkzeug.test import Client

from demo import rules
from tests.faults.provider import Answer, json_answer, raw_answer
from tests.support.browsing import csrf_token_of
from tests.support.merchant import Merchant
from tests.support.rig import Rig, rig
from tests.teaching.recordings import checks, exchange_of, recordings, steps


@pytest.fixture
def running(redis_url: str) -> Iterator[Rig]:
    with rig(redis_url) as app:
        yield app


@pytest.mark.parametrize("name", rules.RULES)
def test_every_listed_function_states_its_rule_and_the_clause(name: str) -> None:
    rule = rules.describe(rules.RULES[name])
    assert rule.text
    assert rule.clause.startswith("RFC ")


def test_a_function_without_a_rule_is_not_taken_for_one() -> None:
    with pytest.raises(ValueError, match="no rule"):
        rules.describe(rules.name_of)


def calls_of(action: Callable[[], object]) -> set[CodeType]:
    """Return the functions that this thread calls in ``action``."""
    called: set[CodeType] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            called.add(frame.f_code)

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return called


def test_every_listed_function_is_called_in_its_step(running: Rig) -> None:
    """So the table cannot list a check that the code no longer makes."""
    client: Client = running.app.test_client()

    def sign_in() -> str:
        started = client.get("/login").headers["Location"]
        approved = requests.get(started, allow_redirects=False, timeout=10).headers["Location"]
        callback = f"/callback?{urlsplit(approved).query}"
        assert client.get(callback).status_code == 303
        return callback

    def post(path: str, **fields: str) -> None:
        token = csrf_token_of(client.get("/login/password").text)
        assert client.post(path, data={"csrf_token": token, **fields}).status_code == 303

    called = {
        "password": calls_of(lambda: post("/login/password", username="ada", password="right")),
        "refresh_token": calls_of(lambda: post("/token/refresh")),
        "api": calls_of(lambda: client.get("/customers")),
        "callback": calls_of(sign_in),
    }
    callback = sign_in()
    called["repeated_callback"] = calls_of(lambda: client.get(callback))
    called["login"] = called["authorization_code"] = called["callback"]
    called["password_grant"] = called["password"]
    missing = {
        f"{step}: {function.__qualname__}"
        for step, functions in rules.STEPS.items()
        for function in functions
        if rules.name_of(function) in rules.RULES and function.__code__ not in called[step]
    }
    assert missing == set()


# --- what a failure shows ------------------------------------------------------------------------


def test_a_forged_state_is_refused_and_nothing_after_it_is_reached(merchant: Merchant) -> None:
    merchant.get(f"/callback?code=x&state={'s' * 43}")
    (callback,) = recordings(merchant)[0]["exchanges"]
    assert checks(callback) == ["require_state"]
    assert checks(callback, "refused") == ["require_own_request"]
    assert checks(callback, "not reached")[-2:] == ["claim", "start"]
    assert callback["problem"].startswith("InvalidState")


def test_a_sign_in_that_took_too_long_is_shown_from_its_start(merchant: Merchant) -> None:
    callback_url = merchant.authorize()
    merchant.at.clock.advance(601)
    merchant.get(callback_url)
    recording = recordings(merchant)[0]
    assert steps(recording) == ["login", "authorize", "callback"]
    assert checks(recording["exchanges"][2], "refused") == ["require_recent"]


def test_a_denial_uses_the_authorization_request_up(merchant: Merchant) -> None:
    merchant.get(merchant.authorize(button="rejected"))
    callback = exchange_of(recordings(merchant)[0], "callback")
    assert checks(callback, "refused") == ["require_code"]
    assert checks(callback)[-1] == "claim"
    assert checks(callback, "not reached") == ["start"]


def test_a_callback_that_has_failed_before_cannot_be_claimed_again(merchant: Merchant) -> None:
    callback_url = merchant.authorize(button="rejected")
    merchant.get(callback_url)
    merchant.get(callback_url)
    callback = exchange_of(recordings(merchant)[0], "callback")
    assert checks(callback, "refused") == ["claim"]
    assert "require_code" in checks(callback)


def test_an_issuer_is_checked_where_there_is_one(merchant: Merchant) -> None:
    callback_url = merchant.authorize()
    merchant.get(f"{callback_url}&iss=https://elsewhere.example")
    callback = exchange_of(recordings(merchant)[0], "callback")
    assert checks(callback, "refused") == ["require_issuer"]
    assert checks(callback, "not reached") == ["require_code", "start"]


def test_a_repeated_callback_shows_that_the_code_was_not_sent(merchant: Merchant) -> None:
    callback_url = merchant.authorize()
    merchant.get(callback_url)
    merchant.get(callback_url)
    recording = recordings(merchant)[0]
    assert steps(recording) == ["login", "authorize", "repeated_callback"]
    assert checks(recording["exchanges"][2])[-1] == "_repeated"


TOKEN = {"access_token": "a" * 40, "refresh_token": "r" * 40, "token_type": "bearer"}
NO_TOKEN_RULES = ["require_bearer_type", "require_access_token", "read_refresh_token"]


@pytest.mark.parametrize(
    ("answer", "refused", "last_passed", "next_one"),
    [
        (
            json_answer({"error": "invalid_grant"}, 400),
            [],
            "require_consistent_status",
            "require_bearer_type",
        ),
        (json_answer({}, 503), ["raise_if_unavailable"], "receive_response", "read_json_object"),
        (
            raw_answer(b"<h1>", 200, "text/html"),
            ["read_json_object"],
            "raise_if_unavailable",
            "require_consistent_status",
        ),
        (
            json_answer(TOKEN, 201),
            ["require_consistent_status"],
            "read_json_object",
            "require_bearer_type",
        ),
        (
            json_answer({**TOKEN, "token_type": "mac"}),
            ["require_bearer_type"],
            "require_consistent_status",
            "require_access_token",
        ),
        (
            json_answer({**TOKEN, "access_token": "a b"}),
            ["require_access_token"],
            "require_bearer_type",
            "read_refresh_token",
        ),
        (
            json_answer({**TOKEN, "expires_in": True}),
            ["read_lifetime"],
            "read_refresh_token",
            "read_scope",
        ),
        (json_answer({**TOKEN, "scope": 1}), ["read_scope"], "read_lifetime", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_exchange_shows_how_far_it_got(
    running: Rig, answer: Answer, refused: list[str], last_passed: str, next_one: str | None
) -> None:
    running.provider.next_token_answer(answer)
    merchant = Merchant(running)
    assert merchant.sign_in().status_code >= 400
    recording = recordings(merchant)[0]
    exchange = exchange_of(recording, "authorization_code")
    assert checks(exchange, "refused") == refused
    assert checks(exchange)[-1] == last_passed
    assert checks(exchange, "not reached")[:1] == ([next_one] if next_one else [])
    assert exchange["problem"] == recording["problem"]
    callback = exchange_of(recording, "callback")
    assert checks(callback)[-1] == "claim"
    assert checks(callback, "not reached") == ["start"]
    assert callback["problem"] == ""


def test_a_wrong_password_is_an_error_response_that_was_read_completely(running: Rig) -> None:
    merchant = Merchant(running)
    token = csrf_token_of(merchant.get("/login/password").text)
    form = {"csrf_token": token, "username": "ada", "password": "wrong"}
    url = f"{running.url}/login/password"
    assert merchant.post(url, form, timeout=10).status_code == 401
    recording = recordings(merchant)[0]
    assert recording["problem"].startswith("InvalidGrant")
    exchange = exchange_of(recording, "password_grant")
    assert checks(exchange)[-1] == "require_consistent_status"
    assert checks(exchange, "not reached")[: len(NO_TOKEN_RULES)] == NO_TOKEN_RULES


def test_a_refused_access_token_shows_that_its_response_was_not_used(running: Rig) -> None:
    merchant = running.merchant()
    running.provider.revoke_access_tokens()
    assert merchant.get("/customers").status_code == 200
    recording = recordings(merchant)[0]
    assert steps(recording) == ["page", "api", "refresh_token", "api"]
    first, last = recording["exchanges"][1], recording["exchanges"][3]
    assert "require_success" in checks(first, "not reached")
    assert "require_success" in checks(last)
    assert recording["problem"] == ""


def test_an_api_error_is_refused_by_its_rule(running: Rig) -> None:
    merchant = running.merchant()
    running.provider.next_api_answer(json_answer({}, 403))
    merchant.get("/customers")
    recording = recordings(merchant)[0]
    assert recording["problem"].startswith("AccessForbidden")
    assert checks(recording["exchanges"][1], "refused") == ["require_success"]


def test_an_ended_connection_shows_that_nothing_was_replaced(running: Rig) -> None:
    merchant = running.merchant()
    running.provider.revoke_access_tokens()
    running.provider.revoke_refresh_tokens()
    assert merchant.get("/customers").status_code == 302
    recording = recordings(merchant)[0]
    assert recording["problem"].startswith("ConnectionEnded")
    refresh = exchange_of(recording, "refresh_token")
    assert refresh["problem"].startswith("InvalidGrant")
    assert checks(refresh)[-1] == "require_consistent_status"
    assert checks(refresh, "not reached")[-1] == "replace"


def test_a_failed_refresh_that_costs_no_page_is_shown_beside_the_page(running: Rig) -> None:
    merchant = running.merchant()
    running.clock.advance(3550)  # less than the leeway before the token expires
    running.provider.next_token_answer(raw_answer(b"<h1>", 200, "text/html"))
    assert merchant.get("/customers").status_code == 200
    recording = recordings(merchant)[0]
    assert recording["problem"] == ""
    refresh = exchange_of(recording, "refresh_token")
    assert refresh["problem"].startswith("InvalidResponse")
    assert checks(refresh, "refused") == ["read_json_object"]
    assert recording["changed"] == {}


def test_a_refresh_whose_tokens_came_too_late_is_not_said_to_have_replaced_any(
    running: Rig,
) -> None:
    merchant = running.merchant()
    other = running.merchant()
    running.clock.advance(3600)

    def sign_out(request: object, wire: object) -> bool:
        # The session ends while its refresh is under way.
        running.app.extensions["omnifund"].disconnect(merchant.session_id)
        return json_answer({**TOKEN, "expires_in": 60})(request, wire)  # type: ignore[arg-type]  # passed on as they come

    running.provider.next_token_answer(sign_out)
    assert merchant.get("/customers").status_code == 302
    recording = recordings(merchant)[0]
    assert checks(exchange_of(recording, "refresh_token"), "refused") == ["replace"]
    assert other.get("/customers").status_code == 200


def test_a_refresh_that_returns_one_token_only_shows_that_the_other_was_kept(
    running: Rig,
) -> None:
    merchant = running.merchant()
    running.provider.next_token_answer(
        json_answer({"access_token": "a" * 40, "token_type": "bearer"})
    )
    assert merchant.post_form("/token/refresh").status_code == 303
    changed = recordings(merchant)[0]["changed"]
    assert changed["access_token"][0] != changed["access_token"][1]
    assert changed["refresh_token"][0] == changed["refresh_token"][1]
    shown = recordings(merchant)[0]["id"]
    assert "OmniFund reused it" in merchant.get(f"/inspector?show={shown}").text


def test_the_page_tells_refused_from_not_reached(merchant: Merchant) -> None:
    merchant.get(merchant.authorize(button="rejected"))
    page = merchant.get("/inspector").text
    assert "<strong>Refused:</strong> OmniFund returned a code and no error" in page
    assert "<strong>Not reached:</strong> The session ID is new" in page
    # The function that refused is shown without a click.
    assert "def require_code(" in page


def test_a_callback_without_state_has_no_start(merchant: Merchant) -> None:
    merchant.get("/callback?code=x")
    (callback,) = recordings(merchant)[0]["exchanges"]
    assert checks(callback, "refused") == ["require_state"]
