"""``make lighthouse``: Google's Lighthouse on the pages of the running demo.

Start ``make demo`` first; ``APP_PORT`` says where, as it does there. Node.js comes with the
development requirements, and the packages are pinned in ``tools/node_lighthouse``. Lighthouse
drives a real Chromium, once as a phone and once as a desktop, and the exit status is 0 only when
every page has 100 for accessibility, best practices and SEO and at least 95 for performance.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from playwright.sync_api import sync_playwright

from tests.browser.steps import allow, log_in_at_omnifund
from tests.support.browser import ARGUMENTS, find_chromium, find_headless_shell
from tests.support.programs import node

PRESETS: Final = ("mobile", "desktop")
RULES: Final = ("accessibility", "best-practices", "seo")
"""What depends on the pages alone; performance depends on the machine too."""
LEAST_PERFORMANCE: Final = 95

PAGES: Final = ("/", "/inspector/example")
PAGES_OF_A_MERCHANT: Final = ("/dashboard", "/customers", "/inspector", "/lab", "/lab/naive")

_AUDIT: Final = Path(__file__).resolve().parent / "node_lighthouse" / "audit.js"
_SECONDS: Final = 300


class Page(NamedTuple):
    """A page to audit. ``cookie``: the Cookie header it is asked for with, or nothing."""

    url: str
    cookie: str
    preset: str


class Result(NamedTuple):
    """``address``: where the browser ended. ``scores``: 0 to 100. ``wanting``: failed audits."""

    address: str
    scores: dict[str, int]
    wanting: list[str]


def main() -> int:
    """Print a table of scores; return the exit status."""
    url = f"http://localhost:{os.environ.get('APP_PORT') or 8000}"
    pages = every_page(url, _signed_in(url))
    results = audit(pages, ("performance", *RULES))
    heads = ("page", "as", "performance", *RULES)
    print("  ".join(f"{head:<18}" for head in heads).rstrip())
    for page, result in zip(pages, results, strict=True):
        scores = [str(result.scores[head]) for head in heads[2:]]
        cells = (page.url.removeprefix(url), page.preset, *scores)
        print("  ".join(f"{cell:<18}" for cell in cells).rstrip())
        for name in result.wanting:
            print(f"  wanting: {name}")
    return 0 if all(map(_is_good, results)) else 1


def every_page(url: str, cookie: str) -> list[Page]:
    """Return the pages of the app at ``url``; ``cookie`` is a merchant's."""
    wanted = [*((path, "") for path in PAGES), *((path, cookie) for path in PAGES_OF_A_MERCHANT)]
    return [Page(url + path, sent, preset) for path, sent in wanted for preset in PRESETS]


def audit(pages: list[Page], categories: tuple[str, ...]) -> list[Result]:
    """Return what Lighthouse says of each page, asked for with nothing but its own cookie."""
    task = {
        "chromium": find_headless_shell(),
        "flags": ["--headless=new", *ARGUMENTS],
        "categories": categories,
        "pages": [page._asdict() for page in pages],
    }
    done = subprocess.run(
        node(_AUDIT),
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    if done.returncode != 0:
        raise RuntimeError(f"Lighthouse failed:\n{done.stderr}")
    return [Result(**each) for each in json.loads(done.stdout)]


def _is_good(result: Result) -> bool:
    rules = all(result.scores[rule] == 100 for rule in RULES)
    return rules and result.scores["performance"] >= LEAST_PERFORMANCE


def _signed_in(url: str) -> str:
    """Sign in as the demo's merchant; return the Cookie header of the session."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        page = browser.new_page()
        page.goto(f"{url}/login")
        log_in_at_omnifund(page)
        allow(page)
        session = next(
            cookie for cookie in page.context.cookies(url) if "omnifund_session" in cookie["name"]
        )
        browser.close()
    return f"{session['name']}={session['value']}"


if __name__ == "__main__":
    sys.exit(main())
