"""``make screenshots`` and ``make portal-tour``: pictures of the running demo, by a real browser.

Start ``make demo`` first; ``APP_PORT`` and ``LOCAL_OMNIFUND_PORT`` say where, as they do there.
``--readme`` takes those of README and docs/how-it-works.md, and records the inspector's example;
``--portal`` takes those of docs/portal-tour.md; with a folder as argument, the usual pages at
both widths and in both color schemes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.sync_api import Browser, Page, sync_playwright

from demo import sample
from tests.browser.steps import allow, log_in_at_omnifund
from tests.support.browser import ARGUMENTS, find_chromium

README_PICTURES: Final = (
    "dashboard-desktop-light",
    "inspector-desktop-light",
    "lab-desktop-light",
    "comparison-desktop-light",
)
FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "screenshots"
DESKTOP: Final = (1280, 860)
PHONE: Final = (390, 844)


def main() -> int:
    """Take the pictures; return the exit status."""
    if len(sys.argv) != 2:
        print("Pass --readme, --portal, or a folder.", file=sys.stderr)
        return 2
    url = f"http://localhost:{os.environ.get('APP_PORT') or 8000}"
    omnifund_url = f"http://localhost:{os.environ.get('LOCAL_OMNIFUND_PORT') or 9000}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        if sys.argv[1] == "--portal":
            _portal_tour(_page(browser, DESKTOP, "light"), omnifund_url)
            browser.close()
            return 0
        folder, wanted = (
            (FOLDER, README_PICTURES) if sys.argv[1] == "--readme" else (Path(sys.argv[1]), None)
        )
        folder.mkdir(parents=True, exist_ok=True)
        if wanted is not None:
            _record_example(_page(browser, DESKTOP, "light"), url)
        for size, kind in ((DESKTOP, "desktop"), (PHONE, "phone")):
            for scheme in ("light", "dark"):
                page = _page(browser, size, scheme)
                _journey(page, url, folder, f"{kind}-{scheme}", wanted)
                page.close()
        browser.close()
    return 0


def _page(browser: Browser, size: tuple[int, int], scheme: str) -> Page:
    return browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        locale="en-US",
        # A picture of something that moves would be another one each time.
        reduced_motion="reduce",
        timezone_id="America/Denver",
    )


def _record_example(page: Page, url: str) -> None:
    """Sign in, and keep the recording for visitors of the inspector who have none."""
    page.goto(f"{url}/login")
    log_in_at_omnifund(page)
    allow(page)
    (kept,) = page.request.get(f"{url}/inspector/recordings.json").json()["recordings"]
    sample.PATH.write_bytes(sample.dump(**kept))


def _portal_tour(page: Page, url: str) -> None:
    """Make and edit an OAuth client, as a merchant's developer does."""

    def shoot(number: int, name: str) -> None:
        # A secret belongs in no picture, made up or not.
        page.screenshot(
            path=FOLDER / f"portal-{number}-{name}.png",
            mask=[page.locator(".secret")],
            mask_color="#9a9a9a",
        )

    page.goto(url)
    shoot(1, "sign-in")
    log_in_at_omnifund(page)
    page.get_by_role("link", name="API Access", exact=True).click()
    shoot(2, "api-access")
    page.get_by_role("button", name="New OAuth Client").click()
    shoot(3, "new-client")
    page.get_by_label("Client Name").fill("Harbor Street Studio Reports")
    page.get_by_label("Allowed Redirect URIs").fill("https://app.example.com/callback")
    page.get_by_role("button", name="Save").click()
    shoot(4, "edited-client")
    # What the tour has made, it leaves switched off.
    page.get_by_role("button", name="Deactivate").click()


def _journey(
    page: Page, url: str, folder: Path, suffix: str, wanted: tuple[str, ...] | None
) -> None:
    def shoot(name: str) -> None:
        if wanted is None or f"{name}-{suffix}" in wanted:
            # The documents show what fits on a screen.
            page.screenshot(path=folder / f"{name}-{suffix}.png", full_page=wanted is None)

    page.goto(url)
    shoot("landing")
    page.get_by_role("link", name="Sign in with OmniFund").click()
    shoot("omnifund-login")
    log_in_at_omnifund(page)
    shoot("omnifund-consent")
    page.get_by_role("button", name="Deny").click()
    shoot("denied")
    page.get_by_role("link", name="Sign in again").click()
    page.get_by_role("button", name="Allow").click()
    shoot("dashboard")
    page.get_by_role("button", name="Refresh now").click()
    shoot("refreshed")
    for path in ("/customers", "/customers?lastName=zzz", "/transactions", "/login/password", "/x"):
        page.goto(url + path)
        shoot(path.strip("/").replace("/", "-").replace("?", "-").replace("=", "-"))
    page.goto(f"{url}/inspector")
    shoot("inspector")
    page.goto(f"{url}/lab")
    shoot("lab")
    page.goto(f"{url}/lab/naive")
    page.locator("#five_tabs button").click()
    page.wait_for_selector(".verdict")
    shoot("comparison")


if __name__ == "__main__":
    sys.exit(main())
