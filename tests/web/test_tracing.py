"""OpenTelemetry traces, as a collector receives them from gunicorn's workers."""

from __future__ import annotations

import contextlib
import gzip
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from werkzeug import Request, Response

from config import ConfigurationError
from tests.faults import provider as kit
from tests.support.browsing import query_of
from tests.support.merchant import Merchant
from tests.support.processes import free_port, wait_until
from tests.support.programs import clean_environment
from tests.support.rig import Fleet, fleet
from tests.support.servers import REPOSITORY, serve
from tests.support.stack import app_settings
from web.tracing import Tracing


@dataclass
class Collector:
    """Receives spans."""

    bodies: list[bytes] = field(default_factory=list)

    def app(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        assert request.path == "/v1/traces"
        data = request.get_data()
        is_zipped = request.headers.get("Content-Encoding") == "gzip"
        self.bodies.append(gzip.decompress(data) if is_zipped else data)
        return Response(content_type="application/x-protobuf")(environ, start_response)

    @property
    def spans(self) -> list[Any]:
        """All that have come so far."""
        return [
            span
            for body in list(self.bodies)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait_for(self, name: str) -> Any:
        """The first span of that name."""
        wait_until(lambda: any(span.name == name for span in self.spans), what=f"a span {name}")
        return next(span for span in self.spans if span.name == name)


@contextlib.contextmanager
def traced(redis_url: str, **variables: str) -> Iterator[tuple[Fleet, Collector]]:
    """A gunicorn of two workers that sends its spans every tenth of a second."""
    collector = Collector()
    with serve(collector.app) as server:
        usual = {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with fleet(redis_url, workers=2, variables={**usual, **variables}) as running:
            yield running, collector


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_a_request_is_a_span_and_what_it_waited_for_is_below_it(redis_url: str) -> None:
    """H4"""
    with traced(redis_url) as (running, collector):
        merchant = running.merchant()
        callback = collector.wait_for("GET /callback")
        token = collector.wait_for("POST token authorization_code")
        assert (token.trace_id, token.parent_span_id) == (callback.trace_id, callback.span_id)
        assert attributes(token) == {"outcome": "granted"}
        assert callback.start_time_unix_nano <= token.start_time_unix_nano
        assert token.end_time_unix_nano <= callback.end_time_unix_nano
        page = merchant.get("/customers")
        customers = collector.wait_for("GET /customers")
        assert attributes(customers) == {
            "http.request.method": "GET",
            "http.route": "/customers",
            "http.response.status_code": 200,
            "request_id": page.headers["X-Request-ID"],
        }
        below = {span.name for span in collector.spans if span.parent_span_id == customers.span_id}
        assert below == {"GET customers", "Redis"}


@pytest.mark.usefixtures("both_servers")
def test_a_stop_sends_the_spans_that_have_not_been_sent(redis_url: str) -> None:
    with traced(redis_url, OTEL_BSP_SCHEDULE_DELAY="60000") as (running, collector):
        running.merchant()
        assert running.server.stop() == 0
        assert collector.wait_for("GET /callback")


def test_an_error_is_one_in_the_trace_too(redis_url: str) -> None:
    with traced(redis_url) as (running, collector):
        merchant = running.merchant()
        running.provider.next_api_answer(kit.json_answer({}, 500))
        assert merchant.get("/customers").status_code == 503
        assert collector.wait_for("GET /customers").status.code == 2
        assert attributes(collector.wait_for("GET customers")) == {"outcome": "OmniFundUnavailable"}


def test_no_secret_is_in_a_trace(redis_url: str) -> None:
    """D2: neither what is in a callback's URL, nor a token or a session ID."""
    with traced(redis_url) as (running, collector):
        merchant = Merchant(running)
        callback = merchant.authorize()
        merchant.get(callback)
        merchant.get("/nowhere/some-path?token=some-token")
        token = merchant.stored.token
        collector.wait_for("GET /callback")
        wait_until(lambda: any(span.name == "GET" for span in collector.spans), what="the 404")
        sent = b"".join(collector.bodies)
    query = query_of(callback)
    hidden = [query["code"], query["state"], token.access_token, merchant.session_id, "some-"]
    assert [secret for secret in hidden if secret.encode() in sent] == []


def test_an_exception_that_no_page_explains_is_in_no_trace() -> None:
    """D2: its text may hold a secret."""
    collector, app = Collector(), Flask(__name__)

    def fail(_environ: Any, _start_response: Any) -> Any:
        raise RuntimeError("refresh_token=a-canary")

    app.wsgi_app = fail  # type: ignore[assignment,method-assign]  # as Flask documents it
    with serve(collector.app) as server:
        settings = app_settings("redis://localhost:1", otel_exporter_otlp_endpoint=server.url)
        Tracing(settings).init_app(app)
        with pytest.raises(RuntimeError):
            app.test_client().get("/")
        app.extensions["traces"].shutdown()
    assert [span.name for span in collector.spans] == ["request"]
    assert b"a-canary" not in b"".join(collector.bodies)


def test_a_parent_is_believed_behind_a_trusted_proxy_only(redis_url: str) -> None:
    parent = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    for proxies, is_taken in (("0", False), ("1", True)):
        with traced(redis_url, TRUSTED_PROXIES=proxies) as (running, collector):
            Merchant(running).get("/", headers=parent)
            assert (collector.wait_for("GET /").trace_id == b"\xab" * 16) is is_taken


def test_without_a_collector_the_app_serves_and_stops(redis_url: str) -> None:
    """One that is away costs spans, and no request."""
    away = f"http://127.0.0.1:{free_port()}"
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": away, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with fleet(redis_url, workers=1, variables=variables) as running:
        assert running.merchant().get("/customers").status_code == 200
        assert running.server.stop() == 0


def run_python(code: str, **variables: str) -> str:
    environment = clean_environment(
        REDIS_URL="redis://localhost", SECRET_KEY="only-for-this-test-0123456789abcdef", **variables
    )
    command = [sys.executable, "-c", code]
    answer = subprocess.run(
        command, cwd=REPOSITORY / "docs", env=environment, capture_output=True, text=True
    )
    return answer.stdout + answer.stderr


def test_nothing_of_it_is_imported_otherwise() -> None:
    """redis-py imports parts of OpenTelemetry where it is installed, but nothing that sends."""
    parts = "('web.tracing', 'opentelemetry.exporter', 'opentelemetry.sdk.trace')"
    code = f"import app, sys; app.create_app(); print([m for m in sys.modules if m in {parts}])"
    assert run_python(code).strip() == "[]"


def test_missing_packages_are_named() -> None:
    code = "import config, sys; sys.modules['opentelemetry'] = None; config.at_start()"
    told = run_python(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4318")
    assert ConfigurationError.__name__ in told
    assert "requires the packages of requirements-traces.txt" in told
