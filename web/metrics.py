"""Prometheus metrics, added up over all workers (prometheus_client's multiprocess mode)."""

from __future__ import annotations

import hashlib
import hmac
import os
import platform
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, Response, abort, g, request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

from config import Settings
from omnifund import errors
from omnifund.events import Event
from web import incoming
from web.logging import log

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_ERROR_LEVEL: Final = frozenset(
    {Event.REFRESH_UNSAVED, Event.STORE_FAILED, Event.RECORD_UNREADABLE}
)
_STATUSES: Final = (200, 302, 303, 400, 404, 429, 500, 502, 503, 504)


def _names(error: type[Exception]) -> set[str]:
    return {error.__name__}.union(*(_names(each) for each in error.__subclasses__()))


_OUTCOMES: Final[dict[Event, set[str]]] = {
    Event.TOKEN_REQUEST: {"granted", *_names(errors.OmniFundError)},
    Event.API_REQUEST: {"read", *_names(errors.OmniFundError)},
    Event.SIGN_IN_DENIED: _names(errors.AccessDenied),
    Event.SIGN_IN_REFUSED: _names(errors.AuthorizationErrorResponse) - _names(errors.AccessDenied),
    Event.SIGN_IN_INVALID: _names(errors.InvalidState),
    Event.SIGN_IN_FAILED: _names(errors.OmniFundError)
    - _names(errors.AuthorizationErrorResponse)
    - _names(errors.InvalidState),
    Event.REFRESH_FAILED: _names(errors.OmniFundError),
    Event.STORE_FAILED: {"ConnectionError", "TimeoutError", "ResponseError", "ReadOnlyError"},
}
"""The outcomes of each event that has any; the others have the empty one."""


class Worker:
    """The files in which this process counts.

    ``number``: this worker's place among the workers; ``gunicorn.conf.py`` sets it. A new worker
    continues the files of the ended worker whose place it takes, so files do not pile up.
    """

    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    number: int | None = None
    generation = 0

    @classmethod
    def begin(cls, number: int, threads: int) -> None:
        """Count as worker ``number``, which has so many threads; called in a new worker."""
        cls.number = number
        cls.look_after()
        with suppress(Exception):
            WORKERS.set(1)
            THREADS.set(threads)
            THREADS_BUSY.set(0)

    @classmethod
    def end(cls, number: int) -> None:
        """Forget what worker ``number`` was doing; called when it has ended. Its counts stay."""
        for left in Path(cls.folder or "").glob(f"gauge_livesum_worker-{number}-*.db"):
            with suppress(OSError):
                left.unlink()

    @classmethod
    def name(cls) -> str:
        """Return what tells this process's files from those of all other living processes."""
        who = f"process-{os.getpid()}" if cls.number is None else f"worker-{cls.number}"
        return f"{who}-{cls.generation}"

    @classmethod
    def look_after(cls) -> None:
        """Begin new files where a cleaner of temporary files has removed those in use."""
        if cls.folder and not Path(cls.folder, f"counter_{cls.name()}.db").exists():
            with suppress(OSError):
                Path(cls.folder).mkdir(mode=0o700, parents=True, exist_ok=True)
            cls.generation += 1


if Worker.folder:
    values.ValueClass = values.MultiProcessValue(Worker.name)  # type: ignore[no-untyped-call]  # the library leaves it untyped


_gauge = partial(Gauge, registry=None, multiprocess_mode="livesum")
WORKERS: Final = _gauge("omnifund_workers", "gunicorn's worker processes")
THREADS: Final = _gauge("omnifund_threads", "Their threads: requests that can be served at a time")
THREADS_BUSY: Final = _gauge("omnifund_threads_busy", "Requests being served now, scrapes included")


@cache
def code_version() -> str:
    """Return a fingerprint of the app's files, the same on all servers that run the same code."""
    root = Path(__file__).parent.parent
    files = [*root.glob("*.py")]
    for folder in ("omnifund", "web", "demo", "templates", "static"):
        files += [path for path in (root / folder).rglob("*") if "__pycache__" not in path.parts]
    digest = hashlib.sha256()
    for path in sorted(each for each in files if each.is_file()):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


