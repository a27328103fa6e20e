"""The alert rules on scrapes of the running app, and the dashboard on a running Prometheus."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
import yaml

from tests.faults import provider as kit
from tests.faults.network import TcpProxy
from tests.support.merchant import Merchant
from tests.support.processes import die_with_parent, free_port, wait_until
from tests.support.programs import clean_environment
from tests.support.rig import Fleet, fleet
from tests.support.servers import REPOSITORY
from tests.support.valkey import ValkeyServer

ALERTS = REPOSITORY / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((REPOSITORY / "deploy" / "grafana" / "dashboard.json").read_text())
MINUTES_BEFORE, MINUTES_OF_FAULT, MINUTES_AFTER = 10, 40, 60
THREADS = 5


@dataclass
class Watched:
    """An app that can be broken, and what a scrape of it says."""

    rig: Fleet
    network: TcpProxy
    merchant: Merchant
    scrapes: list[dict[str, float]] = field(default_factory=list)

    def scrape(self) -> dict[str, float]:
        """Every series of the app, as Prometheus would store it."""
        labels = 'instance="app:8000",job="omnifund"'
        up = f"up{{{labels}}}"
        try:
            text = requests.get(f"{self.rig.url}/metrics", timeout=10).text
        except requests.ConnectionError:
            return {up: 0}
        series = {up: 1.0}
        for line in text.splitlines():
            if found := re.fullmatch(r"(omnifund_\w+)(?:{(.*)})? (\S+)", line):
                name, own, value = found.groups()
                series[f"{name}{{{own + ',' if own else ''}{labels}}}"] = float(value)
        return series


# --- what each alert is for ----------------------------------------------------------------------


def no_response(watched: Watched) -> None:
    assert watched.rig.server.stop() == 0


def client_rejected(watched: Watched) -> None:
    watched.rig.provider.next_token_answer(kit.json_answer({"error": "invalid_client"}, 400))
    Merchant(watched.rig).sign_in()


def refresh_unsaved(watched: Watched) -> None:
    """Redis goes away while OmniFund makes the new tokens."""
    granted = threading.Event()
    token = {"access_token": "a" * 20, "refresh_token": "r" * 20, "expires_in": 3600}
    answer = kit.json_answer({**token, "token_type": "bearer"})
    watched.rig.provider.next_token_answer(kit.hold(granted, answer))
    before = len(watched.rig.provider.received("/oauth/v2/token"))
    form = {"csrf_token": watched.merchant.csrf_token()}
    pressed = threading.Thread(target=watched.merchant.post, args=("/token/refresh", form))
    pressed.start()
    wait_until(lambda: len(watched.rig.provider.received("/oauth/v2/token")) > before, what="it")
    watched.network.refuse()
    granted.set()
    pressed.join()
    watched.network.accept()


def redis_away(watched: Watched) -> None:
    watched.network.refuse()
    for _ in range(10):
        watched.merchant.get("/dashboard")
    watched.network.accept()


def records_altered(watched: Watched) -> None:
    other = watched.rig.merchant()
    with redis.Redis.from_url(watched.rig.settings.redis_url.get_secret_value()) as client:
        for key in client.keys("omnifund:*:token"):
            client.set(key, "altered")
    other.get("/dashboard")


def token_endpoint_fails(watched: Watched) -> None:
    for _ in range(5):
        watched.rig.provider.next_token_answer(kit.close_without_answer())
        Merchant(watched.rig).sign_in()


def api_fails(watched: Watched) -> None:
    merchant = watched.rig.merchant()
    watched.rig.provider.next_api_answer(*[kit.json_answer({}, 500)] * 5)
    for _ in range(5):
        assert merchant.get("/customers").status_code == 503


def api_fails_once(watched: Watched) -> None:
    """One of a night's few pages."""
    watched.rig.provider.next_api_answer(kit.json_answer({}, 500))
    assert watched.merchant.get("/customers").status_code == 503
    for _ in range(3):
        assert watched.merchant.get("/customers").status_code == 200


def api_is_slow(watched: Watched) -> None:
    """Longer than two seconds, in all threads but the one that serves the scrape."""
    merchant, told = watched.rig.merchant(), kit.json_answer({"hydra:member": []})
    watched.rig.provider.next_api_answer(*[kit.slow(told, 2.6)] * (THREADS - 1))
    merchant.in_parallel("/customers", THREADS - 1)


