"""gunicorn as an operator starts it: a bad start is one plain message and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from tests.support.rig import fleet
from tests.support.servers import REPOSITORY

BAD = "The configuration has 1 problem:"
GOOD = {"REDIS_URL": "redis://localhost:1", "SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz"}


GRANIAN = "granian_server.py"


def start(
    application: str, folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run gunicorn until it gives up, or granian, if ``application`` is ``GRANIAN``.

    ``folder``: where it is started, and its temporary files.
    """
    command = [
        str(Path(sys.executable).with_name("gunicorn")),
        *("--config", str(REPOSITORY / "gunicorn.conf.py"), "--pythonpath", str(REPOSITORY)),
        *arguments,
        application,
    ]
    if application == GRANIAN:
        command = [sys.executable, str(REPOSITORY / GRANIAN), *arguments]
    return subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(folder), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


NO_REDIS = "REDIS_URL: is required, for example redis://localhost:6379/0"
NO_WORKER = "WEB_CONCURRENCY: must be greater than or equal to 1"
NO_KEY = (
    "SECRET_KEY: is required: generate one with "
    "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
)
LOCAL_NO_REDIS = (
    "REDIS_URL is missing. Set it to a Redis or Valkey URL, for example "
    "redis://localhost:6379/0 or unix:///path/to/redis.sock."
)


@pytest.mark.parametrize(
    ("application", "variables", "first_line", "problems"),
    [
        ("app:create_app()", {}, "The configuration has 2 problems:", [NO_REDIS, NO_KEY]),
        (GRANIAN, {}, "The configuration has 2 problems:", [NO_REDIS, NO_KEY]),
        (
            "local_omnifund:create_app()",
            {"LOCAL_OMNIFUND_PORT": "x"},
            "Local OmniFund cannot start:",
            [LOCAL_NO_REDIS, "LOCAL_OMNIFUND_PORT must be a port number between 1 and 65535."],
        ),
        (
            "app:create_app()",
            {"DRAIN_SECONDS": "soon", "KEEP_ALIVE": "-1", "WORKER_TIMEOUT": "0"},
            "The configuration has 5 problems:",
            [
                NO_REDIS,
                NO_KEY,
                "DRAIN_SECONDS: must be a number",
                "WORKER_TIMEOUT: must be greater than or equal to 1",
                "KEEP_ALIVE: must be greater than or equal to 0",
            ],
        ),
        ("app:create_app()", {**GOOD, "WEB_CONCURRENCY": "0"}, BAD, [NO_WORKER]),
        (GRANIAN, {**GOOD, "WEB_CONCURRENCY": "0"}, BAD, [NO_WORKER]),
        (
            GRANIAN,
            {**GOOD, "WEB_CONCURRENCY": "auto"},
            BAD,
            ["WEB_CONCURRENCY: must be a whole number"],
        ),
        (
            "app:create_app()",
            {**GOOD, "WEB_CONCURRENCY": "1_000_000"},
            BAD,
            ["WEB_CONCURRENCY: must be less than or equal to 1000"],
        ),
    ],
    ids=[
        *("app", "granian", "local-omnifund", "server", "none", "granian-none", "granian-auto"),
        "million",
    ],
)
def test_a_bad_configuration_stops_the_start_with_one_message(
    tmp_path: Path,
    application: str,
    variables: dict[str, str],
    first_line: str,
    problems: list[str],
) -> None:
    """K36"""
    stopped = start(application, tmp_path, **variables)
    assert stopped.returncode == 1
    assert stopped.stdout == ""
    assert stopped.stderr.splitlines() == [first_line, *(f"  {each}" for each in problems)]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["auto", "2.5"])
