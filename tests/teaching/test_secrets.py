"""No recording shows a secret, wherever a server puts it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from demo import hooks
from demo.masking import HIDDEN, Masker
from demo.recorder import Recorder
from tests.faults.provider import json_answer, new_token, raw_answer
from tests.support.logs import printed
from tests.support.merchant import Merchant
from tests.support.rig import Rig, rig
from tests.teaching.recordings import recordings, steps

SECRET = new_token()

# Where a server can put a secret: headers and body of a response.
PLACES = {
    "Location's path": ({"Location": f"https://elsewhere.example/{SECRET}/x"}, {}),
    "Location's query": ({"Location": f"/x?scope={SECRET}&error={SECRET}"}, {}),
    "Location's host": ({"Location": f"https://{SECRET[:60]}.example/"}, {}),
    "Content-Type": ({"Content-Type": f"application/json; x={SECRET}"}, {}),
    "WWW-Authenticate": ({"WWW-Authenticate": f'Bearer error="{SECRET}"'}, {}),
    "Retry-After": ({"Retry-After": SECRET}, {}),
    "Set-Cookie": ({"Set-Cookie": f"a={SECRET}; Path=/{SECRET}"}, {}),
    "scope": ({}, {"scope": f"read {SECRET}"}),
    "error": ({}, {"error": SECRET}),
    "error_description": ({}, {"error_description": f"bad {SECRET}"}),
    "token_type": ({}, {"token_type": SECRET}),
    "@context": ({}, {"@context": f"/api/contexts/{SECRET}"}),
    "@id, percent-encoded": ({}, {"@id": f"/api/{quote(SECRET[:40])}%2f{quote(SECRET[40:])}"}),
    "client_id": ({}, {"client_id": SECRET}),
    "a member's name": ({}, {SECRET: "x"}),
}


@pytest.fixture
def running(redis_url: str) -> Iterator[Rig]:
    with rig(redis_url) as app:
        yield app


def shown(merchant: Merchant) -> str:
    """Everything that the inspector shows and downloads."""
    found = recordings(merchant)
    pages = [merchant.get(f"/inspector?show={each['id']}").text for each in found]
    return "\n".join([json.dumps(found), *pages])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("is_known_before", [True, False])
def test_a_secret_in_an_unexpected_place_is_masked(
    running: Rig, place: str, is_known_before: bool
) -> None:
    """K19: before the server has issued the token as well as after."""
    headers, members = PLACES[place]
    token = {"access_token": SECRET, "token_type": "bearer", "refresh_token": new_token()}
    merchant = running.merchant()
    odd = raw_answer(
        # The token comes last: what repeats it comes before it is known.
        json.dumps({**members, **({} if is_known_before else token)}).encode(),
        400 if is_known_before else 200,
        None if "Content-Type" in headers else "application/json",
        headers,
    )
    if is_known_before:
        running.provider.next_token_answer(json_answer(token))
        assert merchant.post_form("/token/refresh").status_code == 303
        running.provider.next_api_answer(odd)
        merchant.get("/customers")
    else:
        running.provider.next_token_answer(odd)
        merchant.post_form("/token/refresh")
    assert {"api", "refresh_token"} & set(steps(recordings(merchant)[0]))
    # Not even a part of it that would be worth trying.
    parts = "|".join(SECRET[at : at + 20] for at in range(len(SECRET) - 20))
    assert not re.search(parts, shown(merchant))


def test_a_client_secret_is_masked_in_the_response_to_a_request_without_it(running: Rig) -> None:
    """K19"""
    merchant = running.merchant()
    secret = running.settings.omnifund_client_secret.get_secret_value()
    running.provider.next_api_answer(json_answer({"error": secret, "@type": secret[:24]}, 400))
    merchant.get("/customers")
    assert secret not in shown(merchant)


def test_a_secret_in_a_callbacks_error_is_masked_in_what_went_wrong(running: Rig) -> None:
    """K19"""
    merchant = Merchant(running)
    callback = merchant.authorize().partition("&code=")[0]
    merchant.get(f"{callback}&error={SECRET[:60]}")
    recording = recordings(merchant)[0]
    assert recording["problem"].startswith("AuthorizationErrorResponse: ")
    assert SECRET[:20] not in shown(merchant)


@pytest.mark.parametrize("location", ["http://[", "//[", "http://x:y/?a=b", "\x80", "?" * 3000])
def test_a_location_that_is_no_url_breaks_no_page(running: Rig, location: str) -> None:
    """K17"""
    merchant = running.merchant()
    running.provider.next_api_answer(raw_answer(b"", 302, None, {"Location": location}))
    assert merchant.get("/customers").status_code == 502
    assert steps(recordings(merchant)[0]) == ["page", "api"]
    running.provider.next_token_answer(raw_answer(b"", 302, None, {"Location": location}))
    assert Merchant(running).sign_in().status_code == 502


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "\\ud800", "\\ud800": "\\udfff"}',
        b'{"expires_in": 1e400}',
        b'{"a": 1' + b"0" * 400 + b"}",
    ],
    ids=["half a surrogate pair", "infinity", "401 digits"],
)
def test_an_odd_body_breaks_no_page(running: Rig, body: bytes) -> None:
    """K17"""
    merchant = running.merchant()
    running.provider.next_api_answer(raw_answer(body))
    assert merchant.get("/customers").status_code in (200, 502)
    assert steps(recordings(merchant)[0]) == ["page", "api"]


@pytest.mark.parametrize("place", ["_begin", "add", "responded", "finish", "failed", "refreshed"])
@pytest.mark.filterwarnings("ignore:the demo's recorder failed")
def test_a_failure_of_the_recorder_breaks_no_page_and_is_logged(
    running: Rig, place: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """K17"""

    def fail(*_arguments: object, **_named: object) -> None:
        raise LookupError("made up")

    if place == "_begin":
        monkeypatch.setattr(hooks, "own_cookies", fail)
    else:
        monkeypatch.setattr(Recorder, place, fail)
    merchant = running.merchant()
    assert merchant.get("/customers").status_code == 200
    assert merchant.post_form("/token/refresh").status_code == 303
    assert merchant.post_form("/logout").status_code == 303
    running.provider.next_token_answer(json_answer({}, 503))
    assert Merchant(running).sign_in().status_code == 503
    assert "demo:recording:failed" in printed(capfd)


def test_a_failure_of_the_recorder_is_an_error_in_the_tests(
    running: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Masker, "body", None)
    merchant = Merchant(running)
    assert merchant.sign_in().status_code == 500


def test_a_short_word_of_a_request_hides_no_text() -> None:
    masker = Masker("key")
    masker.mark("er")
    assert masker.fields([("error", "server_error")]) == {"error": "server_error"}
    masker.mark("server")
    assert masker.fields([("error", "server_error")]) == {"error": HIDDEN}