def threads_busy(watched: Watched) -> None:
    """The app is scraped while it is busy."""
    merchant, release = watched.rig.merchant(), threading.Event()
    told = kit.json_answer({"hydra:member": []})
    watched.rig.provider.next_api_answer(*[kit.hold(release, told)] * (THREADS - 1))
    before = len(watched.rig.provider.received("/api/customers"))
    visits = threading.Thread(target=merchant.in_parallel, args=("/customers", THREADS - 1))
    visits.start()
    wait_until(
        lambda: len(watched.rig.provider.received("/api/customers")) == before + THREADS - 1,
        what="busy threads",
    )
    watched.scrapes.append(watched.scrape())
    release.set()
    visits.join()


def other_code(watched: Watched) -> None:
    """A second server, with the code of another day."""
    after = watched.scrape()
    (build,) = [name for name in after if name.startswith("omnifund_build_info")]
    other = re.sub('code="[0-9a-f]+"', 'code="000000000000"', build).replace("app:", "other:")
    watched.scrapes.append({**after, other: 1.0})


FAULTS: dict[str, Callable[[Watched], None]] = {
    "OmniFundClientRejected": client_rejected,
    "OmniFundRefreshUnsaved": refresh_unsaved,
    "OmniFundRedisFailing": redis_away,
    "OmniFundRecordsUnreadable": records_altered,
    "OmniFundTokenRequestsFailing": token_endpoint_fails,
    "OmniFundAPIFailing": api_fails,
    "OmniFundAppErrors": api_fails,
    "OmniFundAppSlow": api_is_slow,
    "OmniFundThreadsBusy": threads_busy,
    "OmniFundDeploymentUnfinished": other_code,
    "": api_fails_once,  # none
    "OmniFundAppDown": no_response,  # the last one: it does not come back
}


@pytest.fixture(scope="module")
def scrapes(valkey: ValkeyServer) -> dict[str, list[dict[str, float]]]:
    """For each alert: a scrape before, one while or after it happens, and one later."""
    found: dict[str, list[dict[str, float]]] = {}
    valkey.flush()
    with TcpProxy(valkey.port) as network:
        through = f"redis://127.0.0.1:{network.port}"
        few = ("--threads", str(THREADS))
        with fleet(valkey.url, workers=1, store_url=through, arguments=few) as running:
            for alert, fault in FAULTS.items():
                watched = Watched(running, network, running.merchant())
                before = watched.scrape()
                fault(watched)
                last = watched.scrape()
                happening = watched.scrapes or [last]
                rest = before if alert == "OmniFundAppDown" else last
                found[alert] = [before, *happening, rest]
    return found


def series_over_time(stages: list[dict[str, float]]) -> list[dict[str, str]]:
    """promtool's input: each stage for some minutes."""
    before, fault, rest = stages
    lasting = ((before, MINUTES_BEFORE), (fault, MINUTES_OF_FAULT), (rest, MINUTES_AFTER))

    def values(name: str) -> str:
        return " ".join(f"{stage.get(name, '_')}x{minutes}" for stage, minutes in lasting)

    names = {*before, *fault, *rest}
    return [{"series": name, "values": values(name)} for name in sorted(names)]


@pytest.mark.parametrize("alert", FAULTS)
def test_an_alert_fires_and_rests(
    scrapes: dict[str, list[dict[str, float]]], alert: str, tmp_path: Path
) -> None:
    """H4: by promtool, on what the app says of a real fault; not of one error."""
    checks = []
    rule = next((each for each in rules() if each["alert"] == alert), {})
    fires = MINUTES_BEFORE + 3 + int(rule.get("for", "0m")[:-1])
    for minute, is_firing in ((MINUTES_BEFORE - 1, False), (fires, bool(alert)), (105, False)):
        name = f'alertname="{alert}",' if alert else ""
        expression = f'count(ALERTS{{{name}alertstate="firing"}}) or vector(0)'
        samples = [{"labels": "{}", "value": int(is_firing)}]
        checks.append({"expr": expression, "eval_time": f"{minute}m", "exp_samples": samples})
    test = {"interval": "1m", "input_series": series_over_time(scrapes[alert])}
    test["promql_expr_test"] = checks
    file = tmp_path / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(ALERTS)], "tests": [test]}))
    answer = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return list(group["rules"])