class Metrics:
    """The app's counters and histograms; no label holds anything about a merchant."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self._events = counter(
            "omnifund_events", "What has happened, by event and outcome", ["event", "outcome"]
        )
        self._responses = counter(
            "omnifund_http_responses", "Responses by endpoint and status", ["endpoint", "status"]
        )
        self._request_seconds = histogram(
            "omnifund_http_request_seconds", "How long this app took, by endpoint", ["endpoint"]
        )
        self._token_seconds = histogram(
            "omnifund_token_request_seconds", "How long token requests took, by grant", ["grant"]
        )
        self._api_seconds = histogram(
            "omnifund_api_request_seconds",
            "How long OmniFund's API took, by resource",
            ["resource"],
        )
        self._redis_seconds = histogram(
            "omnifund_redis_seconds",
            "How long a round trip to Redis took",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1),
        )
        for gauge in (WORKERS, THREADS, THREADS_BUSY):
            registry.register(gauge)
        build = Gauge(
            "omnifund_build_info",
            "The code that runs: a fingerprint of its files, and Python's version",
            ["code", "python"],
            multiprocess_mode="max",
            registry=registry,
        )
        build.labels(code_version(), platform.python_version()).set(1)
        for event in Event:
            for outcome in _OUTCOMES.get(event, {""}):
                self._events.labels(event.value, outcome)

    def on_event(self, event: Event, **facts: Any) -> None:
        """Count and log an event: the app's ``OnEvent``."""
        outcome = facts.get("outcome") or facts.get("reason") or ""
        # Here and below: a request matters more than its count.
        with suppress(Exception):
            self._events.labels(event.value, outcome).inc()
            if event is Event.TOKEN_REQUEST:
                self._token_seconds.labels(facts["grant"]).observe(facts["seconds"])
            if event is Event.API_REQUEST:
                self._api_seconds.labels(facts["resource"]).observe(facts["seconds"])
        (log.error if event in _ERROR_LEVEL else log.info)(event.value, **facts)

    def count_response(self, response: Response) -> Response:
        """Count a finished request (Flask's ``after_request``)."""
        with suppress(Exception):
            endpoint = request.endpoint or "none"
            self._responses.labels(endpoint, str(response.status_code)).inc()
            self._request_seconds.labels(endpoint).observe(time.perf_counter() - g.started)
            Worker.look_after()
        return response

    def time_redis(self, seconds: float) -> None:
        """Count one round trip to Redis."""
        with suppress(Exception):
            self._redis_seconds.observe(seconds)

    def as_text(self, endpoints: set[str]) -> bytes:
        """Return Prometheus' text format. Every series of ``endpoints`` exists in it, from 0 on."""
        Worker.look_after()
        for endpoint in endpoints:
            for status in _STATUSES:
                self._responses.labels(endpoint, str(status)).inc(0)
        if Worker.folder is None:
            return generate_latest(self.registry)
        every_worker = CollectorRegistry()
        MultiProcessCollector(every_worker, Worker.folder)  # type: ignore[no-untyped-call]  # the library leaves it untyped
        return generate_latest(every_worker)


def init_app(app: Flask, settings: Settings, metrics: Metrics) -> None:
    """Count every response, and offer ``/metrics``."""
    app.after_request(metrics.count_response)
    serve = app.wsgi_app

    def counted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with suppress(Exception):
            THREADS_BUSY.inc()
        try:
            return serve(environ, start_response)
        finally:
            with suppress(Exception):
                THREADS_BUSY.dec()

    app.wsgi_app = counted  # type: ignore[method-assign]  # as Flask documents it

    @app.get("/metrics")
    def show_metrics() -> Response:
        """Prometheus text, for the readers that ``METRICS`` and ``METRICS_TOKEN`` allow."""
        if not _may_read(settings):
            abort(404)
        endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
        try:
            text = metrics.as_text(endpoints)
        except OSError:
            abort(503)  # The folder for the counts is gone, and cannot be made again.
        return Response(text, content_type=CONTENT_TYPE_LATEST)


def _may_read(settings: Settings) -> bool:
    if settings.metrics != "local":
        return settings.metrics == "public"
    token = settings.metrics_token.get_secret_value()
    # Werkzeug's request.authorization raises on some values.
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if token and scheme.lower() == "bearer":
        return hmac.compare_digest(given.strip().encode(), token.encode())
    # A proxy on this machine has this machine's address too.
    is_forwarded = any(
        name.startswith(("HTTP_FORWARDED", "HTTP_X_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA"))
        for name in request.environ
    )
    ip = incoming.client_ip()
    return ip is not None and ip.is_loopback and not is_forwarded
