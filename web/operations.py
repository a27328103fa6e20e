"""What operators need: log lines, health, metrics, request ids."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import re
import secrets
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import structlog
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    g,
    has_app_context,
    jsonify,
    request,
)
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from werkzeug.wrappers import Response as BaseResponse

from config import Settings
from omnifund.errors import StoreUnavailable
from omnifund.events import Event, OnEvent
from web.current import omnifund
from web.current import settings as current_settings

blueprint = Blueprint("operations", __name__)
log: Any = structlog.get_logger("omnifund")

_SECRET_PARAMETERS: Final = re.compile(
    r"((?:code|state|access_token|refresh_token|client_secret|password|code_verifier)=)[^&\s\"']+"
)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
_ERROR_LEVEL: Final = frozenset(
    {Event.REFRESH_UNSAVED, Event.STORE_FAILED, Event.RECORD_UNREADABLE}
)


# --- logging ---------------------------------------------------------------------------------


def configure_logging(settings: Settings) -> None:
    """Send everybody's log records, the libraries' included, to standard output in one form."""
    shared: list[Any] = [
        _add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact,
    ]
    renderer: Any = (
        # One encoder for all lines: json.dumps would make one for each.
        structlog.processors.JSONRenderer(serializer=_json_line)
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    # The app's own lines do not go through the logging module: its records cost as much again.
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=_StandardOutput,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # gunicorn has set up its own before it imports the app, and writes them to standard error.
    server = logging.getLogger("gunicorn.error")
    server.setLevel(max(server.level, root.level))
    for each in server.handlers:
        each.setFormatter(formatter)
    # Authlib writes the code verifier at DEBUG.
    logging.getLogger("authlib").setLevel(max(logging.INFO, root.level))


class _StandardOutput:
    """Where the app's own lines go, one after the other."""

    _lock = threading.Lock()

    def __init__(self, *_arguments: Any) -> None:
        pass

    def msg(self, line: str) -> None:
        """Write one line, whole."""
        with self._lock:
            # Looked up each time: whoever has put something else in its place means it.
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    debug = info = warning = error = critical = msg


_encode: Final = json.JSONEncoder(default=repr).encode


def _json_line(event: dict[str, Any], **_options: Any) -> str:
    return _encode(event)


def _add_request_id(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    if has_app_context() and (request_id := g.get("request_id")) is not None:
        event["request_id"] = request_id
    return event


def _redact(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Mask what looks like a secret parameter, wherever a library has put it."""
    for name, value in event.items():
        if isinstance(value, str) and "=" in value:
            event[name] = _SECRET_PARAMETERS.sub(r"\1***", value)
    return event


# --- events ------------------------------------------------------------------------------------


class EventLog:
    """The app's ``Observer``: a log line and a counter for every event."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._events = Counter(
            "omnifund_events",
            "What has happened, by event and outcome",
            ["event", "outcome"],
            registry=self.registry,
        )
        self._responses = Counter(
            "omnifund_http_responses",
            "Responses by endpoint and status",
            ["endpoint", "status"],
            registry=self.registry,
        )
        self._token_seconds = Histogram(
            "omnifund_token_request_seconds",
            "How long OmniFund's token endpoint took",
            ["grant"],
            registry=self.registry,
        )
        self._redis_seconds = Histogram(
            "omnifund_redis_seconds",
            "How long a round trip to Redis took",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1),
            registry=self.registry,
        )

    def observer(self) -> OnEvent:
        """Return the function to pass to the ``omnifund`` package."""

        def observe(event: Event, **facts: Any) -> None:
            outcome = facts.get("outcome") or facts.get("reason") or ""
            self._events.labels(event.value, outcome).inc()
            if event is Event.TOKEN_REQUEST:
                self._token_seconds.labels(facts["grant"]).observe(facts["seconds"])
            (log.error if event in _ERROR_LEVEL else log.info)(event.value, **facts)

        return observe

    def count_response(self, endpoint: str, status: int) -> None:
        """Count one finished request."""
        self._responses.labels(endpoint, str(status)).inc()

    def time_redis(self, seconds: float) -> None:
        """Count one round trip to Redis."""
        self._redis_seconds.observe(seconds)

    def as_text(self) -> bytes:
        """Return Prometheus' text format, summed up over all workers when there are several."""
        directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if not directory:
            return generate_latest(self.registry)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody, path=directory)  # type: ignore[no-untyped-call]  # the library leaves it untyped
        return generate_latest(everybody)


# --- every request ---------------------------------------------------------------------------


def init_app(app: Flask, settings: Settings, events: EventLog) -> None:
    """Give every request an id, and log and count it when it is answered."""
    has_proxy = settings.trusted_proxies > 0
    app.extensions["omnifund_events"] = events
    app.register_blueprint(blueprint)

    @app.before_request
    def begin() -> None:
        g.request_id = (_proxys_request_id() if has_proxy else None) or secrets.token_hex(8)
        g.started = time.perf_counter()

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        events.count_response(request.endpoint or "none", response.status_code)
        log.info(
            "http:request:answered",
            method=request.method,
            # Never the query: it may hold a code and a state.
            path=request.path,
            status=response.status_code,
            milliseconds=round((time.perf_counter() - g.started) * 1000, 1),
        )
        return response


def _proxys_request_id() -> str | None:
    given = request.environ.get("HTTP_X_REQUEST_ID", "")
    return given if _REQUEST_ID.fullmatch(given) else None


# --- health and metrics ----------------------------------------------------------------------


@blueprint.get("/healthz")
def healthz() -> BaseResponse:
    """Answer while the process serves; asks nobody."""
    return jsonify(status="ok")


@blueprint.get("/readyz")
def readyz() -> tuple[BaseResponse, int]:
    """Answer 200 when Redis takes a write, else 503 with the reason."""
    if is_stopping():
        return jsonify(status="unavailable", reason="this server is stopping"), 503
    try:
        omnifund().store.execute(("SET", "omnifund:readyz", b"1", "EX", 10))
    except StoreUnavailable as error:
        return jsonify(status="unavailable", reason=str(error)), 503
    return jsonify(status="ready"), 200


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus text, for whoever ``METRICS`` says."""
    allowed = current_settings().metrics
    if allowed == "off" or (allowed == "local" and not _is_loopback(request.remote_addr)):
        abort(404)
    events: EventLog = current_app.extensions["omnifund_events"]
    return Response(events.as_text(), content_type=CONTENT_TYPE_LATEST)


def is_stopping() -> bool:
    """Whether gunicorn has been told to stop; ``gunicorn.conf.py`` leaves the mark."""
    mark = os.environ.get("STOPPING_MARK")
    return mark is not None and Path(mark).exists()


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False
