"""The naive client beside this app: what each failure does to both, judged by what happened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from demo import versus, wire
from demo.failures import CARDS
from demo.recorder import ROOT
from demo.scenarios import SCENARIOS, TABS
from demo.versus import FAULTS
from demo.wire import Wire
from local_omnifund.misbehavior import SILENT_SECONDS
from tests.support.browsing import Page, csrf_token_of
from tests.support.logs import printed
from tests.support.merchant import Merchant
from tests.support.slow_refresh import SlowRefresh
from tests.support.stack import Stack, app_settings, running_stack
from tests.teaching.test_optional import run


class Half(NamedTuple):
    """What the page says of one client."""

    holds: bool
    says: str
    messages: list[str]
    differing: list[str]


# What each client says of itself, word for word but for times.
EXPECTED = {
    "forged_callback": (
        "Your browser is signed in with the attacker's code.",
        "Your browser is not signed in.",
    ),
    "replayed_callback": (
        "The code was sent twice. The second visit ended in page 500, “Internal Server Error”. "
        "Not handled: OAuthError: invalid_grant.",
        "The code was sent once. The second visit ended in a redirect to /dashboard.",
    ),
    "denied": (
        "You read page 400, “Bad Request”.",
        "You read page 403, “You denied access”.",
    ),
    "open_redirect": (
        "After the sign-in your browser is sent to attacker.example.",
        "After the sign-in your browser is sent to /dashboard.",
    ),
    "five_tabs": (
        "1 of 5 tabs show customers. The refresh token was sent 5 times. "
        "Not handled: OAuthError: invalid_grant.",
        "5 of 5 tabs show customers. The refresh token was sent once.",
    ),
    "silence": (
        "You wait … for page 500, “Internal Server Error”. Not handled: HTTPError.",
        "You wait … for page 504, “OmniFund took too long to respond”.",
    ),
    "html": (
        "You read page 500, “Internal Server Error”. Not handled: ValueError.",
        "You read page 502, “OmniFund sent an invalid response”.",
    ),
    "forbidden": (
        "You read page 500, “Internal Server Error”. Not handled: HTTPError.",
        "You read page 403, “You don't have permission to view this”.",
    ),
}

TIMEOUT, PACE = 2.0, 0.2
"""Where OmniFund is silent: this app's seconds, of the four that the silence takes at that pace."""

# The messages that give each of them away.
TELLTALE = {
    "forged_callback": ("Client to OmniFund: POST code", "Client to Browser: 400 page"),
    "replayed_callback": ("OmniFund to Client: 400 invalid_grant", "Client to Browser: 303 to "),
    "denied": ("Client to Browser: 400 page", "Client to Browser: 403 page"),
    "open_redirect": ("Client to Browser: 302 to attacker.example", "Client to Browser: 303 to /"),
    "five_tabs": ("Client to OmniFund: 5 × POST refresh token", "Client to OmniFund: POST refresh"),
    "silence": ("OmniFund to Client: 504 HTML", "OmniFund to Client: no response"),
    "html": ("Client to Browser: 500 page", "Client to Browser: 502 page"),
    "forbidden": ("Client to Browser: 500 page", "Client to Browser: 403 page"),
}


@pytest.fixture
def stack(
    redis_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stack]:
    SlowRefresh(monkeypatch).race(TABS)
    # On a busy machine another response may take as long, so only this failure is timed.
    is_silent = "fault" in request.fixturenames and request.getfixturevalue("fault") == "silence"
    timeout = {"omnifund_read_timeout": TIMEOUT} if is_silent else {}
    with running_stack(redis_url, fault_pace=PACE if is_silent else 0.1, **timeout) as running:
        yield running


@pytest.fixture
def merchant(stack: Stack) -> Merchant:
    merchant = Merchant(stack)
    merchant.sign_in()
    return merchant


def halves(page: Page) -> list[Half]:
    """What a result says of the naive client and of this app."""
    assert page.status_code == 200, page
    found = []
    for part in page.text.split('<section class="card verdict ')[1:]:
        text = part.split("</section>")[0].replace("\N{NO-BREAK SPACE}", " ")
        said = re.search(r'<p class="says">(.*?)</p>', text, re.DOTALL)
        assert said is not None
        items = re.findall(r"<li( class=\"differs\")?>(.*?)</li>", text)
        messages = [(bool(mark), _plain(item).removesuffix(" differs")) for mark, item in items]
        found.append(
            Half(
                text.startswith("good"),
                _plain(said[1]),
                [message for _, message in messages],
                [message for differs, message in messages if differs],
            )
        )
    return found


