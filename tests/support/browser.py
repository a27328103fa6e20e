"""A real Chromium for the tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MACOS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
_PLAYWRIGHT_CACHES = ("~/.cache/ms-playwright", "~/Library/Caches/ms-playwright")
_PLAYWRIGHT_PROGRAMS = (
    "chromium-*/chrome-linux*/chrome",
    "chromium-*/chrome-mac*/Chromium.app/Contents/MacOS/Chromium",
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
    """Return a Chromium's program: ``$CHROMIUM``, the system's, or Playwright's own."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named if Path(named).exists() else None
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    for path in _MACOS:
        if Path(path).exists():
            return path
    for cache in _PLAYWRIGHT_CACHES:
        for pattern in _PLAYWRIGHT_PROGRAMS:
            for program in sorted(Path(cache).expanduser().glob(pattern), reverse=True):
                return str(program)
    return None
