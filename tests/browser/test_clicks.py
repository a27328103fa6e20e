"""A click is seen, counts once, and leaves nothing behind; errors offer the right way on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_journey import log_in_at_omnifund, start_sign_in
from tests.support.stack import Stack
from tests.support.valkey import ValkeyServer


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    """A page of a context of its own: error pages are expected here."""
    assert stack
    context = browser.new_context()
    yield context.new_page()
    context.close()


# Counts what would have left the page, and stays: a page that is being left cannot be looked at.
STAY = """() => {
  window.left = 0;
  const stay = event => {
    const leads = event.type === "submit" || event.target.closest("a");
    if (leads && !event.defaultPrevented) { window.left += 1; event.preventDefault(); }
  };
  addEventListener("click", stay);
  addEventListener("submit", stay);
}"""
PRESS = """name => [...document.querySelectorAll("a.button, button")]
  .find(each => each.textContent.trim() === name).click()"""
SEEN = """() => [
  [...document.querySelectorAll("[aria-busy=true]")].map(each => each.textContent.trim()),
  document.querySelector("[role=status].waiting")?.textContent ?? "",
]"""


@pytest.mark.parametrize("name", ["Sign in with OmniFund", "Refresh now"])
def test_a_click_is_seen_and_counts_once(page: Page, stack: Stack, name: str) -> None:
    """L6"""
    page.clock.install()
    if name == "Refresh now":
        start_sign_in(page, stack)
        page.get_by_role("button", name="Allow").click()
        expect(page).to_have_url(f"{stack.url}/dashboard")
    else:
        page.goto(stack.url)
    page.evaluate(STAY)
    page.evaluate(PRESS, name)
    page.evaluate(PRESS, name)
    page.clock.run_for(200)
    assert page.evaluate(SEEN) == [[name], ""]
    page.clock.run_for(2000)
    assert page.evaluate(SEEN) == [[name], "Still waiting for OmniFund…"]
    assert page.evaluate("left") == 1
    # Stopped, and Back: nothing is waited for any more.
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow'))")
    assert page.evaluate(SEEN) == [[], ""]
    page.evaluate(PRESS, name)
    assert page.evaluate("left") == 2


def test_a_click_at_local_omnifund_is_seen_too(page: Page, stack: Stack) -> None:
    """L6"""
    page.clock.install()
    start_sign_in(page, stack)
    expect(page.get_by_role("button", name="Allow")).to_be_visible()
    page.evaluate(STAY)
    page.evaluate(PRESS, "Allow")
    page.evaluate(PRESS, "Allow")
    page.clock.run_for(200)
    assert page.evaluate(SEEN) == [["Allow"], ""]
    page.clock.run_for(2000)
    assert page.evaluate(SEEN) == [["Allow"], "Still waiting for the app…"]
    assert page.evaluate("left") == 1


def test_the_navigation_is_on_every_page_and_says_where_one_is(page: Page, stack: Stack) -> None:
    """L8: signed out and on an unknown page too."""
    names = ["Dashboard", "Customers", "Transactions", "Inspector", "Lab"]
    bar = page.get_by_role("navigation", name="Pages", exact=True)
    for path in ("/", "/no-such-page", "/lab", "/lab/deny", "/inspector/step-through"):
        page.goto(stack.url + path)
        assert bar.get_by_role("link").all_inner_texts() == names
    start_sign_in(page, stack)
    page.get_by_role("button", name="Allow").click()
    for path, current in {
        "/dashboard": "Dashboard",
        "/customers": "Customers",
        "/transactions?kind=pending": "Transactions",
        "/inspector": "Inspector",
        "/inspector/step-through": "Inspector",
        "/lab": "Lab",
        "/lab/deny": "Lab",
    }.items():
        page.goto(stack.url + path)
        assert bar.locator("[aria-current]").all_inner_texts() == [current], path
        assert bar.get_by_role("link").all_inner_texts() == names


def test_an_error_stands_on_the_left_edge_with_details_beside_it(page: Page, stack: Stack) -> None:
    """L17"""
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{stack.url}/callback?code=x&state=y")
    headline = page.get_by_role("heading", level=1).bounding_box()
    brand = page.locator(".brand").bounding_box()
    details = page.get_by_text("For developers").bounding_box()
    assert headline is not None
    assert brand is not None
    assert details is not None
    assert abs(headline["x"] - brand["x"]) < 2
    assert details["x"] > headline["x"] + headline["width"] / 2


def test_a_sign_out_that_failed_can_be_tried_again(
    page: Page, stack: Stack, valkey: ValkeyServer
) -> None:
    """L17"""
    start_sign_in(page, stack)
    page.get_by_role("button", name="Allow").click()
    expect(page).to_have_url(f"{stack.url}/dashboard")
    valkey.pause()
    try:
        page.get_by_role("button", name="Sign out", exact=True).click()
        expect(page.get_by_role("button", name="Sign out again")).to_be_visible()
    finally:
        valkey.resume()
    page.get_by_role("button", name="Sign out again").click()
    expect(page.get_by_role("status")).to_contain_text("You are signed out")


def test_a_silent_omnifund_does_not_ask_a_signed_in_merchant_to_sign_in(
    page: Page, stack: Stack
) -> None:
    """L17"""
    start_sign_in(page, stack)
    page.get_by_role("button", name="Allow").click()
    page.goto(f"{stack.url}/login")
    page.goto(f"{stack.omnifund_url}/faults")
    page.get_by_role("button", name="This browser, once: token_503").click()
    page.goto(f"{stack.url}/login")
    if page.get_by_label("Username").count():
        log_in_at_omnifund(page)
    page.get_by_role("button", name="Allow").click()
    first = page.get_by_role("main").locator("a.button").first
    expect(first).to_have_text("Go to the dashboard")
