"""Make sure that Chromium and curl are there for the tests, or say plainly what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.browser import find_chromium


def main() -> int:
    """Return the exit status: 0 when both are there afterwards."""
    return max(_find_curl(), _find_browser())


def _find_curl() -> int:
    if shutil.which("curl") is None and _may_install():
        _install("curl")
    if shutil.which("curl") is not None:
        return 0
    print(
        "The tests need curl and it could not be installed. Install it yourself "
        "(Debian: apt-get install curl).",
        file=sys.stderr,
    )
    return 1


def _find_browser() -> int:
    if find_chromium() is not None:
        return 0
    if os.environ.get("CHROMIUM"):
        print("CHROMIUM names no program that runs.", file=sys.stderr)
        return 1
    if _may_install():
        _install("chromium")
    if find_chromium() is None:
        _fetch_browser()
    if find_chromium() is not None:
        return 0
    print(
        "The browser tests need Chromium and it could not be installed. Install it yourself "
        "(Debian: apt-get install chromium) or name it: CHROMIUM=/path/to/chromium make test",
        file=sys.stderr,
    )
    return 1


def _may_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def _install(package: str) -> None:
    """Install one of Debian's packages; apt-get says itself what is wrong."""
    print(f"Installing {package} for the tests ...", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", package]):
        subprocess.run(
            ["apt-get", *command], check=False, env=environment, stdout=subprocess.DEVNULL
        )


def _fetch_browser() -> None:
    """Have Playwright fetch its own; it says itself what is wrong."""
    print("Fetching Chromium for the browser tests ...", flush=True)
    libraries = ["--with-deps"] if _may_install() else []
    command = [sys.executable, "-m", "playwright", "install", *libraries, "chromium"]
    subprocess.run(command, check=False)


if __name__ == "__main__":
    sys.exit(main())
