"""``make screenshots``: pictures of the running demo, taken by a real browser.

Start ``make demo`` first; ``APP_PORT`` says where, as it does there. Without an argument the few
pictures that README shows are taken; with a folder as argument, every page at both widths and in
both colour schemes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.sync_api import Page, sync_playwright

from local_omnifund.settings import DEMO_MERCHANT_PASSWORD
from tests.support.browser import ARGUMENTS, find_chromium

README_PICTURES: Final = (
    "landing-desktop-light",
    "dashboard-desktop-light",
    "dashboard-phone-dark",
)
FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "screenshots"
DESKTOP: Final = (1280, 860)
PHONE: Final = (390, 844)


def main() -> int:
    """Take the pictures; return the exit status."""
    folder, wanted = (Path(sys.argv[1]), None) if len(sys.argv) > 1 else (FOLDER, README_PICTURES)
    folder.mkdir(parents=True, exist_ok=True)
    url = f"http://localhost:{os.environ.get('APP_PORT') or 8000}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        for size, kind in ((DESKTOP, "desktop"), (PHONE, "phone")):
            for scheme in ("light", "dark"):
                page = browser.new_page(
                    viewport={"width": size[0], "height": size[1]},
                    color_scheme="dark" if scheme == "dark" else "light",
                    locale="en-US",
                    timezone_id="America/Denver",
                )
                _journey(page, url, folder, f"{kind}-{scheme}", wanted)
                page.close()
        browser.close()
    return 0


def _journey(
    page: Page, url: str, folder: Path, suffix: str, wanted: tuple[str, ...] | None
) -> None:
    def shoot(name: str) -> None:
        if wanted is None or f"{name}-{suffix}" in wanted:
            page.screenshot(path=folder / f"{name}-{suffix}.png", full_page=True)

    page.goto(url)
    shoot("landing")
    page.get_by_role("link", name="Sign in with OmniFund").click()
    shoot("omnifund-login")
    page.get_by_label("Username").fill("merchant")
    page.get_by_label("Password").fill(DEMO_MERCHANT_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
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


if __name__ == "__main__":
    sys.exit(main())
