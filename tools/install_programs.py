"""Make sure that there is a Chromium for the browser tests, or say plainly that there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.browser import find_chromium


def main() -> int:
    """Return the exit status: 0 when a browser is there afterwards."""
    if find_chromium() is not None:
        return 0
    if os.environ.get("CHROMIUM"):
        print("CHROMIUM names no program that runs.", file=sys.stderr)
        return 1
    _install()
    if find_chromium() is not None:
        return 0
    print(
        "The browser tests need Chromium and it could not be installed. Install it yourself "
        "(Debian: apt-get install chromium) or name it: CHROMIUM=/path/to/chromium make test",
        file=sys.stderr,
    )
    return 1


def _install() -> None:
    """Try what this machine offers. Each says itself what is wrong."""
    may_install = os.geteuid() == 0 and shutil.which("apt-get") is not None
    if may_install:
        print("Installing Chromium for the browser tests ...", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "chromium"]):
            subprocess.run(
                ["apt-get", *command], check=False, env=environment, stdout=subprocess.DEVNULL
            )
        if find_chromium() is not None:
            return
    print("Fetching Chromium for the browser tests ...", flush=True)
    libraries = ["--with-deps"] if may_install else []
    command = [sys.executable, "-m", "playwright", "install", *libraries, "chromium"]
    subprocess.run(command, check=False)


if __name__ == "__main__":
    sys.exit(main())
