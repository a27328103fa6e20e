"""Make sure that the tests' programs are there, or say plainly what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from ctypes.util import find_library
from typing import Final

from tests.support.browser import SHELL, find_chromium
from tests.support.postgres import find_postgres
from tests.support.proxies import find_nginx

_NEEDED: Final[dict[str, Callable[[], bool]]] = {
    "libatomic1": lambda: find_library("atomic") is not None,  # for Playwright's own Node.js
    "curl": lambda: shutil.which("curl") is not None,
    "postgresql": lambda: find_postgres() is not None,
    "nginx-light": lambda: find_nginx() is not None,
    "systemd": lambda: shutil.which("systemd-analyze") is not None,
    "prometheus": lambda: shutil.which("promtool") is not None,
}
_BROWSERS: Final[dict[str, Callable[[], bool]]] = {
    SHELL: lambda: shutil.which(SHELL) is not None,
    "chromium": lambda: find_chromium() is not None,
}


def main() -> int:
    """Return the exit status: 0 when all are there afterwards."""
    wanted = _NEEDED if os.environ.get("CHROMIUM") else _NEEDED | _BROWSERS
    # All at once, which is quicker; then each alone, as one package that no source has stops all.
    install(*(package for package, is_there in wanted.items() if not is_there()))
    return max(
        *(_find(package, is_there) for package, is_there in _NEEDED.items()), _find_browser()
    )


def _find(package: str, is_there: Callable[[], bool]) -> int:
    if not is_there():
        install(package)
    if is_there():
        return 0
    print(
        f"The tests need {package} and it could not be installed. Install it yourself "
        f"(Debian: apt-get install {package}).",
        file=sys.stderr,
    )
    return 1


def _find_browser() -> int:
    if not os.environ.get("CHROMIUM") and shutil.which(SHELL) is None:
        install(SHELL)  # The tests run without it, too, and take longer.
    if find_chromium() is not None:
        return 0
    if os.environ.get("CHROMIUM"):
        print("CHROMIUM names no program that runs.", file=sys.stderr)
        return 1
    install("chromium")
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


def install(*packages: str) -> None:
    """Install Debian's packages, as root on Debian; apt-get says itself what is wrong."""
    if not packages or not _may_install():
        return
    print(f"Installing {', '.join(packages)} ...", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", *packages]):
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
