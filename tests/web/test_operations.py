"""What operators rely on: metrics over several workers, an orderly stop, a restart under load."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from omnifund.events import Event
from tests.faults import provider as kit
from tests.support.merchant import Merchant
from tests.support.processes import wait_until
from tests.support.rig import Rig, fleet
from tests.support.servers import REPOSITORY
from tests.support.stack import running_stack
from tests.support.valkey import ValkeyServer


def metric(running: Rig, name: str) -> float:
    text = requests.get(f"{running.url}/metrics", timeout=5).text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


@pytest.mark.usefixtures("both_servers")
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


@pytest.mark.usefixtures("both_servers")
def test_a_refusal_is_counted_by_its_outcome(redis_url: str) -> None:
    """H4"""
    with fleet(redis_url, workers=1) as running:
        running.provider.next_token_answer(kit.json_answer({"error": "invalid_client"}, 400))
        Merchant(running).sign_in()
        name = 'omnifund_events_total{event="token:request:answered",outcome="ClientMisconfigured"}'
        assert metric(running, name) == 1


@pytest.mark.usefixtures("both_servers")
def test_every_request_is_one_json_line_with_an_id_and_no_query(redis_url: str) -> None:
    """D2, G7"""
    with fleet(redis_url, workers=1) as running:
        answer = requests.get(f"{running.url}/callback?code=some-code&state=some-state", timeout=5)
        # A thread writes the lines.
        wait_until(lambda: '"path": "/callback"' in running.server.log, what="the line")
        log = running.server.log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    (line,) = [each for each in lines if each["event"] == "http:request:answered"
               and each["path"] == "/callback"]  # fmt: skip
    assert line["request_id"] == answer.headers["X-Request-ID"]
    assert (line["method"], line["status"]) == ("GET", 400)
    assert "some-code" not in log
    assert "some-state" not in log


def series(running: Rig, prefix: str) -> dict[str, float]:
    """The series whose name begins with ``prefix``, with their values."""
    text = requests.get(f"{running.url}/metrics", timeout=5).text
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith(prefix))
    return {name: float(value) for name, _, value in lines}


@pytest.mark.usefixtures("both_servers")
def test_every_known_series_exists_at_0(redis_url: str) -> None:
    """K48: the first denial is an increase, and not a series that has just begun."""
    with fleet(redis_url, workers=2) as running:
        events = series(running, "omnifund_events_total")
        assert set(events.values()) == {0}
        assert {re.search('event="(.*?)"', name)[1] for name in events} == set(Event)  # type: ignore[index]  # each has one
        responses = series(running, "omnifund_http_responses_total")
        for endpoint in ("pages.dashboard", "auth.callback", "pages.refresh"):
            for status in (200, 303, 429, 500, 503):
                name = f'{{endpoint="{endpoint}",status="{status}"}}'
                assert responses[f"omnifund_http_responses_total{name}"] == 0
        # What then happens is in the series that were there.
        merchant = running.merchant()
        merchant.post_form("/token/refresh")
        merchant.post_form("/logout")
        merchant.get("/callback?state=x&code=y")
        for error in ("access_denied", "server_error"):
            denied = Merchant(running)
            state = parse_qs(urlsplit(denied.get("/login").headers["Location"]).query)["state"][0]
            denied.get(f"/callback?error={error}&state={state}")
        running.provider.next_token_answer(kit.json_answer({"error": "invalid_grant"}, 400))
        Merchant(running).sign_in()
        later = series(running, "omnifund_events_total")
        assert set(later) == set(events)
        assert sum(value > 0 for value in later.values()) >= 9


@pytest.mark.usefixtures("both_servers")
def test_the_apps_own_latency_is_measured_by_endpoint(redis_url: str) -> None:
    """H4"""
    with fleet(redis_url, workers=2) as running:
        merchant = running.merchant()
        for _ in range(5):
            merchant.get("/customers")
        requests.get(f"{running.url}/{'x' * 20}", timeout=5)
        counts = series(running, "omnifund_http_request_seconds_count")
        assert counts['omnifund_http_request_seconds_count{endpoint="pages.customers"}'] == 5
        assert counts['omnifund_http_request_seconds_count{endpoint="none"}'] == 1


@pytest.mark.usefixtures("both_servers")
def test_reads_of_the_api_are_counted_and_timed(redis_url: str) -> None:
    """H4"""
    with fleet(redis_url, workers=2) as running:
        merchant = running.merchant()
        for _ in range(3):
            merchant.get("/customers")
        running.provider.next_api_answer(kit.json_answer({}, 500))
        merchant.get("/transactions")
        name = "omnifund_api_request_seconds_count"
        assert metric(running, f'{name}{{resource="customers"}}') == 3
        assert metric(running, f'{name}{{resource="transactions-history"}}') == 1
        events = series(running, 'omnifund_events_total{event="api:request:answered"')
        assert {name.split('"')[3]: n for name, n in events.items() if n} == {
            "read": 3,
            "OmniFundUnavailable": 1,
        }


def test_workers_threads_and_busy_threads_are_told_also_after_a_crash_and_a_reload(
    redis_url: str,
) -> None:
    """H4: a killed worker is busy no longer; its successor begins idle."""
    with fleet(redis_url, workers=2) as running:
        server, release = running.server, threading.Event()
        merchant = running.merchant()
        # gunicorn serves before its last worker has begun.
        wait_until(lambda: metric(running, "omnifund_threads") == 128, what="two workers")
        assert metric(running, "omnifund_workers") == 2
        assert metric(running, "omnifund_threads_busy") == 1
        running.provider.next_api_answer(*[kit.hold(release, kit.json_answer({}))] * 4)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(merchant.in_parallel, "/customers", 4)
            wait_until(
                lambda: len(running.provider.received("/api/customers")) == 4, what="four requests"
            )
            assert metric(running, "omnifund_threads_busy") == 5
            before = set(server.worker_pids())
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            release.set()
            assert waiting.exception() is not None

        server.wait_for_workers_beside(before)
        wait_until(lambda: metric(running, "omnifund_workers") == 2, what="their gauges")
        assert metric(running, "omnifund_threads_busy") == 1
        server.reload()
        wait_until(lambda: metric(running, "omnifund_threads") == 128, what="their gauges")


@pytest.mark.usefixtures("both_servers")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_worker_that_is_killed_or_hangs_is_replaced(redis_url: str, how: signal.Signals) -> None:
    """H3: and the other one serves in the meantime, where both listen on one socket."""
    with fleet(redis_url, workers=2, variables={"WORKER_TIMEOUT": "3"}) as running:
        server = running.server
        merchant = running.merchant()
        wait_until(lambda: len(server.worker_pids()) == 2, what="both workers")
        before = server.worker_pids()
        os.kill(before[0], how)

        def replaced() -> bool:
            now = server.worker_pids()
            return len(now) == 2 and before[0] not in now and before[1] in now

        wait_until(replaced, seconds=30, what="a new worker")
        wait_until(lambda: metric(running, "omnifund_workers") == 2, what="its gauges")
        assert {page.status_code for page in merchant.in_parallel("/dashboard", 20)} == {200}
        assert server.stop() == 0


@pytest.mark.usefixtures("both_servers")
def test_the_code_that_runs_is_told(redis_url: str) -> None:
    """H4: so that a half-finished deployment can be seen."""
    with fleet(redis_url, workers=2) as running:
        ((name, value),) = series(running, "omnifund_build_info").items()
    assert re.fullmatch(r'omnifund_build_info{code="[0-9a-f]{12}",python="3[0-9.]+"}', name)
    assert value == 1


@pytest.mark.parametrize(
    "header",
    [
        {"X-Forwarded-For": "192.0.2.1"},
        {"X-Forwarded-Proto": "https"},
        {"X-Forwarded-Host": "localhost"},
        {"X-Real-IP": "192.0.2.1"},
        {"Forwarded": "for=192.0.2.1"},
        {"Via": "1.1 proxy"},
    ],
    ids=lambda header: next(iter(header)),
)
def test_what_a_proxy_on_this_machine_forwards_is_not_local(
    redis_url: str, header: dict[str, str]
) -> None:
    """K44: with ``TRUSTED_PROXIES=0`` and with 1."""
    for proxies in (0, 1):
        with running_stack(redis_url, trusted_proxies=proxies) as stack:
            client = stack.app.test_client()
            assert client.get("/metrics").status_code == 200
            assert client.get("/metrics", headers=header).status_code == 404


@pytest.mark.parametrize(
    ("metrics", "token", "sent", "remote", "status"),
    [
        ("local", "", None, "::1", 200),
        ("local", "", None, "127.0.0.2", 200),
        ("local", "", None, "192.0.2.7", 404),
        ("local", "", None, "", 404),
        ("local", "", "Bearer ", "192.0.2.7", 404),
        ("local", "a-token-of-some-length", "Bearer a-token-of-some-length", "192.0.2.7", 200),
        ("local", "a-token-of-some-length", "bearer  a-token-of-some-length", "192.0.2.7", 200),
        ("local", "a-token-of-some-length", "Bearer a-tokem-of-some-length", "192.0.2.7", 404),
        ("local", "a-token-of-some-length", "Bearer a-token-of-some-length-", "192.0.2.7", 404),
        ("local", "a-token-of-some-length", "Bearer \xe9", "192.0.2.7", 404),
        ("local", "a-token-of-some-length", "Basic a-token-of-some-length", "192.0.2.7", 404),
        ("local", "a-token-of-some-length", None, "192.0.2.7", 404),
        ("local", "a-token-of-some-length", None, "127.0.0.1", 200),
        ("public", "", None, "192.0.2.7", 200),
        ("off", "", None, "127.0.0.1", 404),
        ("off", "a-token-of-some-length", "Bearer a-token-of-some-length", "127.0.0.1", 404),
    ],
)
def test_who_may_read_the_metrics(
    redis_url: str, metrics: str, token: str, sent: str | None, remote: str, status: int
) -> None:
    """H4, P5"""
    with running_stack(redis_url, metrics=metrics, metrics_token=token) as stack:
        response = stack.app.test_client().get(
            "/metrics",
            headers={"Authorization": sent} if sent else {},
            environ_base={"REMOTE_ADDR": remote},
        )
        assert response.status_code == status
        assert not token or token not in response.text


def test_a_proxy_may_forward_a_scrape_that_has_the_token(redis_url: str) -> None:
    """K44"""
    with running_stack(redis_url, metrics_token="a-token-of-some-length") as stack:
        headers = {"Authorization": "Bearer a-token-of-some-length", "X-Forwarded-For": "192.0.2.7"}
        assert stack.app.test_client().get("/metrics", headers=headers).status_code == 200


def metrics_folder(temporary: Path) -> Path:
    (folder,) = (path for path in temporary.iterdir() if path.name.startswith("omnifund-app"))
    return folder


@pytest.mark.parametrize("kind", ["the folder", "its files", "the folder above"])
def test_metrics_go_on_when_their_files_have_been_removed(
    redis_url: str, tmp_path: Path, kind: str
) -> None:
    """K47: a cleaner of ``/tmp``; then SIGHUP, and a stop that says that all is well."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with fleet(redis_url, workers=2, temporary=str(temporary)) as running:
        server = running.server
        running.merchant()
        wait_until(lambda: metric(running, "omnifund_workers") == 2, what="both workers' files")
        folder = metrics_folder(temporary)
        if kind == "its files":
            for path in folder.iterdir():
                path.unlink()
        else:
            shutil.rmtree(folder if kind == "the folder" else temporary)
        landing = 'omnifund_http_responses_total{endpoint="pages.landing",status="200"}'

        def is_counted() -> bool:
            assert requests.get(running.url, timeout=5).status_code == 200
            assert requests.get(f"{running.url}/metrics", timeout=5).status_code == 200
            return metric(running, landing) > 0

        wait_until(is_counted, what="a count")
        server.reload()
        count = metric(running, landing)
        assert requests.get(running.url, timeout=5).status_code == 200
        assert metric(running, landing) == count + 1
        shutil.rmtree(folder)
        assert server.stop() == 0
    assert not folder.exists()


