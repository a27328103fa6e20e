"""Local OmniFund's pages as a person uses them, in a real Chromium."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.test_journey import log_in_at_omnifund
from tests.support.stack import Stack


def test_a_fault_is_switched_on_and_off_by_its_buttons(page: Page, stack: Stack) -> None:
    """Browsers send `Origin: null` from these pages: their Referrer-Policy is no-referrer."""
    page.goto(f"{stack.omnifund_url}/faults")
    switched_on = page.locator("section", has=page.get_by_role("heading", name="Enabled"))
    page.get_by_role("button", name="This browser, once: api_500").click()
    expect(switched_on).to_contain_text("api_500 for one browser, once")
    page.get_by_role("button", name="All requests, until cleared: token_503").click()
    expect(switched_on).to_contain_text("token_503 for all requests, until cleared")
    page.get_by_role("button", name="Disable token_503").click()
    expect(switched_on).not_to_contain_text("token_503")
    page.get_by_role("button", name="Disable api_500").click()
    expect(switched_on).to_have_count(0)


def test_a_fault_for_this_browser_strikes_its_next_sign_in(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.omnifund_url}/faults")
    page.get_by_role("button", name="This browser, once: token_html").click()
    page.goto(f"{stack.url}/login")
    log_in_at_omnifund(page)
    expect(page.get_by_role("status")).to_contain_text("token_html")


def test_a_client_is_made_named_deactivated_and_reactivated(page: Page, stack: Stack) -> None:
    page.goto(stack.omnifund_url)
    log_in_at_omnifund(page)
    page.get_by_role("link", name="API Access", exact=True).click()
    page.get_by_role("button", name="New OAuth Client").click()
    expect(page.get_by_text("Copy the Client Secret now.")).to_be_visible()
    page.get_by_label("Client Name").fill("Till and Ledger")
    page.get_by_label("Allowed Redirect URIs").fill("https://app.example.com/callback")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("Your changes were saved.")
    expect(page.get_by_text("Copy the Client Secret now.")).to_have_count(0)
    page.get_by_role("button", name="Deactivate").click()
    expect(page.get_by_role("status")).to_contain_text("deactivated")
    page.get_by_role("button", name="Reactivate").click()
    expect(page.get_by_role("status")).to_contain_text("active again")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in to OmniFund")
