"""Every form of a page that stays open while its session ends, in a real Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Browser, Page, expect

from tests.browser.steps import allow, log_in_at_omnifund
from tests.support.browser import ARGUMENTS, find_chromium
from tests.support.stack import Stack


def signed_in(page: Page, stack: Stack, path: str) -> None:
    page.goto(stack.url + path)
    log_in_at_omnifund(page)
    allow(page)
    expect(page).to_have_url(stack.url + path)


def end_by_idling(_page: Page, stack: Stack) -> None:
    stack.clock.advance(stack.settings.session_lifetime_seconds + 1)


def end_in_redis(_page: Page, stack: Stack) -> None:
    """Redis loses what it knows of the app's sessions; Local OmniFund keeps its own."""
    with redis.Redis.from_url(stack.redis_url) as client:
        client.delete(*client.keys("omnifund:{*"))


def end_in_another_tab(page: Page, stack: Stack) -> None:
    other = page.context.new_page()
    other.goto(f"{stack.url}/dashboard")
    other.get_by_role("button", name="Sign out", exact=True).click()
    expect(other).to_have_url(f"{stack.url}/")
    other.close()


ENDINGS: dict[str, Callable[[Page, Stack], None]] = {
    "idle": end_by_idling,
    "store emptied": end_in_redis,
    "signed out in another tab": end_in_another_tab,
}
each_ending = pytest.mark.parametrize("ending", ENDINGS)


def back_to(page: Page, url: str | re.Pattern[str]) -> None:
    """Go on from the app's page to OmniFund's, where it leads without a click or with one."""
    link = page.get_by_role("link", name="Sign in with OmniFund")
    allow = page.get_by_role("button", name="Allow")
    expect(link.or_(allow)).to_be_visible()
    if link.is_visible() and "signed out of this app" in page.locator("main").inner_text():
        link.click()
    allow.click()
    expect(page).to_have_url(url)


@each_ending
def test_a_search_whose_session_has_ended_signs_in_and_returns_to_the_same_search(
    page: Page, stack: Stack, ending: str
) -> None:
    """K14, K16"""
    signed_in(page, stack, "/customers")
    ENDINGS[ending](page, stack)
    page.get_by_label("Last name").fill("Calrissian")
    page.get_by_role("button", name="Search").click()
    back_to(page, re.compile(r"/customers\?lastName=Calrissian&"))
    expect(page.get_by_label("Last name")).to_have_value("Calrissian")


@each_ending
def test_refresh_now_whose_session_has_ended_signs_in_and_returns(
    page: Page, stack: Stack, ending: str
) -> None:
    """K14"""
    signed_in(page, stack, "/dashboard")
    ENDINGS[ending](page, stack)
    page.get_by_role("button", name="Refresh now").click()
    back_to(page, f"{stack.url}/dashboard")


@each_ending
def test_sign_out_whose_session_has_ended_leads_to_the_front_page(
    page: Page, stack: Stack, ending: str
) -> None:
    """K14: there is nothing left to end."""
    signed_in(page, stack, "/dashboard")
    ENDINGS[ending](page, stack)
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page).to_have_url(f"{stack.url}/")


def test_a_reload_after_signing_out_in_another_tab_is_a_page_of_the_app_that_says_why(
    page: Page, stack: Stack
) -> None:
    """K16"""
    signed_in(page, stack, "/dashboard")
    end_in_another_tab(page, stack)
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to continue")
    expect(page.get_by_text("You signed out of this app in this browser")).to_be_visible()
    assert page.url.startswith(stack.url)


@pytest.fixture
def page_without_cookies(stack: Stack, tmp_path: Path, browser: Browser) -> Iterator[Page]:
    """A Chromium whose settings block cookies for the app, and for no other site."""
    rule = {f"{stack.url},*": {"setting": 2}}
    settings = {"profile": {"content_settings": {"exceptions": {"cookies": rule}}}}
    (tmp_path / "Default").mkdir()
    (tmp_path / "Default" / "Preferences").write_text(json.dumps(settings))
    context = browser.browser_type.launch_persistent_context(
        str(tmp_path), executable_path=find_chromium(), args=ARGUMENTS
    )
    yield context.new_page()
    context.close()


def test_blocked_cookies_are_named_on_the_callback_and_the_password_form(
    page_without_cookies: Page, stack: Stack
) -> None:
    """K15"""
    page = page_without_cookies
    page.goto(stack.url)
    page.get_by_role("link", name="Sign in with OmniFund").click()
    log_in_at_omnifund(page)
    allow(page)
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("Your browser keeps no cookies for this site")
    page.goto(f"{stack.url}/login/password")
    page.get_by_label("Username").fill("merchant")
    page.locator("input[type=password]").fill("anything")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(heading).to_have_text("Your browser keeps no cookies for this site")