def test_without_a_place_for_metrics_the_app_serves_and_stops(
    redis_url: str, tmp_path: Path
) -> None:
    """K47: the folder has become a file, so it cannot be made again."""
    with fleet(redis_url, workers=2, temporary=str(tmp_path)) as running:
        server = running.server
        wait_until(lambda: metric(running, "omnifund_workers") == 2, what="both workers' files")
        folder = metrics_folder(tmp_path)
        shutil.rmtree(folder)
        folder.write_text("")
        for _ in range(2):
            assert running.merchant().get("/dashboard").status_code == 200
            assert requests.get(f"{running.url}/metrics", timeout=5).status_code == 503
            server.reload()
        assert server.stop() == 0


def test_the_files_of_ended_workers_do_not_pile_up_and_their_counts_stay(
    redis_url: str, tmp_path: Path
) -> None:
    """K47: a worker that is replaced often, by itself and by a kill."""
    often = ("--max-requests", "10", "--max-requests-jitter", "0")
    with fleet(redis_url, workers=2, temporary=str(tmp_path), arguments=often) as running:
        server = running.server
        landing = 'omnifund_http_responses_total{endpoint="pages.landing",status="200"}'
        seen = set(server.worker_pids())
        headers = {"Connection": "close"}
        visits = 0
        while len(seen) < 8:
            assert requests.get(running.url, headers=headers, timeout=20).status_code == 200
            visits += 1
            seen |= set(server.worker_pids())
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        wait_until(lambda: bool(set(server.worker_pids()) - seen), what="another worker")
        assert metric(running, landing) == visits
        names = sorted(path.name for path in metrics_folder(tmp_path).glob("*.db"))
    # Two, and two for gauges, for each of two workers, and as many for the master process.
    assert len(names) <= 12, names


