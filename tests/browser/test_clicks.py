"""A click is seen, counts once, and leaves nothing behind; errors offer the right way on."""

from __future__ import annotations

import re
import threading

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.steps import (
    allow,
    follow,
    log_in_at_omnifund,
    start_sign_in,
    stop_the_clock,
)
from tests.support.stack import Stack
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.expects_console_errors


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
        allow(page)
        expect(page).to_have_url(f"{stack.url}/dashboard")
    else:
        page.goto(stack.url)
    stop_the_clock(page)
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
    stop_the_clock(page)
    page.evaluate(STAY)
    page.evaluate(PRESS, "Allow")
    page.evaluate(PRESS, "Allow")
    page.clock.run_for(200)
    assert page.evaluate(SEEN) == [["Allow"], ""]
    page.clock.run_for(2000)
    assert page.evaluate(SEEN) == [["Allow"], "Still waiting for the app…"]
    # The other answer of the same form is no second answer.
    page.evaluate(PRESS, "Deny")
    assert page.evaluate("left") == 1
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow'))")
    assert page.evaluate(SEEN) == [[], ""]
    page.evaluate(PRESS, "Deny")
    assert page.evaluate("left") == 2


def test_a_link_is_seen_too_and_another_may_be_chosen_instead(page: Page, stack: Stack) -> None:
    """L6: a page of data waits for OmniFund as a form does; a jump within a page waits for none."""
    page.clock.install()
    page.goto(f"{stack.url}/lab")
    page.evaluate(STAY)
    page.evaluate("document.querySelector('a.skip').click()")
    page.clock.run_for(200)
    assert page.evaluate(SEEN) == [[], ""]
    for name in ("Customers", "Transactions"):
        page.get_by_role("navigation", name="Pages", exact=True).get_by_text(name).click()
    page.clock.run_for(200)
    busy, _ = page.evaluate(SEEN)
    assert "Transactions" in busy
    page.clock.run_for(2000)
    assert page.evaluate(SEEN)[1] == "Still waiting for OmniFund…"
    assert page.locator(".waiting").count() == 1
    assert page.evaluate("left") == 3


# In one go, because Playwright waits for the next page before it looks at anything.
PRESS_AND_STOP = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const until = async (condition) => { while (!condition()) await frame(); };
  const busy = () => document.querySelectorAll("[aria-busy=true], [data-busy]").length;
  document.querySelector("form[action='/token/refresh'] button").click();
  await until(() => document.documentElement.dataset.waiting === "");
  const before = busy();
  stop();
  await until(() => document.documentElement.dataset.waiting === undefined);
  return [before, busy()];
}"""


def test_the_browsers_stop_ends_the_waiting(
    page: Page, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L6: what was pressed can be pressed again."""
    start_sign_in(page, stack)
    allow(page)
    expect(page).to_have_url(f"{stack.url}/dashboard")
    stopped = threading.Event()

    def respond_to_nobody() -> str:
        stopped.wait()
        return ""

    with monkeypatch.context() as patch:
        patch.setitem(stack.app.view_functions, "pages.refresh", respond_to_nobody)
        try:
            assert page.evaluate(PRESS_AND_STOP) == [2, 0]
        finally:
            stopped.set()
    page.get_by_role("button", name="Refresh now").click()
    expect(page.get_by_role("status").first).to_contain_text("Tokens refreshed")


def test_what_is_pressed_disabled_or_waited_for_is_told_apart(page: Page, stack: Stack) -> None:
    """L16: in both applications."""
    for url in (f"{stack.url}/login/password", f"{stack.omnifund_url}/login"):
        page.goto(url)
        button = page.locator("main form button").first
        style = "(element, name) => getComputedStyle(element)[name]"
        assert button.evaluate(style, "translate") == "none"
        button.hover()
        page.mouse.down()
        assert button.evaluate(style, "translate") == "0px 1px"
        page.mouse.move(0, 0)
        page.mouse.up()
        assert button.evaluate(style, "outlineStyle") == "none"
        button.evaluate("element => { element.ariaBusy = 'true'; }")
        assert button.evaluate(style, "outlineStyle") == "solid"
        button.evaluate("element => { element.disabled = true; }")
        assert button.evaluate(style, "opacity") == "0.6"


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_pages_follow_each_other_with_a_transition_where_motion_is_welcome(
    browser: Browser, stack: Stack, motion: str
) -> None:
    """L16"""
    wants_none = motion == "reduce"
    context = browser.new_context(reduced_motion="reduce" if wants_none else "no-preference")
    page = context.new_page()
    page.add_init_script(
        "window.moves = new Promise(done => {"
        "  addEventListener('pagereveal', event => done(event.viewTransition !== null));"
        "})"
    )
    page.goto(stack.url)
    page.get_by_role("navigation").get_by_role("link", name="Lab", exact=True).click()
    page.wait_for_url(f"{stack.url}/lab")
    # Known at the page's first frame. The pages forbid what wait_for_function does meanwhile.
    assert page.evaluate("moves") is not wants_none
    context.close()


