"""L21: Local OmniFund's pages in a real Chromium, with and without scripts."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.steps import follow, stop_the_clock
from tests.local_omnifund.conftest import Site

SIZES = [(390, 844), (1280, 800)]


def sign_in(page: Page, site: Site, path: str) -> None:
    page.goto(site.url + path)
    follow(page.get_by_role("button", name="Jordan Reyes, Harbor Street Studio"))


def top_of(row: Locator) -> float:
    box = row.bounding_box()
    assert box is not None
    return box["y"]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("fault", ["deny", "token_drip", "api_odd_json"])
def test_the_faults_page_does_not_jump(
    site: Site, page: Page, width: int, height: int, fault: str
) -> None:
    """L21: the row stays under the pointer, although a list above it grows and shrinks."""
    page.set_viewport_size({"width": width, "height": height})
    page.goto(f"{site.url}/faults")
    row = page.locator(f"#{fault}")
    row.scroll_into_view_if_needed()
    for button in ("This browser, once", "All requests, until cleared"):
        before = top_of(row)
        follow(page.get_by_role("button", name=f"{button}: {fault}"))
        expect(row).to_contain_text("enabled")
        assert abs(top_of(row) - before) <= 2


def test_without_scripts_the_pressed_row_comes_back_into_view(site: Site, browser: Browser) -> None:
    """L21"""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site.url}/faults")
    page.get_by_role("button", name="This browser, once: api_odd_json").click()
    row = page.locator("#api_odd_json")
    expect(row).to_contain_text("enabled")
    expect(row).to_be_in_viewport()
    context.close()


@pytest.fixture
def clipboard(page: Page, site: Site) -> Page:
    """A page that may use the clipboard."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    return page


def test_a_new_clients_id_and_secret_are_copied_with_buttons(site: Site, clipboard: Page) -> None:
    """L21"""
    page = clipboard
    page.clock.install()
    sign_in(page, site, "/profile/api-access")
    follow(page.get_by_role("button", name="New OAuth Client"))
    stop_the_clock(page)
    for name, selector in (("Client ID", "code[data-copy]"), ("Client Secret", "code.secret")):
        button = page.get_by_role("button", name=f"Copy {name}")
        button.click()
        expect(button).to_have_text("Copied")
        expect(page.locator("[aria-live]", has_text="Copied").first).to_be_attached()
        shown = page.locator(selector).first.text_content()
        assert page.evaluate("navigator.clipboard.readText()") == shown
        page.clock.run_for(2000)
        expect(button).to_have_text("Copy")


def test_without_the_clipboard_the_button_says_that_nothing_was_copied(
    site: Site, page: Page
) -> None:
    """L21"""
    page.add_init_script(
        "navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed'))"
    )
    page.clock.install()
    sign_in(page, site, "/profile/api-access")
    stop_the_clock(page)
    button = page.get_by_role("button", name="Copy Client ID")
    button.click()
    expect(button).to_have_text("Copy failed")


def test_without_scripts_there_is_no_copy_button(site: Site, browser: Browser) -> None:
    """L21"""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, site, "/profile/api-access")
    expect(page.get_by_role("heading", name="OAuth clients")).to_be_visible()
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    context.close()


def test_the_login_page_says_where_it_leads_and_keeps_the_username(site: Site, page: Page) -> None:
    """L21: for an authorization request the client's name, for a page of the portal none."""
    page.goto(f"{site.url}/customers")
    expect(page.get_by_text("Use your merchant account.")).to_be_visible()
    query = "&".join(f"{name}={value}" for name, value in site.authorize_parameters().items())
    page.goto(f"{site.url}/oauth/v2/auth?{query}")
    expect(page.get_by_text("to continue to OmniFund Reference Integration")).to_be_visible()
    page.get_by_label("Username").fill("second-merchant")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text(
        "Invalid credentials. Check your username and password, then try again."
    )
    expect(page.get_by_label("Username")).to_have_value("second-merchant")
    expect(page.get_by_label("Password")).to_be_focused()
    expect(page.get_by_text("to continue to OmniFund Reference Integration")).to_be_visible()
    page.get_by_label("Password").fill("local-omnifund-demo")
    page.keyboard.press("Enter")
    expect(page.locator("dd", has_text="second-merchant")).to_contain_text("Larkspur Dental")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_that_changed_are_accessible_and_fit(
    site: Site, browser: Browser, scheme: str
) -> None:
    """L21"""
    is_dark = scheme == "dark"
    context = browser.new_context(color_scheme="dark" if is_dark else "light")
    page = context.new_page()

    def look() -> None:
        page.wait_for_load_state()
        found = Axe().run(page)
        assert found.violations_count == 0, f"{page.url}\n{found.generate_report()}"
        for width, height in [(320, 800), *SIZES]:
            page.set_viewport_size({"width": width, "height": height})
            root = "document.documentElement"
            assert page.evaluate(f"{root}.scrollWidth - {root}.clientWidth") <= 0, page.url

    page.goto(f"{site.url}/faults")
    follow(page.get_by_role("button", name="This browser, once: api_500"))
    look()
    sign_in(page, site, "/login")
    for path in ("/", "/customers", "/transactions", "/faults", "/nothing"):
        page.goto(site.url + path)
        look()
    page.goto(f"{site.url}/profile/api-access")
    follow(page.get_by_role("button", name="New OAuth Client"))
    look()
    page.goto(f"{site.url}/profile/api-access")
    look()
    follow(page.get_by_role("button", name="Sign out"))
    look()
    context.close()


def test_brands_have_their_own_spelling(site: Site, page: Page) -> None:
    """L21"""
    sign_in(page, site, "/customers")
    table = page.get_by_role("table")
    for name in ("Mastercard", "Visa", "American Express", "Discover"):
        expect(table).to_contain_text(name)
    for code in ("mastercard", "amex", "visa"):
        expect(table.get_by_text(code, exact=True)).to_have_count(0)


def test_error_pages_lead_back_to_the_app(site: Site, page: Page) -> None:
    """L21"""
    for path in ("/nothing", "/oauth/v2/auth", "/oauth/v2/auth?client_id=nobody"):
        response = page.request.get(site.url + path, headers={"Accept": "text/html"})
        assert '<a href="http://localhost:8000/">back to the app</a>' in response.text()
