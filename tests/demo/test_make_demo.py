"""``make demo`` as a user starts, uses and stops it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import create_app
from demo.lab import PAUSE
from pytest_omnifund import Clock
from tests.support.merchant import Merchant
from tests.support.processes import answers, die_with_parent, free_port, wait_until
from tests.support.servers import REPOSITORY
from tests.support.stack import Stack, app_settings


class Demo:
    """A running ``make demo``, in a process group of its own as a terminal makes one."""

    def __init__(self, folder: Path, temporary: str = "tmp", **variables: str) -> None:
        self.app_port, self.omnifund_port = free_port(), free_port()
        self._output = folder / "output"
        self._errors = folder / "errors"
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in ("PATH", "HOME", "LANG", "PYENV_ROOT", "MAKEFLAGS") or "PIP" in name
        }
        # Its temporary files go to a folder of the test's, so that what is left can be seen.
        self.temporary = folder / temporary
        self.temporary.mkdir()
        environment |= {
            "APP_PORT": str(self.app_port),
            "LOCAL_OMNIFUND_PORT": str(self.omnifund_port),
            "TMPDIR": str(self.temporary),
            **variables,
        }
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                ["make", "demo"],
                cwd=REPOSITORY,
                env=environment,
                stdout=output,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def wait_until_running(self) -> None:
        def running() -> bool:
            assert self.process.poll() is None, self.errors
            return "Ctrl-C stops everything" in self.output

        wait_until(running, seconds=60, what="make demo")

    def descendants(self) -> set[int]:
        """The process ids of everything below ``make``, and of the servers' own sessions."""
        found, known = set(), {self.process.pid}
        while known:
            pid = known.pop()
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                known |= {int(child) for child in children}
            found.add(pid)
        return found

    def valkeys_folder(self) -> Path:
        """The folder of Valkey's socket, which is its working directory."""
        folders = {Path(f"/proc/{pid}/cwd").readlink() for pid in self.descendants()}
        (folder,) = [each for each in folders if each.name.startswith("omnifund-demo-")]
        return folder

    def assert_nothing_is_left(self, pids: set[int]) -> None:
        wait_until(lambda: not any(is_alive(pid) for pid in pids), what="processes to end")
        assert not answers(self.app_port)
        assert not answers(self.omnifund_port)
        assert list(self.temporary.iterdir()) == []


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own: a Unix socket's path has to be short.
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)


@contextlib.contextmanager
def running_demo(folder: Path, temporary: str = "tmp", **variables: str) -> Iterator[Demo]:
    demo = Demo(folder, temporary, **variables)
    try:
        demo.wait_until_running()
        yield demo
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(demo.process.pid, signal.SIGTERM)
        demo.process.wait(timeout=30)


def person_at(demo: Demo) -> Merchant:
    url = f"http://localhost:{demo.app_port}"
    omnifund_url = f"http://localhost:{demo.omnifund_port}"
    settings = app_settings("redis://localhost:1")
    stack = Stack(url, omnifund_url, create_app(settings), settings, Clock(), "")
    return Merchant(stack)


@pytest.mark.parametrize(("with_signal", "to_group"), [("SIGINT", True), ("SIGTERM", False)])
def test_a_merchant_signs_in_and_everything_stops_on_a_signal(
    folder: Path, with_signal: str, to_group: bool
) -> None:
    with running_demo(folder) as demo:
        username, password = (
            re.findall(rf"{name} +(\S+)", demo.output)[0] for name in ("Username", "Password")
        )
        assert (username, password) == ("merchant", "local-omnifund-demo")
        assert f"http://localhost:{demo.app_port}" in demo.output
        merchant = person_at(demo)
        assert merchant.sign_in("/customers").headers["Location"] == "/customers"
        assert merchant.get("/customers").status_code == 200
        assert merchant.status()["signed_in"] is True

        pids = demo.descendants()
        assert len(pids) >= 5
        # Ctrl-C reaches the whole group; a supervisor's SIGTERM only the process that it started.
        (os.killpg if to_group else os.kill)(demo.process.pid, getattr(signal, with_signal))
        demo.process.wait(timeout=30)
        demo.assert_nothing_is_left(pids)


def test_the_failure_lab_may_stop_the_embedded_valkey_for_a_moment(folder: Path) -> None:
    with running_demo(folder) as demo:
        merchant = person_at(demo)
        merchant.sign_in()
        answer = merchant.press("/lab", "/lab/redis_outage")
        assert answer.status_code == 303
        assert merchant.get("/dashboard").status_code == 503
        # Another click, whose request read its session just before the pause, adds no other pause.
        (demo.valkeys_folder() / "control").write_bytes(PAUSE)
        wait_until(lambda: merchant.get("/dashboard").status_code == 200, what="Valkey to go on")
        time.sleep(0.5)
        assert merchant.get("/dashboard").status_code == 200


