"""The failure lab: each card pressed in a real Chromium, and the page that a person then sees."""

from __future__ import annotations

import os
import re
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from demo.failures import CARDS, Way
from demo.lab import PAUSE
from tests.browser.steps import allow, follow, log_in_at_omnifund
from tests.support.stack import Stack, running_stack
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.expects_console_errors

DENIED = "You denied access"
START_AGAIN = "OmniFund rejected the sign-in code"
MISCONFIGURED = "This app isn't configured correctly for OmniFund"
UNAVAILABLE = "OmniFund is unavailable right now"
TOO_SLOW = "OmniFund took too long to respond"
NONSENSE = "OmniFund sent an invalid response"

FORBIDDEN = "You don't have permission to view this"
SILENT = "This app can't load your session right now"
UNFINISHED = "This sign-in can't be completed"

SIDES = {
    DENIED: "Your choice",
    START_AGAIN: "At OmniFund",
    MISCONFIGURED: "In this app",
    UNAVAILABLE: "At OmniFund",
    TOO_SLOW: "At OmniFund",
    NONSENSE: "At OmniFund",
    FORBIDDEN: "At OmniFund",
    SILENT: "In this app",
    UNFINISHED: "In your browser",
}

SIGN_IN = {
    "deny": DENIED,
    "code_expired": START_AGAIN,
    "code_used": START_AGAIN,
    "redirect_uri_mismatch": MISCONFIGURED,
    "invalid_client": MISCONFIGURED,
    "token_500": UNAVAILABLE,
    "token_503": UNAVAILABLE,
    "token_timeout": TOO_SLOW,
    "token_drip": TOO_SLOW,
    "token_html": NONSENSE,
    "token_without_type": NONSENSE,
    "token_redirect": NONSENSE,
}
CONNECTED = {
    "access_token_expired": "Customers",
    "refresh_slow": "Customers",
    "api_401": "Customers",
    "api_403": FORBIDDEN,
    "api_500": UNAVAILABLE,
    "api_odd_json": NONSENSE,
    "callback_replayed": "Your connection",
}


@pytest.fixture
def control(tmp_path: Path) -> Iterator[int]:
    """The end of the pipe at which `make demo` listens."""
    os.mkfifo(tmp_path / "control")
    pipe = os.open(tmp_path / "control", os.O_RDWR | os.O_NONBLOCK)
    yield pipe
    os.close(pipe)


@pytest.fixture
def stack(redis_url: str, control: int, tmp_path: Path) -> Iterator[Stack]:
    assert control
    # A slow refresh takes 0.9 s and silence 6 s: far from the timeout, however busy the machine is.
    with running_stack(
        redis_url,
        fault_pace=0.3,
        omnifund_read_timeout=4.0,
        demo_control=tmp_path / "control",
    ) as running:
        yield running


def press(page: Page, card: str) -> None:
    follow(page.locator(f"#{card}").get_by_role("button"))


def connect(page: Page, stack: Stack) -> None:
    """Sign in and be in the lab."""
    page.goto(f"{stack.url}/login?next=/lab")
    log_in_at_omnifund(page)
    allow(page)
    expect(page).to_have_url(f"{stack.url}/lab")


def expect_outcome(page: Page, card: str, headline: str) -> None:
    """The page that the failure leads to, with the lab's explanation above."""
    expect(page.get_by_role("heading", level=1)).to_have_text(headline)
    strip = page.get_by_role("complementary", name="Failure lab")
    expect(strip).to_contain_text(CARDS[card].ours)
    if headline in SIDES:
        expect(page.get_by_text(SIDES[headline], exact=True)).to_be_visible()
        expect(page.locator(".reference code")).to_be_visible()


@pytest.mark.parametrize(("card", "headline"), SIGN_IN.items())
def test_a_sign_in_that_fails(page: Page, stack: Stack, card: str, headline: str) -> None:
    page.goto(f"{stack.url}/lab")
    press(page, card)
    log_in_at_omnifund(page)
    allow(page)
    expect_outcome(page, card, headline)
    # The failure explains itself once; then it can be looked at, and a real sign-in works.
    reference = page.locator(".reference code").inner_text()
    page.get_by_role("link", name="View the recording").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Inspector")
    expect(page.get_by_role("region", name="Sign-in")).to_contain_text(reference)
    expect(page.get_by_role("note")).to_be_visible()
    expect(page.get_by_role("complementary", name="Failure lab")).to_have_count(0)
    page.goto(f"{stack.url}/login")
    allow(page)
    expect(page).to_have_url(f"{stack.url}/dashboard")


