"""Nothing moves but what a person has just opened: by Chromium's own layout-shift entries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.steps import allow, follow, log_in_at_omnifund, start_sign_in
from tests.browser.test_clicks import PRESS, STAY
from tests.support.browser import ARGUMENTS, find_headless_shell
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(240)

# With the browser's own timers, before a test takes them over. What a frame moves is reported
# after it.
OBSERVE = """
const moved = [], [onFrame, later] = [requestAnimationFrame.bind(window), setTimeout.bind(window)];
const named = ({node}) => (node?.outerHTML ?? node?.data ?? "").slice(0, 80);
new PerformanceObserver(list => moved.push(...list.getEntries()
  .filter(entry => !entry.hadRecentInput)
  .map(entry => [entry.value, ...entry.sources.map(named)])
)).observe({type: "layout-shift", buffered: true});
window.whatMoved = async () => {
  for (let frame = 0; frame < 3; frame += 1) await new Promise(done => onFrame(() => later(done)));
  return moved;
};
"""

PAINTED = """() => new Promise(done => {
  new PerformanceObserver(() => done()).observe({type: "paint", buffered: true});
})"""

SIGNED_OUT = ("/", "/login/password", "/callback", "/no-such-page", "/lab", "/inspector/example")
SIGNED_IN = (
    *("/dashboard", "/customers", "/customers?id=x", "/transactions", "/transactions?kind=pending"),
    *("/inspector", "/inspector/step-through", "/lab", "/lab/deny", "/lab/five-tabs", "/lab/naive"),
)
PORTAL = ("/", "/customers", "/transactions", "/profile/api-access", "/faults", "/nowhere")


@pytest.fixture(params=[320, 390, 1280])
def page(request: pytest.FixtureRequest, browser: Browser, stack: Stack) -> Iterator[Page]:
    """A page of that width which notes what moves. Error pages are expected here."""
    assert stack
    context = browser.new_context(
        viewport={"width": request.param, "height": 844},
        locale="en-US",
        timezone_id="Pacific/Auckland",  # Its times are longer than UTC's, or shorter.
    )
    context.add_init_script(OBSERVE)
    yield context.new_page()
    context.close()


def test_while_a_page_loads(page: Page, stack: Stack) -> None:
    moved = {}

    def look() -> None:
        page.wait_for_load_state("load")
        if shifts := page.evaluate("whatMoved()"):
            moved[page.url] = shifts

    for path in SIGNED_OUT:
        page.goto(stack.url + path)
        look()
    page.goto(f"{stack.url}/login")
    look()
    log_in_at_omnifund(page)
    look()
    allow(page)
    look()
    follow(page.get_by_role("button", name="Refresh now"))
    look()
    for path in SIGNED_IN:
        page.goto(stack.url + path)
        look()
    for path in PORTAL:
        page.goto(stack.omnifund_url + path)
        look()
    page.goto(f"{stack.omnifund_url}/profile/api-access")
    follow(page.get_by_role("button", name="New OAuth Client"))
    look()
    assert moved == {}


def test_when_the_typeface_arrives_late(page: Page, stack: Stack) -> None:
    held: list[Route] = []
    page.route("**/*.woff2", lambda route: held.append(route))
    for path in ("/", "/lab", "/inspector/example"):
        with page.expect_request("**/*.woff2"):
            page.goto(stack.url + path, wait_until="commit")
        page.evaluate(PAINTED)
        held.pop().continue_()
        page.wait_for_load_state("load")
        assert page.evaluate("whatMoved()") == [], path


def test_while_a_token_expires(page: Page, stack: Stack) -> None:
    page.clock.install(time=datetime.fromtimestamp(stack.clock(), UTC))
    start_sign_in(page, stack)
    allow(page)
    page.clock.pause_at(datetime.fromtimestamp(stack.clock() + 60, UTC))
    page.reload()
    for seconds, text in ((1, "59:59"), (3540, "00:59"), (60, "expired")):
        page.clock.run_for(seconds * 1000)
        expect(page.get_by_role("heading", name="The access token")).to_contain_text(text)
        assert page.evaluate("whatMoved()") == [], text


def test_while_omnifund_is_waited_for(page: Page, stack: Stack) -> None:
    start_sign_in(page, stack)
    allow(page)
    page.evaluate(STAY)
    page.evaluate(PRESS, "Refresh now")
    expect(page.get_by_text("Still waiting for OmniFund…")).to_be_visible()
    assert page.evaluate("whatMoved()") == []


def test_while_five_tabs_race(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url}/login?next=/lab/five-tabs")
    log_in_at_omnifund(page)
    allow(page)
    follow(page.get_by_role("button", name="Open five tabs"))
    expect(page.locator(".tracks circle.good")).to_have_count(5)
    expect(page.locator("[data-verdict]")).to_contain_text("Refresh requests sent to OmniFund: 1.")
    assert page.evaluate("whatMoved()") == []


def test_between_a_page_that_scrolls_and_one_that_does_not(browser: Browser, stack: Stack) -> None:
    """Where a scroll bar takes room, as on most desktops: Playwright hides it otherwise."""
    with browser.browser_type.launch(
        executable_path=find_headless_shell(),
        args=ARGUMENTS,
        ignore_default_args=["--hide-scrollbars"],
    ) as with_bars:
        page = with_bars.new_page(viewport={"width": 1280, "height": 844})
        for long, short in (
            (f"{stack.url}/lab", f"{stack.url}/login/password"),
            (f"{stack.omnifund_url}/faults", f"{stack.omnifund_url}/login"),
        ):
            widths = []
            for url in (long, short):
                page.goto(url)
                widths.append(page.evaluate("document.body.clientWidth"))
                height = page.evaluate("document.documentElement.scrollHeight")
                assert (height > 844) == (url == long), url
            assert widths[0] == widths[1], widths
