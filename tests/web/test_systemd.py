"""The systemd unit, checked by systemd's own tools, and gunicorn's part of it."""

from __future__ import annotations

import configparser
import re
import shlex
import socket
import subprocess
from pathlib import Path

from tests.support.processes import die_with_parent, free_port
from tests.support.programs import clean_environment, program
from tests.support.servers import REPOSITORY

UNIT = (REPOSITORY / "deploy" / "omnifund-app.service").read_text()


def here() -> str:
    """The unit with this machine's paths."""
    return UNIT.replace("/srv/omnifund-app/.venv/bin/gunicorn", program("gunicorn"))


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    unit = tmp_path / "omnifund-app.service"
    unit.write_text(here())
    verify = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    answer = subprocess.run(verify, capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")
    unit.write_text(here().replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in subprocess.run(verify, capture_output=True, text=True).stderr


def test_the_unit_is_exposed_little(tmp_path: Path) -> None:
    """By systemd's own score; a unit without any such line has 9.6."""
    unit = tmp_path / "omnifund-app.service"
    unit.write_text(here())
    command = ["systemd-analyze", "security", "--offline=true", str(unit)]
    answer = subprocess.run(command, capture_output=True, text=True)
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", answer.stdout)
    assert score is not None, answer.stderr
    assert float(score[1]) < 2


def test_gunicorn_says_when_it_is_ready_and_stops_in_time(redis_url: str, tmp_path: Path) -> None:
    """``Type=notify`` waits for that; the command is the unit's own."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as its documentation shows
    parser.read_string(here())
    service = parser["Service"]
    assert (service["Type"], service["KillMode"]) == ("notify", "mixed")
    port, path = free_port(), tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(path))
        notified.settimeout(30)
        environment = clean_environment(
            REDIS_URL=redis_url,
            SECRET_KEY="only-for-this-test-0123456789abcdef",
            APP_PORT=str(port),
            NOTIFY_SOCKET=str(path),
        )
        process = subprocess.Popen(
            shlex.split(service["ExecStart"]),
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        try:
            assert b"READY=1" in notified.recv(1000)
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                pass
        finally:
            process.terminate()
            assert process.wait(timeout=int(service["TimeoutStopSec"])) == 0
