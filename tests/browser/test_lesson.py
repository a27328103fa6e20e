"""The lesson in a browser: place the thief, and step through a sign-in without scripts."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.steps import allow, log_in_at_omnifund, start_sign_in
from tests.support.stack import Stack

VERDICTS = {
    "your browser's history": ["He has code and state."],
    "this app's log": ["This app logs paths and times"],
    "a dump of Redis": ["Each record opens only with"],
    "your session cookie": ["He is you, until you sign out"],
    "the client secret": ["He can pose as this app,"],
    "both tokens": ["He reads your data", "The refresh token is worth nothing"],
}


@pytest.fixture
def inspector(page: Page, stack: Stack) -> Page:
    """The inspector after a sign-in."""
    start_sign_in(page, stack)
    allow(page)
    page.goto(f"{stack.url}/inspector")
    return page


def test_each_loss_has_its_verdict(inspector: Page) -> None:
    """L24"""
    shown = inspector.locator(".verdicts li:visible")
    expect(shown).to_have_count(0)
    for loss, verdicts in VERDICTS.items():
        inspector.get_by_label(loss).check()
        expect(shown).to_have_count(len(verdicts))
        for number, verdict in enumerate(verdicts):
            expect(shown.nth(number)).to_contain_text(verdict)
        inspector.get_by_label(loss).uncheck()


def test_two_losses_together_may_be_worth_more(inspector: Page) -> None:
    """L24"""
    inspector.get_by_label("the client secret").check()
    inspector.get_by_label("both tokens").check()
    shown = inspector.locator(".verdicts li:visible")
    expect(shown).to_have_count(2)
    expect(shown.last).to_contain_text("He has the connection.")


def test_what_the_thief_holds_lights_up(inspector: Page) -> None:
    """L24: in the messages, and on those whose values are folded away."""
    code = inspector.locator(".held-history").first
    outline = "element => getComputedStyle(element).outlineStyle"
    told = "element => getComputedStyle(element, '::after').content"
    summary = inspector.get_by_text("Request, response, and code of: OmniFund sends you back")
    assert (code.evaluate(outline), summary.evaluate(told)) == ("none", "none")
    inspector.get_by_label("your browser's history").check()
    assert code.evaluate(outline) == "solid"
    assert "the thief" in summary.evaluate(told)
    assert inspector.locator(".held-tokens").first.evaluate(outline) == "none"


def test_stepping_through_needs_no_scripts(browser: Browser, stack: Stack) -> None:
    """L22"""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{stack.url}/inspector")
    page.goto(f"{stack.url}/inspector/step-through")
    page.get_by_role("button", name="Send to OmniFund").click()
    log_in_at_omnifund(page)
    allow(page)
    page.get_by_role("button", name="Hand it to the app").click()
    page.get_by_label("Leave out code_verifier").check()
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("heading", name="OmniFund objected")).to_be_visible()
    expect(page).to_have_title(re.compile("^OmniFund objected: Step through a sign-in"))
    page.get_by_label("Leave out code_verifier").uncheck()
    page.get_by_role("button", name="Send it again").click()
    expect(page.get_by_role("heading", name="Nobody objected")).to_be_visible()
    page.go_back()  # without being asked whether to send the form again
    expect(page.get_by_role("heading", name="OmniFund objected")).to_be_visible()
    context.close()


def test_the_lesson_begins_beside_the_button(page: Page, stack: Stack) -> None:
    """L7: two quiet links above the fold."""
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(stack.url)
    for name in ("step through a sign-in", "make it fail"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_in_viewport()