def test_every_alert_is_tried_and_says_what_to_do() -> None:
    assert {rule["alert"] for rule in rules()} == set(filter(None, FAULTS))
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["labels"]["severity"] in ("page", "ticket")
    subprocess.run(["promtool", "check", "rules", ALERTS], check=True, capture_output=True)
    configuration = REPOSITORY / "deploy" / "prometheus" / "prometheus.yml"
    check = ["promtool", "check", "config", "--syntax-only", str(configuration)]
    subprocess.run(check, check=True, capture_output=True)


# --- the dashboard -------------------------------------------------------------------------------


@contextlib.contextmanager
def prometheus(target: str, token: str) -> Iterator[str]:
    """Run Prometheus with the shipped configuration, but at another place and more often."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="prometheus-") as folder:
        text = (REPOSITORY / "deploy" / "prometheus" / "prometheus.yml").read_text()
        configuration = yaml.safe_load(text)
        configuration["global"]["scrape_interval"] = "250ms"
        configuration["rule_files"] = [str(ALERTS)]
        (job,) = configuration["scrape_configs"]
        Path(folder, "token").write_text(token)
        job["authorization"]["credentials_file"] = f"{folder}/token"
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [target]}]
        Path(folder, "prometheus.yml").write_text(json.dumps(configuration))
        command = ["prometheus", f"--config.file={folder}/prometheus.yml"]
        command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
        process = subprocess.Popen(
            command,
            env=clean_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )

        def is_ready() -> bool:
            with contextlib.suppress(requests.ConnectionError):
                return requests.get(f"http://127.0.0.1:{port}/-/ready", timeout=2).ok
            return False

        try:
            wait_until(is_ready, seconds=30, what="Prometheus")
            yield f"http://127.0.0.1:{port}/api/v1"
        finally:
            process.terminate()
            process.wait(timeout=20)


QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def answer_of(url: str, query: str) -> list[Any]:
    """The series that Prometheus returns for a query of the dashboard."""
    asked = query.replace("$__rate_interval", "1m")
    answer = requests.get(f"{url}/query", params={"query": asked}, timeout=5).json()
    assert answer["status"] == "success", answer
    found = answer["data"]["result"]
    return [each for each in found if each["value"][1] != "NaN"]


def test_every_query_of_the_dashboard_returns_data(redis_url: str) -> None:
    """H4: also the scrape itself, which sends the token from this machine through no proxy."""
    token = "only-for-this-test-0123456789"
    with fleet(redis_url, workers=2, variables={"METRICS_TOKEN": token}) as running:
        target = running.url.removeprefix("http://")
        with prometheus(target, token) as url:
            wait_until(
                lambda: bool(answer_of(url, "omnifund_workers == 2")), seconds=30, what="a scrape"
            )
            missing = list(QUERIES)

            def none_is_missing() -> bool:
                merchant = running.merchant()
                merchant.get("/customers")
                merchant.post_form("/token/refresh")
                missing[:] = [query for query in missing if not answer_of(url, query)]
                return not missing

            wait_until(none_is_missing, seconds=30, what=f"data for {missing}")
            assert answer_of(url, 'up{job="omnifund"} == 1')


def test_the_dashboard_is_complete() -> None:
    """Every panel has a title, and every metric is shown or alerted on, and documented."""
    assert all(panel["title"] and panel["targets"] for panel in DASHBOARD["panels"])
    used = " ".join([*QUERIES, ALERTS.read_text()])
    source = (REPOSITORY / "web" / "metrics.py").read_text()
    names = set(re.findall(r'"(omnifund_\w+)"', source))
    assert len(names) > 8
    assert [name for name in names if name not in used] == [], "no panel and no alert uses it"
    documented = (REPOSITORY / "docs" / "deploying.md").read_text()
    undocumented = [name for name in names if not re.search(rf"`{name}(_total)?`", documented)]
    assert undocumented == [], "add it to docs/deploying.md, Monitoring"
