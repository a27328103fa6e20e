"""A year of a product with 500 connected users, in steps of 13 days, on two machines."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from local_omnifund.settings import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET
from tests.support.processes import die_with_parent, free_port
from tests.support.programs import clean_environment, program, running
from tests.support.shared_clock import SharedClock

USERS = 500
DAYS = 13
STEPS = 365 // DAYS


class Machine:
    """A process of ``machine.py``."""

    def __init__(self, clock: Path, variables: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.examples.machine", str(clock)],
            env=clean_environment(**variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )

    def start(self, command: str) -> None:
        assert self._process.stdin is not None
        print(command, file=self._process.stdin, flush=True)

    def finish(self) -> tuple[int, str]:
        """Return the exit status and the output of the command that was started."""
        assert self._process.stdout is not None
        status, output = json.loads(self._process.stdout.readline())
        return status, output

    def end(self) -> None:
        self._process.communicate()


@pytest.fixture
def machines(redis_url: str, tmp_path: Path) -> Iterator[tuple[SharedClock, list[Machine]]]:
    with ExitStack() as stack:
        file = tmp_path / "clock"
        clock, port = SharedClock(file), free_port()
        server = [
            *(program("gunicorn"), "--bind", f"127.0.0.1:{port}", "--log-level", "warning"),
            *("--worker-class", "gthread", "--threads", "2", "--keep-alive", "60"),
            f"tests.support.omnifund_process:moved_app('{file}')",
        ]
        stack.enter_context(running(server, port, {"REDIS_URL": redis_url}))
        variables = {
            "SECRET_KEY": secrets.token_urlsafe(48),
            "DATABASE_URL": f"sqlite:///{tmp_path}/product.db",
            "OMNIFUND_BASE_URL": f"http://127.0.0.1:{port}",
            "OMNIFUND_CLIENT_ID": DEMO_CLIENT_ID,
            "OMNIFUND_CLIENT_SECRET": DEMO_CLIENT_SECRET,
            "OMNIFUND_REDIRECT_URI": "http://localhost:8000/callback",
        }
        found = [Machine(file, variables)]
        found[0].start("reseal")
        found[0].finish()  # The tables are there now.
        found.append(Machine(file, variables))
        for machine in found:
            stack.callback(machine.end)
        yield clock, found


def both(machines: list[Machine], *commands: str) -> list[tuple[int, str]]:
    """Run a command on each machine, at the same time."""
    for machine, command in zip(machines, commands, strict=True):
        machine.start(command)
    return [machine.finish() for machine in machines]


@pytest.mark.timeout(900)  # Half a minute on a quiet machine; 14,000 refreshes on a busy one.
def test_of_500_users_none_is_lost_in_a_year(
    machines: tuple[SharedClock, list[Machine]],
) -> None:
    """M3: each connection is refreshed in each step, by one machine or the other."""
    clock, both_machines = machines
    both(both_machines, f"connect 0 {USERS // 2}", f"connect {USERS // 2} {USERS}")
    lines = ["  day  machine 1  machine 2  failed"]
    for step in range(1, STEPS + 1):
        clock.advance(DAYS * 24 * 3600)
        results = both(both_machines, "keep-alive", "keep-alive")
        counts = [[int(number) for number in re.findall(r"\d+", text)] for _, text in results]
        (first, failed_first), (second, failed_second) = counts
        failed = failed_first + failed_second
        lines.append(f"{step * DAYS:>5}  {first:>9}  {second:>9}  {failed:>6}")
        # A connection that one machine has just refreshed may count for the other too.
        assert (first + second >= USERS, failed) == (True, 0), results
        nothing_left = both(both_machines, "keep-alive", "keep-alive")
        assert nothing_left == 2 * [(0, "0 refreshed, 0 failed\n")]
    both_machines[0].start("nightly")
    status, table = both_machines[0].finish()
    sys.stdout.write("\n".join(["", *lines, "", table]))
    assert (status, table.count("  read\n")) == (0, USERS)
