"""Local OmniFund's pages as a person uses them, in a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.steps import follow, log_in_at_omnifund
from tests.support.browsing import PASSWORD
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
    follow(page.get_by_role("button", name="This browser, once: token_html"))
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


@pytest.mark.parametrize(
    ("username", "problem", "advice"),
    [
        ("merchant", "Invalid credentials.", "Check your username and password, then try again."),
        ("locked", "Account is locked.", "Sign in with another account."),
    ],
)
def test_a_login_that_fails_says_what_to_do_at_the_field(
    page: Page, stack: Stack, username: str, problem: str, advice: str
) -> None:
    page.goto(stack.omnifund_url)
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(PASSWORD if username == "locked" else "wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text(f"{problem} {advice}")
    expect(page.get_by_label("Password")).to_have_accessible_description(f"{problem} {advice}")
    expect(page).to_have_title("Error: Sign in · Local OmniFund")


def test_the_login_page_fits_a_desktop_window(page: Page, stack: Stack) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(stack.omnifund_url)
    assert page.evaluate("document.documentElement.scrollHeight") <= 800


def test_a_customer_on_a_phone_takes_few_lines(page: Page, stack: Stack) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{stack.omnifund_url}/customers")
    log_in_at_omnifund(page)
    heights = page.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => row.getBoundingClientRect().height)"
    )
    assert len(heights) == 25
    assert max(heights) <= 136
    expect(page.get_by_role("table", name="Customers")).to_be_visible()
    expect(page.get_by_role("rowheader")).to_have_count(25)


def test_a_transaction_names_the_business_and_the_person(page: Page, stack: Stack) -> None:
    """The app shows the person, so both applications can be compared."""
    page.goto(f"{stack.omnifund_url}/transactions")
    log_in_at_omnifund(page)
    header = page.get_by_role("rowheader").filter(has=page.locator("small")).first
    person = header.locator("small").inner_text()
    assert len(person.split()) == 2
    assert header.inner_text().removesuffix(person).strip()


def test_a_new_merchant_is_told_that_there_is_nothing_yet(page: Page, stack: Stack) -> None:
    page.goto(stack.omnifund_url)
    page.get_by_role("button", name="Sam Whitfield").click()
    expect(page.get_by_text("No transactions yet.")).to_be_visible()
    expect(page.get_by_role("table")).to_have_count(0)
    page.get_by_role("link", name="Customers", exact=True).click()
    expect(page.get_by_text("No customers yet.")).to_be_visible()


@pytest.mark.expects_console_errors
def test_a_redirect_uri_that_cannot_be_used_is_marked_at_its_field(
    page: Page, stack: Stack
) -> None:
    page.goto(f"{stack.omnifund_url}/profile/api-access")
    log_in_at_omnifund(page)
    page.get_by_role("button", name="New OAuth Client").click()
    page.get_by_label("Allowed Redirect URIs").fill("not a uri")
    page.get_by_role("button", name="Save").click()
    field = page.get_by_label("Allowed Redirect URIs")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile('"not a uri" can\'t be used'))
    expect(page.get_by_label("Client Name")).not_to_have_attribute("aria-invalid", "true")
    expect(page).to_have_title(re.compile("^Error: "))


@pytest.mark.expects_console_errors
def test_a_page_that_does_not_exist_keeps_the_navigation(page: Page, stack: Stack) -> None:
    page.goto(stack.omnifund_url)
    log_in_at_omnifund(page)
    page.goto(f"{stack.omnifund_url}/nothing")
    expect(page.get_by_role("heading", level=1)).to_have_text("Page not found")
    page.get_by_role("link", name="Customers", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Customers")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_buttons_of_the_faults_stand_alike(page: Page, stack: Stack, width: int) -> None:
    """Beside every description, or under every one."""
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{stack.omnifund_url}/faults")
    beside = page.locator("li .row").evaluate_all(
        """rows => rows
          .map(row => ["span", ".choices"].map(part => row.querySelector(part)))
          .map(([text, buttons]) => buttons.getBoundingClientRect().left
            >= text.getBoundingClientRect().right)"""
    )
    assert len(set(beside)) == 1
