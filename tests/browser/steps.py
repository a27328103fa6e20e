"""What a person does in most tests, each step until the page that it leads to is there.

A click of Playwright's returns before the browser leaves the page: what is read then, or
opened then, races with the page to come.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from playwright.sync_api import Locator, Page

from tests.support.browsing import PASSWORD, USERNAME
from tests.support.stack import Stack


def stop_the_clock(page: Page) -> None:
    """Let time pass in the page by ``run_for`` alone, after ``page.clock.install()``.

    Otherwise the time that a busy machine takes for the test counts too.
    """
    now = datetime.fromtimestamp(page.evaluate("Date.now()") / 1000, UTC)
    page.clock.pause_at(now + timedelta(minutes=1))


def follow(target: Locator) -> None:
    """Click what leads to another page, and wait for that page."""
    with target.page.expect_navigation():
        target.click()


def start_sign_in(page: Page, stack: Stack) -> None:
    """Go from the app's front page to OmniFund's consent page."""
    page.goto(stack.url)
    follow(page.get_by_role("link", name="Sign in with OmniFund"))
    log_in_at_omnifund(page)


def log_in_at_omnifund(page: Page) -> None:
    """Fill in and send OmniFund's login."""
    page.get_by_label("Username").fill(USERNAME)
    page.get_by_label("Password").fill(PASSWORD)
    follow(page.get_by_role("button", name="Sign in"))


def allow(page: Page) -> None:
    """Press Allow on OmniFund's consent page."""
    follow(page.get_by_role("button", name="Allow"))
