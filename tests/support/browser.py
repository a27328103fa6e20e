"""A real Chromium for the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SHELL = "chromium-headless-shell"
_MACOS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
_PLAYWRIGHT_CACHES = ("~/.cache/ms-playwright", "~/Library/Caches/ms-playwright")
_PLAYWRIGHT_PROGRAMS = (
    "chromium-*/chrome-linux*/chrome",
    "chromium-*/chrome-mac*/*.app/Contents/MacOS/*",
)

# No background traffic; the sandbox cannot be had by root and in many containers.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """Return a Chromium that runs: ``$CHROMIUM`` if set, else the system's or Playwright's own."""
    return next((program for program in _candidates() if _runs(program)), None)


def find_headless_shell() -> str | None:
    """Return Chromium's engine without its windows, if it is there, otherwise a whole Chromium.

    A page takes a third of the CPU in it.
    """
    shell = None if os.environ.get("CHROMIUM") else shutil.which(SHELL)
    return shell if shell and _runs(shell) else find_chromium()


def _candidates() -> Iterator[str]:
    if named := os.environ.get("CHROMIUM"):
        yield named
        return
    yield from filter(None, map(shutil.which, _NAMES))
    yield from _MACOS
    for cache in (os.environ.get("PLAYWRIGHT_BROWSERS_PATH"), *_PLAYWRIGHT_CACHES):
        for pattern in _PLAYWRIGHT_PROGRAMS if cache else ():
            found = Path(str(cache)).expanduser().glob(pattern)
            yield from map(str, sorted(found, reverse=True))


def _runs(program: str) -> bool:
    # Ubuntu has a program of that name that only says how to install the browser.
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0
