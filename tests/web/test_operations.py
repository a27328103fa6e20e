"""What operators rely on: metrics over several workers, an orderly stop, a restart under load."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.faults import provider as kit
from tests.support.processes import wait_until
from tests.support.rig import Merchant, Rig, fleet
from tests.support.valkey import ValkeyServer


def metric(running: Rig, name: str) -> float:
    text = requests.get(f"{running.url}/metrics", timeout=5).text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def test_metrics_add_up_over_all_workers(redis_url: str) -> None:
    """H4"""
    with fleet(redis_url, workers=4) as running:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: Merchant(running).sign_in(), range(40)))
        signed_in = 'omnifund_events_total{event="sign_in:attempt:succeeded",outcome=""}'
        for _ in range(8):
            assert metric(running, signed_in) == 40
        count = 'omnifund_token_request_seconds_count{grant="authorization_code"}'
        assert metric(running, count) == 40
        assert metric(running, "omnifund_redis_seconds_count") >= 80


def test_a_refusal_is_counted_by_its_outcome(redis_url: str) -> None:
    """H4"""
    with fleet(redis_url, workers=1) as running:
        running.provider.next_token_answer(kit.json_answer({"error": "invalid_client"}, 400))
        Merchant(running).sign_in()
        name = 'omnifund_events_total{event="token:request:answered",outcome="ClientMisconfigured"}'
        assert metric(running, name) == 1


def test_every_request_is_one_json_line_with_an_id_and_no_query(redis_url: str) -> None:
    """D2, G7"""
    with fleet(redis_url, workers=1) as running:
        answer = requests.get(f"{running.url}/callback?code=some-code&state=some-state", timeout=5)
        log = running.server.log if running.server else ""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    (line,) = [each for each in lines if each["event"] == "http:request:answered"
               and each["path"] == "/callback"]  # fmt: skip
    assert line["request_id"] == answer.headers["X-Request-ID"]
    assert (line["method"], line["status"]) == ("GET", 400)
    assert "some-code" not in log
    assert "some-state" not in log


@pytest.mark.parametrize(("level", "is_told"), [("INFO", True), ("ERROR", False)])
def test_gunicorns_own_lines_look_like_the_others(
    redis_url: str, level: str, is_told: bool
) -> None:
    """G7"""
    with fleet(redis_url, workers=1, log_level=level) as running:
        assert running.server is not None
        assert running.server.stop() == 0
        events = [json.loads(line)["event"] for line in running.server.log.splitlines()]
    assert any("Listening at" in event for event in events) is is_told
    assert any("Shutting down" in event for event in events) is is_told


def test_an_access_log_that_an_operator_turns_on_holds_no_query_either(redis_url: str) -> None:
    """D2"""
    arguments = ("--access-logfile", "-", "--log-level", "debug")
    with fleet(redis_url, workers=1, arguments=arguments) as running:
        requests.get(
            f"{running.url}/callback?code=some-code&state=some-state",
            headers={"Referer": "https://omnifund.example/?code=some-code"},
            timeout=5,
        )
        server = running.server
        assert server is not None
        # gunicorn writes the line after the answer has gone out.
        wait_until(lambda: '"GET /callback" 400' in server.log, what="the access log")
        log = server.log
    assert "some-code" not in log
    assert "some-state" not in log


def test_sign_in_refresh_and_sign_out_are_audit_events_with_a_hashed_session(
    redis_url: str,
) -> None:
    """G7"""
    with fleet(redis_url, workers=1) as running:
        merchant = running.merchant()
        handle = merchant.session_id
        merchant.press("/token/refresh")
        merchant.press("/logout")
        log = running.server.log if running.server else ""
    for event in ("sign_in:attempt:succeeded", "token:refresh:succeeded", "sign_out:session:ended"):
        (line,) = [json.loads(each) for each in log.splitlines() if f'"event": "{event}"' in each]
        hashed = line.get("session") or line.get("handle")
        assert re.fullmatch(r"[A-Za-z0-9_-]{22}", hashed)
        assert line["request_id"]
    assert handle not in log


def test_a_stop_is_announced_lets_requests_finish_and_exits_with_0(redis_url: str) -> None:
    """H3"""
    with fleet(redis_url, workers=2) as running:
        merchant = running.merchant()
        release = threading.Event()
        honest = kit.json_answer({"hydra:member": []})
        running.provider.next_api_answer(kit.hold(release, honest))
        with ThreadPoolExecutor(1) as pool:
            under_way = pool.submit(merchant.get, "/customers")
            running.provider.wait_for("/api/customers")
            assert running.server is not None
            assert running.server.process is not None
            assert requests.get(f"{running.url}/readyz", timeout=5).status_code == 200
            running.server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: unready(running), seconds=2, what="being unready")
            # Still there for whoever has not noticed yet.
            assert requests.get(f"{running.url}/healthz", timeout=5).status_code == 200
            wait_until(lambda: refuses(running), seconds=5, what="the server to turn away")
            release.set()
            assert under_way.result().status_code == 200
        assert running.server.process.wait(timeout=20) == 0


def unready(running: Rig) -> bool:
    return requests.get(f"{running.url}/readyz", timeout=5).status_code == 503


def refuses(running: Rig) -> bool:
    """Nobody accepts any more; a connection may still wait in the kernel's queue."""
    try:
        requests.get(f"{running.url}/healthz", timeout=0.5)
    except requests.RequestException:
        return True
    return False