# --- log lines ---------------------------------------------------------------------------------


@contextlib.contextmanager
def broken_output(kind: str) -> Iterator[int]:
    """A standard output that takes no line: on a full disk, a closed pipe, an idle reader."""
    if kind == "full disk":
        with Path("/dev/full").open("wb", buffering=0) as full:
            yield full.fileno()
        return
    reading, writing = os.pipe()
    if kind == "closed pipe":
        os.close(reading)
    yield writing
    os.close(writing)
    if kind == "idle reader":
        os.close(reading)


@pytest.mark.parametrize("kind", ["full disk", "closed pipe", "idle reader"])
@pytest.mark.parametrize("variables", [{}, {"LOG_FORMAT": "console"}, {"PYTHONUNBUFFERED": ""}])
def test_an_output_that_takes_no_line_loses_the_line_and_not_the_request(
    redis_url: str, kind: str, variables: dict[str, str]
) -> None:
    """K45: 400 long lines fill a pipe several times; SIGHUP and SIGTERM work as ever."""
    with (
        broken_output(kind) as output,
        fleet(redis_url, workers=2, stdout=output, variables=variables) as running,
    ):
        server = running.server
        long = "x" * 1000

        def visit(number: int) -> int:
            path = "/healthz" if number % 4 == 0 else f"/{long}"
            return requests.get(running.url + path, timeout=10).status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(visit, range(400)))
        assert statuses == [200, 404, 404, 404] * 100
        assert running.merchant().get("/dashboard").status_code == 200
        server.reload()
        assert requests.get(f"{running.url}/{long}", timeout=10).status_code == 404
        assert server.stop() == 0
        # Nor does a report about the output fill standard error.
        assert server.log.count("\n") < 20, server.log