def test_a_state_that_is_not_ours(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url}/lab")
    press(page, "state_tampered")
    expect_outcome(page, "state_tampered", UNFINISHED)


@pytest.mark.parametrize(("card", "headline"), CONNECTED.items())
def test_a_connection_that_is_disturbed(page: Page, stack: Stack, card: str, headline: str) -> None:
    connect(page, stack)
    press(page, card)
    expect_outcome(page, card, headline)
    page.goto(f"{stack.url}/customers")
    expect(page.get_by_role("heading", level=1)).to_have_text("Customers")


def test_a_revoked_refresh_token_costs_one_sign_in(page: Page, stack: Stack) -> None:
    connect(page, stack)
    press(page, "refresh_revoked")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Allow")
    assert page.url.startswith(stack.omnifund_url)
    allow(page)
    expect_outcome(page, "refresh_revoked", "Customers")


def test_five_tabs_cost_one_refresh(page: Page, stack: Stack) -> None:
    connect(page, stack)
    press(page, "five_tabs")
    expect_outcome(page, "five_tabs", "Five tabs as the token expires")
    expect(page.get_by_text("5 of 5 requests returned your customers.")).to_contain_text(
        "Refresh requests sent to OmniFund: 1."
    )


def test_the_five_tabs_are_drawn_and_can_be_run_again(page: Page, stack: Stack) -> None:
    """L18"""
    connect(page, stack)
    press(page, "five_tabs")
    for _ in range(2):
        expect(page.locator(".tracks circle.good")).to_have_count(5)
        expect(page.locator(".tracks rect.refresh")).to_have_count(1)
        verdict = page.locator("[data-verdict]")
        expect(verdict).to_contain_text("Refresh requests sent to OmniFund: 1.")
        stack.clock.advance(100)
        with page.expect_navigation() as again:
            page.get_by_role("button", name="Run again").click()
        # Its own requests come soon: looked at in the browser, it might be drawn already.
        assert again.value is not None
        assert '<g class="running">' not in again.value.text()
    # A picture that is opened again is the same one, and runs nothing.
    expect(page.locator(".tracks circle.good")).to_have_count(5)
    links = page.locator("[data-outcome] a")
    before = [link.get_attribute("href") for link in links.all()]
    page.reload()
    expect(page.locator(".tracks circle.good")).to_have_count(5)
    assert [link.get_attribute("href") for link in links.all()] == before


def test_the_five_tabs_count_a_request_that_the_network_loses(page: Page, stack: Stack) -> None:
    """It does not wait forever, and neither does what is said of the others."""
    connect(page, stack)
    page.route("**/customers?page=3", lambda route: route.abort())
    press(page, "five_tabs")
    verdict = page.locator("[data-verdict]")
    expect(verdict).to_contain_text("4 of 5 requests returned your customers.")
    expect(page.locator("[data-outcome]").nth(2)).to_contain_text("failed after")
    page.route("**/inspector/recordings.json", lambda route: route.abort())
    page.get_by_role("button", name="Run again").click()
    expect(verdict).to_have_text("The result can't be loaded. Run it again.")


def test_two_races_of_five_tabs_share_a_refresh(page: Page, stack: Stack) -> None:
    """The second begins while the first one's refresh is under way, and again after a reload."""
    connect(page, stack)
    other = page.context.new_page()
    other.goto(f"{stack.url}/lab")
    for each in (page, other):
        press(each, "five_tabs")
    expect(page.locator("[data-outcome]").first).to_contain_text(re.compile("waiting|succeeded"))
    page.reload()
    for each in (page, other):
        # On a busy machine the race may be over when it is loaded again: drawn, and not run.
        expect(each.locator(".tracks circle.good")).to_have_count(5)


def test_a_race_of_long_ago_is_not_run_again(page: Page, stack: Stack) -> None:
    """Its address may be in the history; its faults are gone, and its recordings too."""
    connect(page, stack)
    page.goto(f"{stack.url}/lab/five-tabs?since={stack.clock() - 120:.3f}")
    expect(page.locator("[data-run], [data-drawn] section")).to_have_count(0)
    expect(page.get_by_role("button", name="Run again")).to_be_visible()