def test_forced_colors_lose_nothing_that_a_background_says(browser: Browser, stack: Stack) -> None:
    """L16: where one is, where it failed, and how much is left are lines then."""
    context = browser.new_context(forced_colors="active")
    page = context.new_page()
    start_sign_in(page, stack)
    allow(page)
    outline = "element => getComputedStyle(element).outlineStyle"
    assert page.get_by_role("link", name="Dashboard").evaluate(outline) == "solid"
    bar = page.get_by_role("progressbar")
    assert bar.evaluate("element => getComputedStyle(element).borderTopStyle") == "solid"
    page.goto(f"{stack.url}/no-such-page")
    assert page.locator(".sides .here").evaluate(outline) == "solid"
    page.goto(f"{stack.omnifund_url}/profile/api-access")
    assert page.get_by_role("link", name="API Access", exact=True).evaluate(outline) == "solid"
    context.close()


def test_the_navigation_is_on_every_page_and_says_where_one_is(page: Page, stack: Stack) -> None:
    """L8: signed out and on an unknown page too, and the bar looks the same everywhere."""
    logos = set()
    names = ["Dashboard", "Customers", "Transactions", "Inspector", "Lab"]
    bar = page.get_by_role("navigation", name="Pages", exact=True)
    for path in ("/", "/no-such-page", "/lab", "/lab/deny", "/inspector/step-through"):
        page.goto(stack.url + path)
        assert bar.get_by_role("link").all_inner_texts() == names
        logos.add(str(page.locator(".brand svg rect").bounding_box()))
    assert len(logos) == 1
    start_sign_in(page, stack)
    allow(page)
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


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_navigation_stands_in_one_line_and_data_apart_from_learning(
    page: Page, stack: Stack, width: int
) -> None:
    """L8"""
    start_sign_in(page, stack)
    allow(page)
    page.set_viewport_size({"width": width, "height": 800})
    bar = page.get_by_role("navigation", name="Pages", exact=True)
    tops = "links => [...new Set(links.map(link => link.getBoundingClientRect().top))]"
    (top,) = bar.get_by_role("link").evaluate_all(tops)
    out = page.get_by_role("button", name="Sign out", exact=True).bounding_box()
    assert out is not None
    # On a phone below the button, otherwise beside it.
    assert (out["y"] + out["height"] <= top + 2) == (width == 390)
    line = "items => items.map(item => getComputedStyle(item).borderInlineStartStyle)"
    drawn = bar.get_by_role("listitem").evaluate_all(line)
    assert drawn == ["none", "none", "none", "solid", "none"]


@pytest.mark.parametrize(
    ("path", "up"),
    [("/lab/deny", "/lab"), ("/inspector/step-through", "/inspector")],
)
def test_a_page_below_another_leads_up(page: Page, stack: Stack, path: str, up: str) -> None:
    """L8: above its heading."""
    page.goto(f"{stack.url}/lab")
    start_sign_in(page, stack)
    allow(page)
    page.goto(stack.url + path)
    page.locator(".heading a").first.click()
    page.wait_for_url(re.compile(f"{up}(#.*)?$"))


def test_a_client_at_local_omnifund_leads_up(page: Page, stack: Stack) -> None:
    """L8"""
    page.goto(f"{stack.omnifund_url}/profile/api-access")
    log_in_at_omnifund(page)
    page.get_by_role("link", name="Edit").click()
    page.get_by_role("navigation", name="Breadcrumb").get_by_role("link").click()
    expect(page).to_have_url(f"{stack.omnifund_url}/profile/api-access")


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
    allow(page)
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
    allow(page)
    page.goto(f"{stack.url}/login")
    page.goto(f"{stack.omnifund_url}/faults")
    follow(page.get_by_role("button", name="This browser, once: token_503"))
    page.goto(f"{stack.url}/login")
    if page.get_by_label("Username").count():
        log_in_at_omnifund(page)
    allow(page)
    first = page.get_by_role("main").locator("a.button").first
    expect(first).to_have_text("Go to the dashboard")