def test_every_line_is_json_also_after_the_configuration_has_been_read_again(
    redis_url: str,
) -> None:
    """K46: SIGHUP, twice, and then a stop."""
    with fleet(redis_url, workers=2) as running:
        server = running.server
        for _ in range(2):
            server.reload()
        requests.get(f"{running.url}/after", timeout=10)
        assert server.stop() == 0
        events = [json.loads(line) for line in server.log.splitlines()]
    told = [event["event"] for event in events]
    # gunicorn's word, and granian's.
    assert sum("Hang up" in each or "HUP" in each for each in told) == 2
    assert sum("/readyz returns 503 from now on" in each for each in told) == 1
    assert any("Shutting down" in each for each in told)
    assert any(event.get("path") == "/after" for event in events)


@pytest.mark.usefixtures("both_servers")
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/%1b%5b31mred", r"/\x1b[31mred"),
        ("/a%0ab%0d", r"/a\nb\r"),
        ("/%c2%9b31m", r"/\x9b31m"),
        ("/%e2%80%aecba", r"/\u202ecba"),
        ("/caf%c3%a9", "/caf\\xe9"),
        ("/%f0%9f%99%82", "/\\U0001f642"),
    ],
)
def test_the_console_format_escapes_what_a_terminal_would_obey(
    redis_url: str, path: str, shown: str
) -> None:
    """K49: with a standard output in ASCII, which cannot hold every character either."""
    variables = {"LOG_FORMAT": "console", "PYTHONIOENCODING": "ascii"}
    with fleet(redis_url, workers=1, variables=variables) as running:
        assert requests.get(running.url + path, timeout=10).status_code == 404
        server = running.server
        wait_until(lambda: shown in server.log, what="the line")
        assert all(each in "\n\t" or each.isprintable() for each in server.log)