def test_the_five_tabs_without_scripts(browser: Browser, stack: Stack) -> None:
    """L18: five links in five tabs, and a link to the picture."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    connect(page, stack)
    press(page, "five_tabs")
    for number in range(1, 6):
        with context.expect_page() as opened:
            page.get_by_role("link", name=f"Tab {number}: customers").click()
        heading = opened.value.get_by_role("heading", level=1)
        expect(heading).to_have_text("Customers")
    page.get_by_role("link", name="draw what happened").click()
    expect(page.locator(".tracks circle.good")).to_have_count(5)
    expect(page.get_by_text("1 of 5 tabs refreshed")).to_be_visible()
    context.close()


@pytest.mark.parametrize("has_scripts", [True, False], ids=["with scripts", "without scripts"])
def test_both_clients_are_shown_side_by_side(
    browser: Browser, stack: Stack, has_scripts: bool
) -> None:
    """L23: the arrows that differ are red on the left, and green on the right."""
    context = browser.new_context(java_script_enabled=has_scripts)
    page = context.new_page()
    connect(page, stack)
    page.get_by_role("link", name="Send a naive client").click()
    page.get_by_role("button", name="Send both: A replayed callback").click()
    left = page.get_by_role("region", name="A naive client")
    right = page.get_by_role("region", name="This app")
    expect(left).to_contain_text("goes wrong")
    expect(right).to_contain_text("holds")
    # The second exchange of the code: its request, the error, and the page.
    expect(left.locator(".arrow.differs")).to_have_count(3)
    expect(right.locator(".arrow.differs")).to_have_count(1)
    for half, name in ((left, "--bad"), (right, "--good")):
        color = page.evaluate(
            "name => getComputedStyle(document.documentElement).getPropertyValue(name)", name
        )
        arrow = half.locator(".arrow.differs").first
        assert _rgb(color) == arrow.evaluate("element => getComputedStyle(element).stroke")
    # The pictures say in lines what the lists say in words: nothing is read out twice.
    expect(page.get_by_role("img")).to_have_count(0)
    expect(page.locator(".line.here")).to_have_count(2)
    page.get_by_role("button", name="Next: An error in the callback").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("An error in the callback")
    # Back shows it once more: a browser would ask whether to send the form again.
    follow(page.get_by_role("link", name="Dashboard"))
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("An error in the callback")
    context.close()


def _rgb(color: str) -> str:
    red, green, blue = bytes.fromhex(color.strip().removeprefix("#"))
    return f"rgb({red}, {green}, {blue})"


def test_a_silent_redis_costs_a_moment(
    page: Page, stack: Stack, control: int, valkey: ValkeyServer
) -> None:
    connect(page, stack)
    # The lab only gives the order; the test carries it out, as the launcher of the demo does.
    launcher = threading.Thread(target=_obey, args=(control, valkey))
    launcher.start()
    press(page, "redis_outage")
    launcher.join()
    expect_outcome(page, "redis_outage", SILENT)
    valkey.resume()
    page.get_by_role("link", name="Try again").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your connection")


def _obey(control: int, valkey: ValkeyServer) -> None:
    assert select.select([control], [], [], 20)[0]
    assert os.read(control, 100) == PAUSE
    valkey.pause()


def test_every_card_is_pressed_here() -> None:
    pressed = {*SIGN_IN, *CONNECTED, "state_tampered", "refresh_revoked", "five_tabs"}
    assert pressed | {"redis_outage"} == set(CARDS)
    assert {card.id for card in CARDS.values() if card.way is Way.SIGN_IN} == set(SIGN_IN)


def test_a_stranger_is_asked_to_sign_in_where_a_connection_is_needed(
    page: Page, stack: Stack
) -> None:
    page.goto(f"{stack.url}/lab")
    expect(page.locator("#api_403").get_by_role("button")).to_have_count(0)
    follow(page.get_by_role("link", name="Sign in first").first)
    log_in_at_omnifund(page)
    allow(page)
    expect(page).to_have_url(re.compile("/lab$"))
    expect(page.locator("#api_403").get_by_role("button")).to_have_count(1)