def test_what_gunicorn_itself_cannot_read_ends_the_start(tmp_path: Path, value: str) -> None:
    """K36: before it reads our settings, so the message is its own (docs/adr/0014)."""
    stopped = start("app:create_app()", tmp_path, **GOOD, WEB_CONCURRENCY=value)
    assert stopped.returncode != 0
    assert repr(value) in stopped.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("application", "arguments", "variables"),
    [
        ("app:create_app()", ("-w", "0"), GOOD),
        ("local_omnifund:create_app()", (), {**GOOD, "WEB_CONCURRENCY": "0"}),
    ],
)
def test_no_worker_process_at_all_is_refused(
    tmp_path: Path, application: str, arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    """K36"""
    stopped = start(application, tmp_path, *arguments, "--bind", "127.0.0.1:0", **variables)
    assert stopped.returncode == 1
    last = "-w or WEB_CONCURRENCY must be a number of processes from 1."
    assert stopped.stderr.splitlines()[-1] == last


@pytest.mark.parametrize(
    "arguments", [("-n", "omnifund"), ("--name=omnifund",), ("-n", "local_omnifund")]
)
def test_a_process_name_does_not_hide_a_bad_configuration(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """K36"""
    stopped = start("app:create_app()", tmp_path, *arguments)
    assert stopped.returncode == 1
    assert stopped.stderr.splitlines()[0] == "The configuration has 2 problems:"


@pytest.mark.parametrize("bind", ["8000", "localhost:http", "localhost:"])
def test_granian_says_where_it_can_listen(tmp_path: Path, bind: str) -> None:
    """K36"""
    stopped = start(GRANIAN, tmp_path, bind, **GOOD)
    assert stopped.returncode == 1
    assert stopped.stderr == "Usage: granian_server.py [HOST:PORT]\n"


@pytest.mark.parametrize("application", ["app:create_app()", GRANIAN])
def test_a_configuration_file_that_is_not_understood_stops_the_start(
    tmp_path: Path, application: str
) -> None:
    """K37"""
    (tmp_path / ".env").write_text(
        "OMNIFUND_ENVIROMENT=production\nPASSWORD_GRANT off\nKEEP_ALIVE=long\n"
    )
    stopped = start(application, tmp_path, **GOOD)
    assert stopped.returncode == 1
    assert stopped.stderr.splitlines() == [
        "The configuration has 3 problems:",
        "  KEEP_ALIVE: must be a whole number",
        "  .env, line 2: is not NAME=value",
        "  OMNIFUND_ENVIROMENT: is not a setting; did you mean OMNIFUND_ENVIRONMENT?",
    ]


def test_a_start_that_fails_later_leaves_nothing_behind_either(
    tmp_path: Path, redis_url: str
) -> None:
    taken = redis_url.rpartition(":")[2]
    stopped = start("app:create_app()", tmp_path, "--bind", f"127.0.0.1:{taken}", **GOOD)
    assert stopped.returncode != 0
    # gunicorn's lines go where all others go, and have their form.
    assert any("in use" in json.loads(line)["event"] for line in stopped.stdout.splitlines())
    assert list(tmp_path.iterdir()) == []


def test_checking_the_configuration_leaves_nothing_behind(tmp_path: Path) -> None:
    assert start("app:create_app()", tmp_path, "--check-config", **GOOD).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_reading_the_configuration_again_keeps_the_counts_and_leaves_nothing_behind(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with fleet(redis_url, workers=2, temporary=str(tmp_path)) as running:
        running.merchant()
        # A reload serves the settings of the start. What the file says by now cannot end it.
        assert running.server.process is not None
        Path(f"/proc/{running.server.process.pid}/cwd/.env").write_text("OMNIFUND_TYPO=1\n")
        running.server.reload()
        merchant = running.merchant()
        counted = 'endpoint="auth.callback",status="303"} 2.0'
        assert counted in merchant.get("/metrics").text
        assert running.server.stop() == 0
    assert [path for path in tmp_path.iterdir() if path.name.startswith("omnifund-app")] == []


def test_a_visitor_cannot_say_below_which_path_the_app_is_mounted(redis_url: str) -> None:
    """G4: gunicorn would believe a header of that name from this machine, where a proxy may run."""
    with fleet(redis_url, workers=1) as running:
        for path, mounted_at in (("/login/password", "/login"), ("/healthz", "/elsewhere")):
            answer = requests.get(
                running.url + path, headers={"SCRIPT_NAME": mounted_at}, timeout=10
            )
            assert answer.status_code == 200, path
            assert "/login/static" not in answer.text


def probe(client: socket.socket) -> None:
    """Send a request over an open connection, and read the whole response."""
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    received = b""
    while not received.endswith(b'{"status":"ok"}\n'):
        received += client.recv(65536)


@pytest.mark.parametrize(
    ("variables", "arguments", "is_kept"),
    [
        ({}, (), True),
        ({"KEEP_ALIVE": "1"}, (), False),
        ({"KEEP_ALIVE": "90"}, ("--keep-alive", "1"), False),
    ],
    ids=["default", "variable", "flag"],
)
def test_an_idle_connection_is_kept_longer_than_a_load_balancer_keeps_it(
    redis_url: str, variables: dict[str, str], arguments: tuple[str, ...], is_kept: bool
) -> None:
    """K52: open after 7 s by default, where gunicorn's default is 2 s and ours was 5 s."""
    with fleet(redis_url, workers=1, variables=variables, arguments=arguments) as running:
        with socket.create_connection(("127.0.0.1", running.server.port)) as client:
            probe(client)
            client.settimeout(7)
            try:
                is_open = client.recv(65536) != b""
            except TimeoutError:
                is_open = True
        assert is_open is is_kept


def test_idle_connections_do_not_delay_a_stop(redis_url: str) -> None:
    """K52, H3: kept connections are closed, not waited for."""
    with fleet(redis_url, workers=1) as alone:
        started = time.monotonic()
        assert alone.server.stop() == 0
        usual = time.monotonic() - started
    with fleet(redis_url, workers=1) as running, contextlib.ExitStack() as clients:
        for _ in range(5):
            client = clients.enter_context(
                socket.create_connection(("127.0.0.1", running.server.port))
            )
            probe(client)
        started = time.monotonic()
        assert running.server.stop() == 0
        assert time.monotonic() - started < usual + 10


def test_a_heartbeat_file_is_not_put_where_it_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In some containers and sandboxes /dev/shm is there for root alone."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(os, "access", lambda path, _mode: not path.endswith("shm"))
    assert "worker_tmp_dir" not in runpy.run_path(str(REPOSITORY / "gunicorn.conf.py"))
