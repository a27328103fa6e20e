"""What the lab remembers of a visitor: which cards have run, and what really happened."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from demo import progress
from demo.failures import CARDS, FIRST_FIVE, after
from demo.progress import Run, Sent
from local_omnifund.misbehavior import SLOW_SECONDS
from tests.support.browsing import PASSWORD, USERNAME, Page
from tests.support.merchant import Merchant
from tests.support.stack import Stack, running_stack
from tests.teaching.recordings import recordings
from tools.demo import PAUSE_SECONDS

GAP = "\N{NO-BREAK SPACE}"


def run(merchant: Merchant, card: str) -> None:
    """Press a card's button, and open what it leads to until a page comes."""
    finish(merchant, merchant.press("/lab", f"/lab/{card}"))


def finish(merchant: Merchant, answer: Page) -> None:
    """Open what a response leads to until a page comes."""
    while answer.is_redirect:
        location = answer.headers["Location"]
        if "/oauth/v2/auth" in location:
            location = merchant.authorize_at(location)
        answer = merchant.get(location)


def evidence(merchant: Merchant, card: str) -> str:
    """The words in a card's row about what happened, or nothing."""
    row = row_of(merchant, card)
    found = re.search(r"<p>(Seen .*?)</p>", row, re.DOTALL)
    return re.sub(r"<a.*</a>|<[^>]+>", "", found[1]).strip() if found else ""


def row_of(merchant: Merchant, card: str) -> str:
    """The HTML of a card's row."""
    page = merchant.get("/lab").text.replace("\N{NO-BREAK SPACE}", " ")
    return page.split(f'id="{card}"')[1].split("</li>")[0]


# --- the checklist -------------------------------------------------------------------------------


def test_the_lab_counts_what_this_visitor_has_seen(stack: Stack) -> None:
    """L10: without scripts, in a cookie of the browser's; another visitor's list is empty."""
    merchant, other = Merchant(stack), Merchant(stack)
    assert "<b>0 of 23</b>" in merchant.get("/lab").text
    for card in ("state_tampered", "deny", "deny"):
        run(merchant, card)
    page = merchant.get("/lab").text
    assert "<b>2 of 23</b>" in page
    assert re.findall(r'class="check seen" id="(\w+)"', page) == ["deny", "state_tampered"]
    assert "<b>0 of 23</b>" in other.get("/lab").text


def test_a_card_that_was_armed_but_did_not_happen_is_not_seen(merchant: Merchant) -> None:
    """L10"""
    merchant.press("/lab", "/lab/deny")  # and the visitor turns back at OmniFund
    assert "<b>0 of 23</b>" in merchant.get("/lab").text
    merchant.sign_in()
    merchant.press("/lab", "/lab/api_500")
    merchant.get("/")  # a page that sends OmniFund nothing
    assert "<b>0 of 23</b>" in merchant.get("/lab").text


def test_a_sign_in_that_no_card_led_to_is_not_taken_for_the_cards(merchant: Merchant) -> None:
    """The visitor leaves the card's sign-in at OmniFund, and begins another, or another card."""
    merchant.press("/lab", "/lab/deny")
    page = merchant.get(merchant.sign_in().headers["Location"])
    assert CARDS["deny"].ours not in page.text
    assert "<b>0 of 23</b>" in merchant.get("/lab").text

    denied = merchant.press("/lab", "/lab/deny").headers["Location"]
    expired = merchant.press("/lab", "/lab/code_expired").headers["Location"]
    page = merchant.get(merchant.authorize_at(denied))
    assert "You denied access" in page.text
    assert "Back to the lab" not in page.text
    page = merchant.get(merchant.authorize_at(expired))
    assert CARDS["code_expired"].ours in page.text
    assert evidence(merchant, "code_expired").startswith("Seen just now: token endpoint 400")


@pytest.mark.parametrize("earlier", ["deny", "code_expired", "token_500", "state_tampered"])
def test_what_is_replayed_is_the_callback_of_the_latest_sign_in(
    merchant: Merchant, earlier: str
) -> None:
    merchant.sign_in()
    run(merchant, earlier)
    run(merchant, "callback_replayed")
    words = r"nothing sent to OmniFund, redirect, [\d.]+ m?s"
    assert re.fullmatch(f"Seen just now: {words}", evidence(merchant, "callback_replayed"))


@pytest.mark.parametrize(
    "case", ["password", "password after a sign-in", "after ten minutes", "stepped through"]
)
def test_without_a_callback_to_replay_a_sign_in_comes_first(merchant: Merchant, case: str) -> None:
    if case != "password":
        merchant.sign_in()
    if "password" in case:
        merchant.get("/login")  # whose page at OmniFund is abandoned
        merchant.press("/login/password", "/login/password", username=USERNAME, password=PASSWORD)
    if case == "after ten minutes":
        merchant.at.clock.advance(660)
    if case == "stepped through":
        merchant.get("/inspector/step-through")
    answer = merchant.press("/lab", "/lab/callback_replayed")
    url = answer.headers["Location"]
    assert url.startswith(f"{merchant.at.omnifund_url}/oauth/v2/auth")
    finish(merchant, merchant.get(merchant.authorize_at(url)))
    assert evidence(merchant, "callback_replayed").startswith("Seen just now: nothing sent")