def test_it_stops_while_valkey_stands_still(folder: Path) -> None:
    with running_demo(folder) as demo:
        merchant = person_at(demo)
        merchant.sign_in()
        merchant.press("/lab", "/lab/redis_outage")
        pids = demo.descendants()
        os.kill(demo.process.pid, signal.SIGTERM)
        demo.process.wait(timeout=30)
        demo.assert_nothing_is_left(pids)


def test_it_starts_again_after_a_crash(folder: Path) -> None:
    first, second = folder / "1", folder / "2"
    first.mkdir()
    second.mkdir()
    with running_demo(first) as demo:
        pids = demo.descendants()
        os.killpg(demo.process.pid, signal.SIGKILL)
        demo.process.wait(timeout=30)
        # gunicorn, whose parent has died, may take its graceful_timeout of 30 s.
        wait_until(
            lambda: not any(is_alive(pid) for pid in pids), seconds=40, what="processes to end"
        )
        ports = {
            "APP_PORT": str(demo.app_port),
            "LOCAL_OMNIFUND_PORT": str(demo.omnifund_port),
        }
    with running_demo(second, **ports):
        pass


@pytest.mark.parametrize("variable", ["APP_PORT", "LOCAL_OMNIFUND_PORT"])
def test_a_port_in_use_is_one_plain_line(folder: Path, variable: str, redis_url: str) -> None:
    taken = redis_url.rpartition(":")[2]
    demo = Demo(folder, **{variable: taken})
    assert demo.process.wait(timeout=60) != 0
    lines = [line for line in demo.errors.splitlines() if not line.startswith("make")]
    assert len(lines) == 1
    assert f"Port {taken} is in use: set {variable}" in lines[0]
    assert list(demo.temporary.iterdir()) == []


def test_one_port_for_both_is_one_plain_line(folder: Path) -> None:
    port = str(free_port())
    demo = Demo(folder, APP_PORT=port, LOCAL_OMNIFUND_PORT=port)
    assert demo.process.wait(timeout=60) != 0
    lines = [line for line in demo.errors.splitlines() if not line.startswith("make")]
    assert len(lines) == 1
    assert f"APP_PORT and LOCAL_OMNIFUND_PORT are both {port}" in lines[0]


@pytest.mark.parametrize(
    "temporary",
    [
        "a blank",
        "x" * 90,
        "x" * 44 + " and " + "y" * 44,
        "ü %20 100% a#b?c=d&e;f'\" $HOME",
    ],
)
def test_it_runs_in_any_temporary_folder(folder: Path, temporary: str) -> None:
    """K40: a Unix socket's path is short, and a URL that names it is encoded."""
    with running_demo(folder, temporary) as demo:
        merchant = person_at(demo)
        assert merchant.sign_in("/customers").headers["Location"] == "/customers"
        assert merchant.get("/customers").status_code == 200
        pids, valkeys_folder = demo.descendants(), demo.valkeys_folder()
        assert valkeys_folder.is_dir()
        os.kill(demo.process.pid, signal.SIGTERM)
        demo.process.wait(timeout=30)
        demo.assert_nothing_is_left(pids)
        assert not valkeys_folder.exists()


def test_cookies_of_other_applications_on_this_machine_do_no_harm(folder: Path) -> None:
    """K40: browsers send the cookies of localhost to every port."""
    with running_demo(folder) as demo:
        merchant = person_at(demo)
        merchant.sign_in()
        for number in range(5):
            merchant.cookies.set(
                f"another_application_{number}", "x" * 2048, domain="localhost.local", path="/"
            )
        # Sign-ins that were started and left, each with a cookie of its own.
        for _ in range(10):
            merchant.get("/login")
        for page in ("/customers", f"{merchant.at.omnifund_url}/customers"):
            assert merchant.get(page).status_code == 200, page
        assert merchant.sign_in("/customers").headers["Location"] == "/customers"


def test_two_demos_in_one_browser_keep_their_sessions_at_omnifund(folder: Path) -> None:
    """K40: Local OmniFund's cookies carry its port."""
    first_folder, second_folder = folder / "1", folder / "2"
    first_folder.mkdir()
    second_folder.mkdir()
    with running_demo(first_folder) as first, running_demo(second_folder) as second:
        persons = [person_at(demo) for demo in (first, second)]
        persons[1].http = persons[0].http
        for merchant in persons:
            merchant.sign_in()
        for merchant in persons:
            assert merchant.get(f"{merchant.at.omnifund_url}/customers").status_code == 200