@pytest.mark.usefixtures("both_servers")
def test_successful_probes_are_not_logged(redis_url: str, valkey: ValkeyServer) -> None:
    """P6: probes each second would hide everything else; one that fails is worth a line."""
    with fleet(redis_url, workers=1) as running:
        for path in ("/healthz", "/readyz", "/healthz/"):
            requests.get(running.url + path, timeout=10)
        valkey.pause()
        try:
            assert requests.get(f"{running.url}/readyz", timeout=10).status_code == 503
        finally:
            valkey.resume()
        server = running.server
        wait_until(lambda: '"status": 503' in server.log, what="the line")
        events = [json.loads(line) for line in server.log.splitlines()]
    paths = [each["path"] for each in events if each["event"] == "http:request:answered"]
    assert paths == ["/healthz/", "/readyz"]


@pytest.mark.usefixtures("both_servers")
@pytest.mark.parametrize(("level", "is_told"), [("INFO", True), ("ERROR", False)])
def test_gunicorns_own_lines_look_like_the_others(
    redis_url: str, level: str, is_told: bool
) -> None:
    """G7"""
    with fleet(redis_url, workers=1, log_level=level) as running:
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
        # gunicorn writes the line after the answer has gone out.
        wait_until(lambda: '"GET /callback" 400' in server.log, what="the access log")
        log = server.log
    assert "some-code" not in log
    assert "some-state" not in log


@pytest.mark.usefixtures("both_servers")
def test_sign_in_refresh_and_sign_out_are_audit_events_with_a_hashed_session(
    redis_url: str,
) -> None:
    """G7"""
    with fleet(redis_url, workers=1) as running:
        merchant = running.merchant()
        handle = merchant.session_id
        merchant.post_form("/token/refresh")
        merchant.post_form("/logout")
        wait_until(lambda: '"path": "/logout"' in running.server.log, what="the last line")
        log = running.server.log
    for event in ("sign_in:attempt:succeeded", "token:refresh:succeeded", "sign_out:session:ended"):
        (line,) = [json.loads(each) for each in log.splitlines() if f'"event": "{event}"' in each]
        hashed = line.get("session") or line.get("handle")
        assert re.fullmatch(r"[A-Za-z0-9_-]{22}", hashed)
        assert line["request_id"]
    assert handle not in log


@pytest.mark.usefixtures("both_servers")
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
            assert requests.get(f"{running.url}/readyz", timeout=5).status_code == 200
            running.server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: unready(running), seconds=2, what="being unready")
            # Still there for whoever has not noticed yet.
            assert requests.get(f"{running.url}/healthz", timeout=5).status_code == 200
            wait_until(lambda: refuses(running), seconds=5, what="the server to turn away")
            release.set()
            assert under_way.result().status_code == 200
        assert running.server.process.wait(timeout=20) == 0


