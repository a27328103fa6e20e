"""With Tab, Enter and the arrows alone: everything can be reached, and is seen when it is."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.steps import allow, log_in_at_omnifund, start_sign_in
from tests.support.browsing import PASSWORD, USERNAME
from tests.support.stack import Stack

MOST_STOPS = 200

# The name of what has the focus, and whether that shows: as an outline, or as a frame in a picture.
FOCUSED = """() => {
  const focused = document.activeElement;
  const row = focused.querySelector(".hit");
  const style = getComputedStyle(focused);
  return [
    focused.getAttribute("aria-label") ?? focused.id ?? "",
    focused.textContent.trim(),
    style.outlineStyle !== "none" || (row !== null && getComputedStyle(row).stroke !== "none"),
    focused.getBoundingClientRect().width > 1,
  ];
}"""


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what is called ``name`` has the focus; everything on the way must show it."""
    page.wait_for_load_state("load")
    passed: list[str] = []
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        label, text, is_marked, has_size = page.evaluate(FOCUSED)
        assert is_marked, (page.url, label or text)
        assert has_size, (page.url, label or text)
        if name in (label, text):
            return
        passed.append(label or text)
    raise AssertionError(f"{page.url}: Tab never comes to {name}: {passed}")


def test_the_whole_journey(page: Page, stack: Stack) -> None:
    page.goto(stack.url)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    tab_to(page, "Sign in with OmniFund")
    page.keyboard.press("Enter")

    expect(page.get_by_label("Username")).to_be_focused()
    page.keyboard.type(USERNAME)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Allow")
    tab_to(page, "Allow")
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1)).to_have_text("Your connection")
    tab_to(page, "Refresh now")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Tokens refreshed")
    tab_to(page, "Customers")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Customers")
    tab_to(page, "Next")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("page=2"))
    tab_to(page, "Sign out")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("You are signed out")


def test_the_inspector(page: Page, stack: Stack) -> None:
    start_sign_in(page, stack)
    allow(page)
    page.goto(f"{stack.url}/inspector")
    tab_to(page, "Message 6: POST /token")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#m4$"))
    expect(page.get_by_role("heading", name="The app exchanges the code")).to_be_in_viewport()
    # From here the keyboard goes on in the message, which is open now.
    tab_to(page, "curl")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="HTTPie")).to_be_focused()
    tab_to(page, "Copy")
    tab_to(page, "HTTPie command")
    expect(page.get_by_role("tabpanel", name="curl")).to_have_count(0)


def test_the_lab(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url}/lab")
    tab_to(page, "Deny access: The merchant chooses Deny")
    page.keyboard.press("Enter")
    log_in_at_omnifund(page)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Allow")
    tab_to(page, "Use another account")
