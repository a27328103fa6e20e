"""The whole journey as a person makes it, in a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.steps import (
    allow,
    follow,
    log_in_at_omnifund,
    start_sign_in,
    stop_the_clock,
)
from tests.support.browsing import PASSWORD, USERNAME
from tests.support.stack import Stack


def test_landing_login_allow_dashboard_customers_refresh_sign_out(page: Page, stack: Stack) -> None:
    start_sign_in(page, stack)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Allow")
    assert page.url.startswith(stack.omnifund_url)
    allow(page)

    expect(page).to_have_url(f"{stack.url}/dashboard")
    expect(page.get_by_text("Connected", exact=True)).to_be_visible()
    tokens = page.locator("dd code").all_text_contents()
    assert all(re.fullmatch("•{8}.{4}", token) for token in tokens)

    page.get_by_role("link", name="Customers").first.click()
    expect(page.get_by_role("row")).to_have_count(31)
    page.get_by_role("link", name="Next").first.click()
    expect(page).to_have_url(re.compile("page=2"))
    name = page.get_by_role("rowheader").first.inner_text().split("\n")[0]
    assert name

    page.get_by_role("link", name="Transactions").first.click()
    expect(page.get_by_role("row")).to_have_count(31)
    page.get_by_role("link", name="Scheduled").click()
    expect(page.get_by_role("link", name="Scheduled")).to_have_attribute("aria-current", "page")

    page.get_by_role("link", name="Dashboard").click()
    page.get_by_role("button", name="Refresh now").click()
    expect(page.get_by_role("status")).to_contain_text("Tokens refreshed")
    assert page.locator("dd code").all_text_contents() != tokens

    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page).to_have_url(f"{stack.url}/")
    expect(page.get_by_role("status")).to_contain_text("You are signed out")
    page.reload()
    expect(page.get_by_role("status")).to_have_count(0)
    page.goto(f"{stack.url}/dashboard")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to continue")
    follow(page.get_by_role("link", name="Sign in with OmniFund"))
    assert page.url.startswith(stack.omnifund_url)


@pytest.mark.expects_console_errors
def test_deny_is_a_page_that_offers_another_try(page: Page, stack: Stack) -> None:
    """B4"""
    start_sign_in(page, stack)
    page.get_by_role("button", name="Deny").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("You denied access")
    page.get_by_role("link", name="Sign in again").click()
    allow(page)
    expect(page).to_have_url(f"{stack.url}/dashboard")


def test_a_deep_link_comes_back_to_itself(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url}/customers?page=2")
    log_in_at_omnifund(page)
    allow(page)
    expect(page).to_have_url(f"{stack.url}/customers?page=2")


def test_searching_customers(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url}/customers")
    log_in_at_omnifund(page)
    allow(page)
    expect(page.get_by_role("row")).to_have_count(31)
    reference = page.get_by_role("row").nth(1).get_by_role("cell").nth(2).inner_text()
    page.get_by_text("More filters").click()
    page.get_by_label("Reference").fill(reference.split("\n")[0])
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("row")).to_have_count(2)
    page.get_by_label("Last name").fill("nobody-is-called-this")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No customers match.")).to_be_visible()
    page.get_by_role("link", name="see all customers").click()
    expect(page.get_by_role("row")).to_have_count(31)


def test_back_after_signing_in_and_after_signing_out_shows_no_error(
    page: Page, stack: Stack
) -> None:
    """B3"""
    start_sign_in(page, stack)
    allow(page)
    page.get_by_role("link", name="Customers").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Customers")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your connection")
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("You are signed out")
    page.go_back()
    # Pages are not kept by the browser, so going back asks again, and that means signing in.
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to continue")


@pytest.mark.expects_console_errors
def test_the_password_grant(page: Page, stack: Stack) -> None:
    """L20: after an error, the title and the field with the focus say it."""
    page.goto(f"{stack.url}/login/password")
    page.get_by_label("OmniFund username").fill(USERNAME)
    page.get_by_label("OmniFund password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("Incorrect username or password")
    expect(page.get_by_label("OmniFund username")).to_have_value(USERNAME)
    expect(page.get_by_label("OmniFund password")).to_have_value("")
    expect(page.get_by_label("OmniFund password")).to_be_focused()
    expect(page.get_by_label("OmniFund password")).to_have_accessible_description(
        "Incorrect username or password. Try again."
    )
    expect(page).to_have_title(re.compile("^Error: Sign in with your password"))
    page.get_by_label("OmniFund password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{stack.url}/dashboard")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_both_names_of_this_machine_lead_to_a_working_sign_in(
    page: Page, stack: Stack, host: str
) -> None:
    """A7"""
    page.goto(f"http://{host}:{stack.settings.app_port}/")
    page.get_by_role("link", name="Sign in with OmniFund").click()
    log_in_at_omnifund(page)
    allow(page)
    expect(page).to_have_url(f"{stack.url}/dashboard")


def test_the_pages_work_without_scripts(browser: Browser, stack: Stack) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    start_sign_in(page, stack)
    allow(page)
    expect(page.get_by_text("UTC").first).to_be_visible()
    expect(page.get_by_text("59 minutes").or_(page.get_by_text("1 hour")).first).to_be_visible()
    page.get_by_role("button", name="Refresh now").click()
    expect(page.get_by_role("status")).to_contain_text("Tokens refreshed")
    page.goto(f"{stack.url}/inspector")
    page.get_by_text("Request, response, and code").last.click()
    expect(page.get_by_label("curl command")).to_be_visible()
    expect(page.get_by_label("HTTPie command")).to_be_visible()
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("You are signed out")
    context.close()


def test_times_are_in_the_visitors_zone_and_exact_on_hover(browser: Browser, stack: Stack) -> None:
    stack.clock.now = 1_800_000_000  # 2027-01-15 08:00:00 UTC
    context = browser.new_context(timezone_id="America/Denver", locale="en-US")
    page = context.new_page()
    start_sign_in(page, stack)
    allow(page)
    signed_in = page.locator(".lead time")
    expect(signed_in).to_have_text(re.compile("^Jan 15, 2027, 1:00\\sAM$"))
    expect(signed_in).to_have_attribute("title", "2027-01-15 08:00:00 UTC")
    context.close()


def test_nothing_is_kept_in_the_browser_but_cookies_that_scripts_cannot_read(
    page: Page, stack: Stack
) -> None:
    """D1, F4"""
    start_sign_in(page, stack)
    allow(page)
    expect(page).to_have_url(f"{stack.url}/dashboard")
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [
        0,
        0,
        "",
    ]
    for cookie in page.context.cookies(stack.url):
        if cookie["name"].startswith("omnifund_"):
            assert cookie["httpOnly"]
            assert (cookie["sameSite"], cookie["path"]) == ("Lax", "/")


def test_a_command_of_the_inspector_can_be_copied(browser: Browser, stack: Stack) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    start_sign_in(page, stack)
    allow(page)
    page.clock.install()
    page.goto(f"{stack.url}/inspector")
    stop_the_clock(page)  # The button says it for two seconds.
    page.get_by_text("Request, response, and code").last.click()
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")
    assert command.startswith("curl ")
    assert "code_verifier=$CODE_VERIFIER" in command
    context.close()


def test_the_picture_leads_to_its_message_by_keyboard(page: Page, stack: Stack) -> None:
    start_sign_in(page, stack)
    allow(page)
    page.goto(f"{stack.url}/inspector")
    page.get_by_role("link", name="Message 1: GET /login").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#m1$"))
