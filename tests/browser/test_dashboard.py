"""The dashboard in a browser: what comes first, and the last minutes of an access token."""

from __future__ import annotations

from datetime import UTC, datetime

from playwright.sync_api import Page, expect

from tests.browser.steps import allow, start_sign_in, stop_the_clock
from tests.support.stack import Stack


def open_dashboard(page: Page, stack: Stack) -> None:
    """Sign in, with the browser's clock at the servers'."""
    page.clock.install(time=datetime.fromtimestamp(stack.clock(), UTC))
    start_sign_in(page, stack)
    allow(page)
    expect(page).to_have_url(f"{stack.url}/dashboard")


def test_the_data_comes_first_and_details_are_folded(page: Page, stack: Stack) -> None:
    """L12"""
    open_dashboard(page, stack)
    main = page.get_by_role("main")
    named = main.locator("a.button, button").all_inner_texts()
    assert named[:3] == ["View customers", "View transactions", "Refresh now"]
    assert main.locator(".primary").all_inner_texts() == ["View customers"]
    expect(main.locator(".lead")).to_contain_text(stack.omnifund_url.partition("//")[2])
    expect(page.get_by_text("Token type")).to_be_hidden()
    page.get_by_text("Token details").click()
    expect(page.get_by_text("Token type")).to_be_visible()
    page.get_by_role("link", name="View customers").click()
    expect(page).to_have_url(f"{stack.url}/customers")


def test_a_token_that_expires_while_the_page_is_open_is_told(page: Page, stack: Stack) -> None:
    """L11: amber in the last minute; at the end badge, sentence, and title, announced."""
    open_dashboard(page, stack)
    page.clock.pause_at(datetime.fromtimestamp(stack.clock() + 60, UTC))
    page.reload()
    bar = page.get_by_role("progressbar")
    live = page.locator("[aria-live=polite]")
    expect(live.get_by_text("Connected", exact=True)).to_be_visible()
    expect(bar).to_have_attribute("value", "3600")
    page.clock.run_for((3600 - 61) * 1000)
    expect(bar).to_have_class("fresh")
    page.clock.run_for(2 * 1000)
    expect(live.get_by_text("Connected, expiring soon")).to_be_visible()
    expect(bar).to_have_class("expiring")
    expect(page.get_by_role("heading", name="expires in")).to_contain_text("00:59")
    page.clock.run_for(60 * 1000)
    expect(live.get_by_text("Expired")).to_be_visible()
    expect(live.get_by_text("Connected, expiring soon")).to_be_hidden()
    expect(page.get_by_role("heading", name="The access token has expired")).to_be_visible()
    expect(page).to_have_title("Expired: Dashboard · OmniFund reference integration")
    expect(page.get_by_text("The next page that you open refreshes it.")).to_be_visible()
    expect(bar).to_have_attribute("value", "0")


def test_a_visitors_wrong_clock_does_not_end_the_token(page: Page, stack: Stack) -> None:
    """L11: the countdown begins with what the server says is left."""
    page.clock.install(time=datetime.fromtimestamp(stack.clock() + 7200, UTC))
    start_sign_in(page, stack)
    allow(page)
    stop_the_clock(page)
    page.reload()
    expect(page.get_by_role("heading", name="expires in")).to_contain_text("01:00:00")
    expect(page).to_have_title("Dashboard · OmniFund reference integration")
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()


def test_on_a_phone_the_button_stands_beside_the_countdown(page: Page, stack: Stack) -> None:
    """L12"""
    page.set_viewport_size({"width": 390, "height": 844})
    open_dashboard(page, stack)
    left = page.locator("[data-countdown]").bounding_box()
    button = page.get_by_role("button", name="Refresh now").bounding_box()
    assert left is not None
    assert button is not None
    assert button["y"] < left["y"] + left["height"]


def test_without_scripts_the_page_says_how_long_too(page: Page, stack: Stack) -> None:
    """L11: as the server sees it."""
    start_sign_in(page, stack)
    allow(page)
    expect(page).to_have_url(f"{stack.url}/dashboard")
    html = page.request.get(f"{stack.url}/dashboard").text()
    assert '<p class="status bad" data-when="expired" hidden>' in html
    assert "1 hour" in html or "59 minutes" in html


def test_a_connection_that_cannot_be_refreshed_says_what_comes_next(
    page: Page, stack: Stack
) -> None:
    """On every visit, not only in the notice right after."""
    open_dashboard(page, stack)
    page.request.post(f"{stack.omnifund_url}/faults", form={"id": "refresh_revoked"})
    page.get_by_role("button", name="Refresh now").click()
    expect(page.get_by_role("status")).to_contain_text("Not refreshed")
    page.goto(f"{stack.url}/dashboard")
    expect(page.get_by_role("status")).to_have_count(0)
    expect(page.get_by_text("When it expires, sign in again.")).to_be_visible()