def test_a_card_runs_after_an_hour_in_the_lab(merchant: Merchant) -> None:
    """Its pages send OmniFund nothing, so the access token expires meanwhile."""
    merchant.sign_in()
    for _ in range(4):
        merchant.at.clock.advance(20 * 60)
        merchant.get("/lab")
    run(merchant, "api_403")
    assert evidence(merchant, "api_403").startswith("Seen just now: API 403")


def test_signing_out_keeps_the_marks(merchant: Merchant) -> None:
    """L10"""
    merchant.sign_in()
    run(merchant, "api_403")
    merchant.post_form("/logout")
    assert "<b>1 of 23</b>" in merchant.get("/lab").text


@pytest.mark.parametrize("value", ["", "deny", "<script>", "AAAA", "A" * 3000])
def test_marks_that_this_app_has_not_written_count_for_nothing(
    merchant: Merchant, value: str
) -> None:
    """L10"""
    merchant.cookies.set("omnifund_seen", value, domain="localhost.local")
    page = merchant.get("/lab")
    assert (page.status_code, "<b>0 of 23</b>" in page.text) == (200, True)


def test_every_button_says_what_it_does(merchant: Merchant) -> None:
    """L10: a verb for each card, and no two alike."""
    merchant.sign_in()
    page = merchant.get("/lab").text
    verbs = [card.verb for card in CARDS.values()]
    assert len(set(verbs)) == len(CARDS)
    assert "Make it fail" not in page
    offered = re.findall(
        r'<button class="primary" aria-label="([^:]+): [^"]+">([^<]+)</button>', page
    )
    # Without the demo's launcher there is no Redis to stop.
    assert offered == [(verb, verb) for verb in verbs if verb != "Stop Redis"]


def test_what_a_card_costs_stands_before_its_button(redis_url: str, tmp_path: Path) -> None:
    """L10: with this app's own timeouts, and what is true of Local OmniFund and of the launcher."""
    settings: dict[str, Any] = {"omnifund_read_timeout": 4.5, "demo_control": tmp_path / "control"}
    with running_stack(redis_url, **settings) as stack:
        merchant = Merchant(stack)
        merchant.sign_in()
        costs = {
            "token_timeout": "Takes 4.5 s",
            "token_drip": "Takes 15 s",
            "refresh_slow": f"Takes {SLOW_SECONDS:g} s",
            "five_tabs": f"Takes {SLOW_SECONDS:g} s",
            "redis_outage": f"Stops Redis for every visitor for {PAUSE_SECONDS} s",
            "refresh_revoked": "Costs one sign-in",
        }
        for card, cost in costs.items():
            assert f'<p class="cost">{cost}</p>' in row_of(merchant, card).partition("<button")[0]
        assert {card.id for card in CARDS.values() if card.cost} == set(costs)


def test_five_cards_are_for_the_first_five_minutes(merchant: Merchant) -> None:
    """L10: they are free or take seconds, and need nothing of other visitors."""
    page = merchant.get("/lab").text
    box = page.split("Five for your first five minutes")[1].split("</section>")[0]
    assert re.findall(r'href="#(\w+)"', box) == [card.id for card in FIRST_FIVE]
    assert len(FIRST_FIVE) == 5
    run(merchant, "deny")
    box = merchant.get("/lab").text.split("Five for your first")[1].split("</section>")[0]
    assert box.count('class="seen"') == 1


# --- the evidence --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("access_token_expired", r"API 401, 1 refresh, API 200, [\d.]+ m?s"),
        ("api_500", r"API 500, page 503, [\d.]+ m?s"),
        ("api_403", r"API 403, page 403, [\d.]+ m?s"),
        ("refresh_revoked", r"API 401, refresh 400, redirect, [\d.]+ m?s"),
        ("callback_replayed", r"nothing sent to OmniFund, redirect, [\d.]+ m?s"),
        ("state_tampered", r"nothing sent to OmniFund, page 400, [\d.]+ m?s"),
        ("deny", r"nothing sent to OmniFund, page 403, [\d.]+ m?s"),
        ("code_expired", r"token endpoint 400, page 400, [\d.]+ m?s"),
    ],
)
def test_a_card_that_has_run_shows_what_was_really_sent(
    merchant: Merchant, card: str, words: str
) -> None:
    """L9: taken from the recording, and still there after a reload."""
    merchant.sign_in()
    assert evidence(merchant, card) == ""
    run(merchant, card)
    assert re.fullmatch(f"Seen just now: {words}", evidence(merchant, card))
    assert evidence(merchant, card) == evidence(merchant, card)
    page = merchant.get(f"/lab/{card}").text.replace("\N{NO-BREAK SPACE}", " ")
    assert f"<b>{evidence(merchant, card)[15:]}</b>" in page