def _plain(text: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", text)).strip()


def compare(merchant: Merchant, fault: str) -> Page:
    """Press a failure's button."""
    return merchant.press("/lab/naive", f"/lab/naive/{fault}")


@pytest.mark.parametrize("fault", FAULTS)
def test_the_naive_client_goes_wrong_where_this_app_holds(merchant: Merchant, fault: str) -> None:
    """L23: both really went through it, against the real Local OmniFund."""
    naive, ours = halves(compare(merchant, fault))
    assert (naive.holds, ours.holds) == (False, True)
    said = [re.sub(r"wait [\d.]+ m?s", "wait …", half.says) for half in (naive, ours)]
    assert said == list(EXPECTED[fault])
    for half, telltale in zip((naive, ours), TELLTALE[fault], strict=True):
        assert any(message.startswith(telltale) for message in half.differing), half


@pytest.mark.parametrize("fault", FAULTS)
def test_a_client_that_does_it_right_is_said_to_hold(
    stack: Stack, merchant: Merchant, fault: str
) -> None:
    """L23: the verdict is about what happened, not about who is asked."""
    stack.app.extensions["naive_client"] = stack.app
    stand_in, ours = halves(compare(merchant, fault))
    assert (stand_in.holds, ours.holds) == (True, True)
    assert stand_in.differing == ours.differing == []
    assert stand_in.messages == ours.messages


@pytest.mark.parametrize("fault", ["silence"])
def test_a_silent_omnifund_costs_the_naive_client_more_time(merchant: Merchant, fault: str) -> None:
    """L23: it waits as long as the server likes; this app until its timeout."""
    naive, ours = halves(compare(merchant, fault))
    waited = [float(re.findall(r"wait ([\d.]+) s", half.says)[0]) for half in (naive, ours)]
    assert waited[0] >= SILENT_SECONDS * PACE - 0.1
    assert TIMEOUT - 0.1 <= waited[1] < waited[0]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_both_pieces_of_code_are_shown_as_they_run(merchant: Merchant, fault: versus.Fault) -> None:
    """L23: from the files, with the deciding line marked."""
    page = compare(merchant, fault.id).text
    marked = re.findall(r'<span class="line here">.*?</span>(.*?)\n</span>', page)
    assert len(marked) == 2
    places = ((versus.NAIVE_FILE, fault.naive[1]), (fault.ours[0], fault.ours[2]))
    for line, (file, snippet) in zip(marked, places, strict=True):
        assert snippet in unescape(line)
        assert unescape(line) in (ROOT / file).read_text()


def test_every_failure_has_a_scenario_and_can_be_started(merchant: Merchant) -> None:
    """L23"""
    assert set(FAULTS) == set(SCENARIOS) == set(EXPECTED)
    page = merchant.get("/lab/naive").text
    assert re.findall(r'action="/lab/naive/(\w+)"', page) == list(FAULTS)
    assert 'href="/lab/naive"' in merchant.get("/lab").text
    token = {"csrf_token": merchant.csrf_token()}
    assert merchant.post("/lab/naive/no-such-failure", token).status_code == 404


def test_a_card_leads_to_the_comparison_of_the_same_failure(merchant: Merchant) -> None:
    """L23"""
    linked = {fault.card: fault.id for fault in FAULTS.values() if fault.card}
    assert set(linked) < set(CARDS)
    for card in CARDS:
        found = re.findall(r'href="/lab/naive#(\w+)"', merchant.get(f"/lab/{card}").text)
        assert found == ([linked[card]] if card in linked else [])


# --- what it may not do --------------------------------------------------------------------------


def test_the_visitors_session_and_cookies_are_left_alone(merchant: Merchant) -> None:
    """L23: the lab's browsers have cookies of their own, and their sessions end with the page."""
    merchant.get("/")  # which deletes a cookie about the sign-in
    before, keys = merchant.stored, _sessions(merchant)
    cookies = dict(merchant.cookies)
    for fault in FAULTS:
        page = compare(merchant, fault)
        assert "naive_session" not in str(page.headers)
    assert merchant.stored == before
    assert dict(merchant.cookies) == cookies
    assert _sessions(merchant) == keys


def test_nothing_of_the_naive_client_is_in_redis(stack: Stack, merchant: Merchant) -> None:
    """L23: every key that it leaves is Local OmniFund's or one of this app's own kinds."""
    compare(merchant, "forged_callback")
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        names = {re.split(r":[{A-Za-z0-9_-]", name)[0] for name in client.scan_iter()}
    assert names <= {"local_omnifund", "omnifund"}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_is_left_enabled(stack: Stack, merchant: Merchant, fault: str) -> None:
    """The page of the faults filled with those of sign-ins that are over."""
    compare(merchant, fault)
    assert merchant.get(f"{stack.omnifund_url}/faults.json").json()["armed"] == []


@pytest.mark.parametrize("fault", FAULTS)
def test_no_secret_is_on_the_page_or_in_the_log(
    merchant: Merchant, fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """L23 and G5: codes, tokens, the state, and the client secret of both clients."""
    secrets: set[str] = {merchant.at.settings.omnifund_client_secret.get_secret_value()}
    secrets |= {merchant.stored.token.access_token, str(merchant.stored.token.refresh_token)}
    heard: list[str] = []
    real_sent, real_received = wire.sent, wire.received

    def sent(method: str, url: str, body: object) -> None:
        heard.append(body.decode() if isinstance(body, bytes) else str(body))
        real_sent(method, url, body)

    def received(status: int, body: bytes) -> None:
        heard.append(body.decode())
        real_received(status, body)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "sent", sent)
        patch.setattr(wire, "received", received)
        page = compare(merchant, fault)
    secrets |= set(re.findall(r"[A-Za-z0-9_-]{32,}", "\n".join(heard)))
    shown = _without_csrf(page.text) + printed(capfd)
    assert not [secret for secret in secrets if secret in shown]


def test_the_button_wants_the_forms_token_and_a_sign_in(stack: Stack, merchant: Merchant) -> None:
    """L23 and G1"""
    assert merchant.post("/lab/naive/denied").status_code == 400
    stranger = Merchant(stack)
    assert "Sign in first" in stranger.get("/lab/naive").text
    token = {"csrf_token": csrf_token_of(stranger.get("/lab").text)}
    assert stranger.post("/lab/naive/denied", token).headers["Location"].startswith("/login")


def test_the_naive_client_has_no_address(stack: Stack, merchant: Merchant) -> None:
    """L23: its pages are none of this app's, and its callback is the app's own."""
    rules = {rule.rule for rule in stack.app.url_map.iter_rules() if "naive" in rule.rule}
    assert rules == {"/lab/naive", "/lab/naive/<fault_id>"}
    for path in ("/lab/naive/login", "/lab/naive/callback?code=x", "/lab/naive/customers"):
        assert merchant.get(path).status_code in (404, 405)


# --- where it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize("inspector", ["on", "off"])
@pytest.mark.parametrize("environment", ["sandbox", "production"])
@pytest.mark.parametrize("base_url", ["", "https://localhost:9000"])
def test_outside_local_nothing_of_it_can_be_switched_on(
    tmp_path: Path, redis_url: str, environment: str, inspector: str, base_url: str
) -> None:
    """L23: no route, no module, and not even the library that it needs, whatever is switched on."""
    found = run(
        tmp_path,
        redis_url,
        FLOW_INSPECTOR=inspector,
        PASSWORD_GRANT="on",
        OMNIFUND_ENVIRONMENT=environment,
        OMNIFUND_BASE_URL=base_url,
    )
    assert found["/lab/naive"] == "404"
    assert not re.search("naive|versus|scenarios", found["imported:"] + found["rules:"])
    assert found["Authlib's Flask client:"] == "False"


def test_another_local_omnifund_than_the_emulator_has_none(redis_url: str) -> None:
    """L23"""
    settings = app_settings(redis_url, omnifund_base_url="http://omnifund.example:9000")
    from app import create_app

    app = create_app(settings)
    assert not [rule for rule in app.url_map.iter_rules() if "naive" in rule.rule]
    assert "naive_client" not in app.extensions


def test_without_its_library_the_lab_is_there_and_does_not_mention_it(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L23: what serves merchants does not have it (requirements.txt)."""
    monkeypatch.setattr("demo.find_spec", lambda _name: None)
    with running_stack(redis_url) as stack:
        merchant = Merchant(stack)
        assert "/lab/naive" not in merchant.get("/lab").text
        assert merchant.get("/lab/naive").status_code == 404


# --- the wire ------------------------------------------------------------------------------------


def test_the_wire_writes_down_kinds_and_no_values() -> None:
    """L23"""
    heard = Wire()
    wire.sent("POST", "/oauth/v2/token", b"grant_type=refresh_token&refresh_token=secret")
    with wire.listening(heard):
        wire.sent("POST", "/oauth/v2/token", b"grant_type=refresh_token&refresh_token=secret")
        wire.received(200, b'{"access_token": "secret"}')
        wire.received(400, b'{"error": "secret"}')
        wire.received(200, b"[1]")
        wire.received(500, b"secret")
        wire.gave_up()
    wire.gave_up()
    labels = ["POST refresh token", "200 tokens", "400", "200", "500", "no response"]
    assert [each.label for each in heard.said] == labels


def _sessions(merchant: Merchant) -> set[str]:
    with redis.Redis.from_url(merchant.at.redis_url, decode_responses=True) as client:
        return {str(name) for name in client.keys("omnifund:{*")}


def _without_csrf(page: str) -> str:
    return re.sub(r'name="csrf_token" value="[^"]*"', "", page)