def test_workers_are_replaced_under_load_without_a_failed_request(redis_url: str) -> None:
    """H3: SIGHUP starts new workers and lets the old ones finish."""
    with fleet(redis_url, workers=2) as running:
        merchant = running.merchant()
        cookie = {"Cookie": f"omnifund_session={merchant.session_id}"}
        stop = threading.Event()
        statuses: list[int] = []

        def visit() -> None:
            while not stop.is_set():
                # A connection for each request, as a proxy without keep-alive makes them: a kept
                # one may be closed by its worker at the very moment when it is used again.
                url = f"{running.url}/dashboard"
                statuses.append(
                    requests.get(url, headers={**cookie, "Connection": "close"}, timeout=30)
                    .status_code
                )  # fmt: skip

        visitors = [threading.Thread(target=visit) for _ in range(4)]
        for visitor in visitors:
            visitor.start()
        assert running.server is not None
        assert running.server.process is not None
        before = set(running.server.worker_pids())
        running.server.process.send_signal(signal.SIGHUP)

        def replaced() -> bool:
            assert running.server is not None
            now = set(running.server.worker_pids())
            return len(now) == 2 and not now & before

        wait_until(replaced, seconds=30, what="new workers")
        seen = len(statuses)
        wait_until(lambda: len(statuses) > seen + 50, seconds=30, what="more visits")
        stop.set()
        for visitor in visitors:
            visitor.join()
    assert set(statuses) == {200}


def test_nothing_is_left_behind_by_a_stop(redis_url: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path))
        with fleet(redis_url, workers=2, temporary=str(tmp_path)) as running:
            running.merchant()
            assert any(tmp_path.iterdir())
            assert running.server is not None
            assert running.server.stop() == 0
    assert [path for path in tmp_path.iterdir() if path.name.startswith("omnifund-app")] == []


def test_a_silent_redis_does_not_hold_everybody_up(redis_url: str, valkey: ValkeyServer) -> None:
    """F5: a hundred pages at once, with a few threads, and all are answered soon."""
    with fleet(redis_url, workers=2) as running:
        merchant = running.merchant()
        valkey.pause()
        try:
            started = time.monotonic()
            answers = merchant.at_once("/dashboard", 100)
            took = time.monotonic() - started
        finally:
            valkey.resume()
        assert {answer.status_code for answer in answers} == {503}
        assert took < 2
        assert merchant.get("/dashboard").status_code == 200