def test_the_evidence_is_what_the_recording_says(merchant: Merchant) -> None:
    """L9"""
    merchant.sign_in()
    run(merchant, "access_token_expired")
    shown = re.search(r"/inspector\?show=([0-9a-f]+)", row_of(merchant, "access_token_expired"))
    assert shown is not None
    recording = next(each for each in recordings(merchant) if each["id"] == shown[1])
    sent = [(each["step"], each["status"]) for each in recording["exchanges"][1:]]
    assert sent == [("api", 401), ("refresh_token", 200), ("api", 200)]


def test_another_outcome_would_be_shown_as_another(merchant: Merchant) -> None:
    """L9: the same card with a second fault waiting: the row does not repeat what should happen."""
    merchant.sign_in()
    armed = merchant.press("/lab", "/lab/access_token_expired")
    faults = f"{merchant.at.omnifund_url}/faults"
    assert merchant.post(faults, {"id": "refresh_revoked", "scope": "all"}).status_code == 201
    merchant.get(armed.headers["Location"])
    assert "API 401, refresh 400, redirect" in evidence(merchant, "access_token_expired")


def test_the_evidence_outlives_its_recording(merchant: Merchant) -> None:
    """L9: a new sign-in deletes the recordings; then there is no link that would lead elsewhere."""
    merchant.sign_in()
    run(merchant, "api_500")
    assert "/inspector?show=" in row_of(merchant, "api_500")
    merchant.post_form("/logout")
    merchant.sign_in()
    merchant.at.clock.advance(3 * 60)
    assert evidence(merchant, "api_500").startswith("Seen 3 min ago: API 500")
    assert "/inspector?show=" not in row_of(merchant, "api_500")


def test_the_picture_has_an_arrow_for_each_request_and_one_for_each_response(
    merchant: Merchant,
) -> None:
    """L9"""
    merchant.sign_in()
    run(merchant, "access_token_expired")
    row = row_of(merchant, "access_token_expired")
    assert row.count('<path class="request"') == 3
    assert re.findall(r'<path class="(good|bad)"', row) == ["bad", "good", "good"]


def test_the_inspector_leads_back_to_the_card_and_on_to_the_next(merchant: Merchant) -> None:
    """L9"""
    merchant.sign_in()
    run(merchant, "api_401")
    shown = re.search(r'href="(/inspector\?show=[0-9a-f]+)"', row_of(merchant, "api_401"))
    assert shown is not None
    page = merchant.get(shown[1]).text
    assert '<a href="/lab#api_401">Back to The API returns 401</a>' in page
    assert '<a href="/lab/api_403">Next failure: The API returns 403</a>' in page
    # Another recording belongs to no card.
    assert "Back to The API" not in merchant.get("/inspector").text


def test_the_next_failure_is_one_that_was_not_seen_yet() -> None:
    """L9"""
    first, second, third, *_, last = CARDS.values()
    assert after(first, {first.id}) is second
    assert after(first, {first.id, second.id}) is third
    assert after(last, {last.id}) is first
    assert after(first, CARDS) is second


def test_too_much_evidence_costs_the_oldest_facts_and_no_mark(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L9: browsers ignore a cookie of more than 4 kB."""
    monkeypatch.setattr(progress, "MAX_COOKIE_LENGTH", 220)
    for card in ("state_tampered", "deny", "code_expired", "code_used"):
        run(merchant, card)
        merchant.at.clock.advance(1)
    assert len(merchant.cookies["omnifund_seen"]) <= 220
    assert "<b>4 of 23</b>" in merchant.get("/lab").text
    assert evidence(merchant, "state_tampered") == ""
    assert "token endpoint 400" in evidence(merchant, "code_used")


def test_without_the_inspector_nothing_is_claimed(redis_url: str) -> None:
    """L9: what was not recorded is not known; the card counts as seen."""
    with running_stack(redis_url, flow_inspector=False) as stack:
        merchant = Merchant(stack)
        merchant.sign_in()
        run(merchant, "api_403")
        assert "<b>1 of 23</b>" in merchant.get("/lab").text
        assert evidence(merchant, "api_403") == ""


def test_many_requests_are_counted_and_silence_has_a_word() -> None:
    """L9"""
    sent = (*[Sent("api", 401)] * 5, Sent("refresh_token", 200), *[Sent("api", 200)] * 5)
    assert (
        Run("x", "", 0, sent, 200, 3120).words == f"5 × API 401, 1 refresh, 5 × API 200, 3.1{GAP}s"
    )
    silent = (Sent("authorization_code", 0),)
    assert Run("x", "", 0, silent, 504, 999).words == f"token endpoint silent, page 504, 999{GAP}ms"
    assert (
        Run("x", "", 0, (Sent("refresh_token", 200),) * 2, 200, 1).words == f"2 refreshes, 1{GAP}ms"
    )