@pytest.mark.usefixtures("both_servers")
def test_a_stop_waits_for_a_request_whose_client_has_gone(redis_url: str) -> None:
    """E9: OmniFund has replaced the tokens, so the new ones have to be stored."""
    with fleet(redis_url, workers=1) as running:
        merchant, release = running.merchant(), threading.Event()
        running.provider.revoke_access_tokens()
        new = {"access_token": "new", "refresh_token": "new-too", "token_type": "bearer"}
        running.provider.next_token_answer(kit.hold(release, kit.json_answer(new)))
        with socket.create_connection(("127.0.0.1", running.server.port), timeout=5) as client:
            cookie = f"Cookie: omnifund_session={merchant.session_id}"
            lines = ["GET /customers HTTP/1.1", "Host: localhost", cookie, "", ""]
            client.sendall("\r\n".join(lines).encode())
            running.provider.wait_for("/oauth/v2/token", 2)
        running.server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(running), seconds=5, what="the server to turn away")
        release.set()
        assert running.server.process.wait(timeout=20) == 0
        assert merchant.stored.token.access_token == "new"
        assert '"path": "/customers"' in running.server.log


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
        running.server.reload()
        seen = len(statuses)
        wait_until(lambda: len(statuses) > seen + 50, seconds=30, what="more visits")
        stop.set()
        for visitor in visitors:
            visitor.join()
    assert set(statuses) == {200}


@pytest.mark.usefixtures("both_servers")
def test_nothing_is_left_behind_by_a_stop(redis_url: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path))
        with fleet(redis_url, workers=2, temporary=str(tmp_path)) as running:
            running.merchant()
            assert any(tmp_path.iterdir())
            assert running.server.stop() == 0
    assert [path for path in tmp_path.iterdir() if path.name.startswith("omnifund-app")] == []


@pytest.mark.usefixtures("both_servers")
def test_a_silent_redis_does_not_hold_everybody_up(redis_url: str, valkey: ValkeyServer) -> None:
    """F5: a hundred pages at once, and they wait for one timeout, not one after the other."""
    with fleet(redis_url, workers=2) as running:
        merchant = running.merchant()

        def pages() -> tuple[set[int], float]:
            started = time.monotonic()
            answers = merchant.in_parallel("/dashboard", 100)
            return {answer.status_code for answer in answers}, time.monotonic() - started

        def is_in_time() -> bool:
            wait_until(lambda: pages()[0] == {200}, what="every worker to serve")
            _, usual = pages()
            valkey.pause()
            try:
                statuses, took = pages()
            finally:
                valkey.resume()
            assert statuses == {503}
            return took < usual + 2

        # Other work on this machine can only add to what it takes.
        assert sum(is_in_time() for _ in range(3)) >= 2
        assert merchant.get("/dashboard").status_code == 200


@pytest.mark.usefixtures("both_servers")
def test_a_probe_waits_for_a_thread_no_longer_than_the_documents_say(redis_url: str) -> None:
    """K51: OmniFund is silent, and all 64 threads of the only worker are busy."""
    with fleet(redis_url, workers=1, variables={"OMNIFUND_READ_TIMEOUT": "2"}) as running:
        merchant, resume = running.merchant(), threading.Event()
        running.provider.next_api_answer(*[kit.hold(resume, kit.json_answer({}))] * 150)
        with ThreadPoolExecutor(1) as pool:
            visitors = pool.submit(merchant.in_parallel, "/customers", 72, timeout=60)
            wait_until(
                lambda: len(running.provider.received("/api/customers")) >= 63,
                what="the requests that OmniFund holds",
            )
            assert requests.get(f"{running.url}/healthz", timeout=10).status_code == 200
            resume.set()
            assert {page.status_code for page in visitors.result()} <= {200, 502, 504}
    assert "allow it 10 s" in (REPOSITORY / "docs" / "deploying.md").read_text()
