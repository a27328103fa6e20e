"""Every page in both colour schemes: accessible, and at no width scrolling sideways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.steps import allow, follow, log_in_at_omnifund, start_sign_in
from tests.support.browsing import PASSWORD
from tests.support.stack import Stack

WIDTHS = (320, 390, 700, 1000, 1280)
VERY_LONG = "Harbor Street Studio " + "x" * 50

pytestmark = pytest.mark.timeout(240)


@dataclass
class Look:
    """A page in a browser of some width and colour scheme, and an eye for what is wrong with it."""

    page: Page
    stack: Stack

    def at(self, address: str) -> None:
        """Open an address of the app, or a whole one, and look at it."""
        self.page.goto(address if address.startswith("http") else self.stack.url + address)
        self.here()

    def here(self) -> None:
        """Look at what is shown, once its styles are there."""
        self.page.wait_for_load_state("load")
        found = Axe().run(self.page)
        assert found.violations_count == 0, f"{self.page.url}\n{found.generate_report()}"
        before = self.page.viewport_size
        assert before is not None
        for width in WIDTHS:
            self.page.set_viewport_size({"width": width, "height": before["height"]})
            sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert self.page.evaluate(sideways) <= 0, (self.page.url, width)
        self.page.set_viewport_size(before)

    def press(self, name: str) -> None:
        """Press a button and look at what comes."""
        follow(self.page.get_by_role("button", name=name).first)
        self.here()

    def open_everything(self) -> None:
        """Open whatever can be opened."""
        closed = self.page.locator("details:not([open]) > summary")
        while closed.count():
            closed.first.click()
        self.here()

    def sign_in(self, merchant: str = "merchant") -> None:
        """Sign in without looking."""
        self.page.goto(f"{self.stack.url}/login")
        self.page.get_by_label("Username").fill(merchant)
        self.page.get_by_label("Password").fill(PASSWORD)
        follow(self.page.get_by_role("button", name="Sign in"))
        allow(self.page)
        expect(self.page).to_have_url(f"{self.stack.url}/dashboard")


@pytest.fixture(params=["light", "dark"])
def look(request: pytest.FixtureRequest, browser: Browser, stack: Stack) -> Iterator[Look]:
    # What is laid out otherwise on a phone is judged too.
    is_dark = request.param == "dark"
    context = browser.new_context(
        color_scheme="dark" if is_dark else "light",
        viewport={"width": 1280 if is_dark else 320, "height": 800},
        reduced_motion="reduce",
    )
    yield Look(context.new_page(), stack)
    context.close()


def test_before_signing_in(look: Look) -> None:
    for path in ("/", "/login/password", "/callback", "/no-such-page", "/lab", "/lab/api_403"):
        look.at(path)
    look.at("/login/password")
    look.page.get_by_label("OmniFund username").fill("somebody")
    look.page.get_by_label("OmniFund password").fill("wrong")
    look.press("Sign in")
    look.at("/inspector/example")
    look.open_everything()


def test_while_signed_in(look: Look, stack: Stack) -> None:
    look.sign_in()
    look.here()
    look.press("Refresh now")
    for path in (
        "/customers",
        "/customers?lastName=nobody-is-called-this",
        "/customers?page=99",
        "/transactions",
        "/transactions?kind=pending&page=2",
        "/",
    ):
        look.at(path)
    # The token has expired, and the clocks disagree.
    stack.clock.advance(3700)
    look.at("/customers")
    look.at("/dashboard")
    expect(look.page.get_by_text("Clock out of sync.")).to_be_visible()
    look.press("Sign out")


def test_the_inspector_with_everything_open(look: Look) -> None:
    look.sign_in()
    follow(look.page.get_by_role("button", name="Refresh now"))
    look.at("/inspector")  # The latest sign-in is shown.
    recordings = look.page.get_by_role("navigation", name="Recordings")
    recordings.get_by_text("Recordings:").click()
    look.here()
    follow(recordings.get_by_text("Refresh"))
    expect(look.page.get_by_role("heading", name="Before and after the refresh")).to_be_visible()
    look.open_everything()
    look.page.get_by_role("tab", name="HTTPie").first.click()
    follow(recordings.get_by_role("link", name="Sign-in"))
    look.open_everything()


def test_stepping_through_a_sign_in(look: Look) -> None:
    """L22"""
    look.at("/inspector/step-through")
    look.press("Send to OmniFund")
    log_in_at_omnifund(look.page)
    look.press("Allow")
    look.page.get_by_label("Leave out state").check()
    look.press("Hand it to the app")
    look.open_everything()
    look.page.get_by_label("Leave out state").uncheck()
    look.press("Hand it to the app")
    look.at("/inspector/step-through/callback")
    look.press("Hand it to the app")
    look.page.get_by_label("code_verifier", exact=True).fill("a wrong one")
    look.press("Send")
    follow(look.page.get_by_role("link", name="Back to the callback"))
    look.press("Hand it to the app")
    look.press("Send")
    look.press("Send")


def test_placing_the_thief(look: Look) -> None:
    """L24"""
    look.sign_in()
    look.at("/inspector")
    for box in look.page.locator(".thief input").all():
        box.check()
    look.open_everything()


def test_the_lab_and_what_it_leads_to(look: Look) -> None:
    look.sign_in()
    look.at("/lab")
    look.at("/lab/deny")
    look.press("Deny access")  # the consent page, which says what is enabled
    look.press("Allow")
    look.open_everything()
    follow(look.page.get_by_role("link", name="View the recording").first)
    look.open_everything()
    look.page.goto(f"{look.stack.url}/lab")
    look.press("Forbid the request: The API returns 403")
    follow(look.page.get_by_role("link", name="Back to the lab"))
    look.here()
    look.at("/lab/five-tabs")
    look.stack.clock.advance(30)
    look.page.get_by_role("button", name="Open five tabs").click()
    expect(look.page.locator(".tracks circle.good")).to_have_count(5)
    look.here()


def test_the_naive_client_beside_this_app(look: Look) -> None:
    """L23"""
    look.at("/lab/naive")
    look.sign_in()
    look.at("/lab/naive")
    look.press("Send both: A forged callback")
    look.open_everything()


@pytest.mark.parametrize("merchant", ["newcomer", "busy"])
def test_nothing_and_very_much(look: Look, merchant: str) -> None:
    look.sign_in(merchant)
    for path in ("/customers", "/transactions", "/transactions?kind=pending"):
        look.at(path)


def test_local_omnifund(look: Look) -> None:
    portal = look.stack.omnifund_url
    look.at(portal)
    look.press("locked")
    log_in_at_omnifund(look.page)
    for path in ("/", "/customers", "/transactions", "/profile/api-access", "/faults", "/nowhere"):
        look.at(portal + path)
    look.at(f"{portal}/oauth/v2/auth?client_id=nobody")
    look.at(f"{portal}/faults")
    look.press("This browser, once: api_500")
    look.at(f"{portal}/profile/api-access")
    look.press("New OAuth Client")
    look.page.get_by_label("Client Name").fill(VERY_LONG)
    look.page.get_by_label("Allowed Redirect URIs").fill("not a URI")
    look.press("Save")
    address = f"https://app.example.com/{'y' * 120}"
    look.page.get_by_label("Allowed Redirect URIs").fill(address)
    look.press("Save")
    look.press("Deactivate")
    look.at(f"{portal}/profile/api-access")


def test_asking_with_the_wrong_address(look: Look) -> None:
    start_sign_in(look.page, look.stack)
    asked = look.page.url.replace("%2Fcallback", "%2Felsewhere")
    assert asked != look.page.url
    look.at(asked)
    expect(look.page.get_by_text("This application can't sign you in")).to_be_visible()
