"""The trial: sign in through the proxy, look at the containers, break them, and count."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

from tests.browser.steps import allow, follow, log_in_at_omnifund
from tests.support.browser import ARGUMENTS, find_chromium
from tools.containers.debian import COMPOSE, REPOSITORY, inspect, run
from tools.containers.load import VISITORS, Load, get, load

REPLICAS: Final = 3
OURS: Final = ("omnifund_app_1", "omnifund_app_2", "omnifund_app_3", "omnifund_local-omnifund_1")
VALKEY: Final = "omnifund_valkey_1"
APP_IMAGE: Final = "localhost/omnifund_app"
FROZEN_SECONDS: Final = 40
"""Longer than the proxy waits for a response."""
_FILES: Final = (
    "import pathlib; print(*sorted(p.name for p in pathlib.Path('/srv/app').iterdir()), "
    "*(str(p) for p in pathlib.Path('/').glob('**/site-packages/pip')))"
)
_READ_METRICS: Final = (
    "import urllib.request as r, urllib.error as e, sys\n"
    "q = r.Request('http://omnifund_app_1:8000/metrics', headers=dict([a.split('=') for a in "
    "sys.argv[1:]]))\n"
    "try: print(r.urlopen(q, timeout=5).status)\n"
    "except e.HTTPError as error: print(error.code)\n"
)


class Trial:
    """Everything that is checked, in order; a failed check is told and the next one is made."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.rows: list[str] = []
        self.cookie = ""

    def run(self) -> int:
        """Return the exit status."""
        started = time.monotonic()
        remove_everything()  # of a run that was interrupted
        try:
            print(f"Starting compose.yaml with {REPLICAS} replicas ...", flush=True)
            run(*COMPOSE, "--profile", "local", "up", "-d", "--no-build", f"--scale=app={REPLICAS}")
            self._wait_for("all healthy", lambda: all(map(is_healthy, [*OURS, VALKEY])))
            self._look_at_the_image()
            self._look_at_the_containers()
            self._try_the_metrics()
            self._sign_in()
            self._break_things()
            self._try_without_a_writable_folder()
        finally:
            remove_everything()
        left = run("podman", "ps", "-aq") + run("podman", "volume", "ls", "-q")
        self._check(f"no container and no volume is left {left.split() or ''}", not left.strip())
        print("\n| fault, under load | requests | failed | slowest |\n| --- | --- | --- | --- |")
        print("\n".join(self.rows))
        print(f"\n{len(self.failed)} checks failed, after {time.monotonic() - started:.0f} s.")
        return 1 if self.failed else 0

    def _check(self, what: str, holds: bool) -> None:
        print(f"  {'ok    ' if holds else 'FAILED'} {what}", flush=True)
        if not holds:
            self.failed.append(what)

    def _wait_for(self, what: str, condition: Callable[[], bool], seconds: float = 60) -> None:
        started = time.monotonic()
        while not condition() and time.monotonic() < started + seconds:
            time.sleep(0.2)
        took = time.monotonic() - started
        self._check(f"{what}, after {took:.1f} s", took < seconds)

    # --- what is there ---------------------------------------------------------------------------

    def _look_at_the_image(self) -> None:
        image = inspect(APP_IMAGE)
        size = image["Size"] / 1_000_000
        base = inspect(re.findall(r"^FROM (\S+)", (REPOSITORY / "Dockerfile").read_text(), re.M)[0])
        added = size - base["Size"] / 1_000_000
        self._check(f"the image adds {added:.0f} MB to its base, less than 100", added < 100)
        self._check("its user and group are 10001", image["Config"]["User"] == "10001:10001")
        there = set(run("podman", "exec", OURS[0], "python", "-c", _FILES).split())
        expected = {"__pycache__", "app.py", "cli.py", "config.py", "demo", "doctor.py",
                    "gunicorn.conf.py", "omnifund", "redis_url.py", "static", "templates",
                    "web"}  # fmt: skip
        self._check(f"it holds the app only {there ^ expected or ''}", there == expected)

    def _look_at_the_containers(self) -> None:
        for name in OURS:
            status = run("podman", "exec", name, "cat", "/proc/1/status")
            known = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            safe = (
                known["Uid"].split()[0] == known["Gid"].split()[0] == "10001"
                and int(known["CapEff"], 16) == int(known["CapBnd"], 16) == 0
                and known["NoNewPrivs"] == "1"
            )
            self._check(f"{name}: user 10001, no capabilities, no new privileges", safe)
            touched = run("podman", "exec", name, "touch", "/srv/x", check=False)
            self._check(f"{name}: a read-only root", "Read-only file system" in touched)
            limit = inspect(name)["HostConfig"]["LogConfig"]["Size"]
            self._check(f"{name}: logs of {limit} at most", limit == "10MB")
        ports = inspect(OURS[3])["HostConfig"]["PortBindings"]["9000/tcp"]
        loopback = all(port["HostIp"] == "127.0.0.1" for port in ports)
        self._check("Local OmniFund is published on 127.0.0.1 only", loopback)

    def _try_the_metrics(self) -> None:
        self._check("/metrics through the proxy: 404", get("/metrics") == 404)
        ask = ("podman", "exec", OURS[3], "python", "-c", _READ_METRICS)
        self._check("/metrics from another container: 404", run(*ask).strip() == "404")
        variables = (REPOSITORY / "deploy" / "local.env").read_text()
        (token,) = re.findall(r"^METRICS_TOKEN=(.+)", variables, re.M)
        answer = run(*ask, f"Authorization=Bearer {token}").strip()
        self._check("/metrics from another container with the token: 200", answer == "200")
        doctor = run("podman", "exec", OURS[0], "flask", "--app", "app", "omnifund", "doctor")
        self._check("the doctor is content", "✗" not in doctor and "OmniFund accepts" in doctor)

    def _sign_in(self) -> None:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
            page = browser.new_context(ignore_https_errors=True).new_page()
            page.goto("https://localhost/")
            follow(page.get_by_role("link", name="Sign in with OmniFund"))
            log_in_at_omnifund(page)
            allow(page)
            follow(page.get_by_role("link", name="Customers").first)
            rows = page.get_by_role("row").count()
            cookies = page.context.cookies("https://localhost/")
            browser.close()
        self.cookie = "; ".join(f"{each['name']}={each['value']}" for each in cookies)
        self._check("Chromium signs in through the proxy and reads 30 customers", rows == 31)

    # --- what breaks -----------------------------------------------------------------------------

    def _break_things(self) -> None:
        faults: list[tuple[str, Callable[[], None], int]] = [
            ("none, 10 s", lambda: time.sleep(10), 0),
            (f"one of {REPLICAS} replicas frozen for {FROZEN_SECONDS} s", self._freeze, VISITORS),
            ("one replica killed", self._kill, VISITORS),
            ("all replicas restarted, one after the other", self._roll, 0),
            ("Valkey restarted", self._restart_valkey, 10_000),
        ]
        for name, break_it, allowed in faults:
            with load("/dashboard", self.cookie) as seen:
                break_it()
                self._wait_for(f"{name}: the page again", self._is_there)
            self._tell(name, seen, allowed)

    def _is_there(self) -> bool:
        return get("/dashboard", self.cookie) == 200

    def _tell(self, name: str, seen: Load, allowed: int) -> None:
        self.rows.append(f"| {name} | {seen.row} |")
        self._check(f"{name}: {seen.row}, at most {allowed} failed", seen.failures <= allowed)

    def _freeze(self) -> None:
        for pid in processes(OURS[0]):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(FROZEN_SECONDS)
        for pid in processes(OURS[0]):
            os.kill(pid, signal.SIGCONT)

    def _kill(self) -> None:
        for pid in processes(OURS[1]):
            os.kill(pid, signal.SIGKILL)
        time.sleep(1)
        self._wait_for("the killed replica is started again", lambda: is_healthy(OURS[1]))
        time.sleep(5)

    def _roll(self) -> None:
        for name in OURS[:REPLICAS]:
            run("podman", "restart", "-t", "45", name)
            self._wait_for(f"{name} is restarted", lambda name=name: is_healthy(name))  # type: ignore[misc]  # bound early

    def _restart_valkey(self) -> None:
        run("podman", "restart", "-t", "10", VALKEY)

    def _try_without_a_writable_folder(self) -> None:
        options = ("--rm", "--read-only", "--read-only-tmpfs=false", "--env-file=deploy/local.env")
        told = run(
            "podman", "run", *options, "--env=REDIS_URL=redis://valkey", APP_IMAGE, check=False
        )
        plain = "No folder for temporary files" in told and "Traceback" not in told
        self._check(f"without a writable /tmp: {told.strip().splitlines()[-1:]}", plain)


def remove_everything() -> None:
    """Remove the containers, each before the ones that it depends on, volumes, and networks."""
    for name in ("omnifund_proxy_1", *OURS, VALKEY):
        run("podman", "rm", "-f", "-t", "0", name, check=False)
    run("podman", "volume", "prune", "-f", check=False)
    run("podman", "network", "prune", "-f", check=False)


def is_healthy(name: str) -> bool:
    """Run a container's own health check. (A machine without systemd does not run it by itself.)"""
    command = ["podman", "healthcheck", "run", name]
    return subprocess.run(command, capture_output=True).returncode == 0


def processes(name: str) -> list[int]:
    """Return the processes of a container, the first one last."""
    first = int(inspect(name)["State"]["Pid"])
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return [*map(int, children), first]
