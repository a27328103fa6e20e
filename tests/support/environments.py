"""Empty Python environments, and what is installed into them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def environment(folder: Path, python: str = sys.executable) -> Path:
    """Make an empty environment in ``folder``; return where its programs are."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin"


def pip(programs: Path) -> list[str]:
    """Return the command of pip for an environment, to which it adds no pip."""
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python")]
    return [*pip, "--disable-pip-version-check", "--quiet"]
