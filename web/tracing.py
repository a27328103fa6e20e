"""OpenTelemetry traces. ``app.py`` imports this only if ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set.

A span for each request, and below it one for each request to OmniFund and each round trip to Redis.
Written here instead of by OpenTelemetry's own instrumentation, which records whole URLs: a
callback's holds a code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g, request
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from config import Settings
from omnifund.events import Event, OnEvent

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


class Tracing:
    """Makes spans. A thread of OpenTelemetry's sends them, in each worker; a collector may be away.

    A service name in the usual variables wins over this app's own.
    """

    def __init__(self, settings: Settings) -> None:
        name = Resource({SERVICE_NAME: "omnifund-app"})
        self._provider = TracerProvider(resource=name.merge(OTELResourceDetector().detect()))
        endpoint = settings.otel_exporter_otlp_endpoint.rstrip("/") + "/v1/traces"
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("omnifund-app")
        self._trusts_parents = settings.trusted_proxies > 0

    def init_app(self, app: Flask) -> None:
        """Trace every request to ``app``. As the outermost layer, it sees all of them."""
        serve = app.wsgi_app

        def traced(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            # A visitor's own header would decide what is sampled.
            sent = environ.get("HTTP_TRACEPARENT", "") if self._trusts_parents else ""
            parent = TraceContextTextMapPropagator().extract({"traceparent": sent})
            # An exception's text may hold a secret.
            with self._tracer.start_as_current_span(
                "request",
                parent,
                trace.SpanKind.SERVER,
                record_exception=False,
                set_status_on_exception=False,
            ):
                return serve(environ, start_response)

        app.extensions["traces"] = self._provider  # for a server that has to shut it down
        app.wsgi_app = traced  # type: ignore[method-assign]  # as Flask documents it
        app.after_request(_describe)

    def observing(self, on_event: OnEvent) -> OnEvent:
        """Return a function that passes events on, and makes spans of requests to OmniFund."""

        def observe(event: Event, **facts: Any) -> None:
            on_event(event, **facts)
            if event is Event.TOKEN_REQUEST:
                self._ended(f"POST token {facts['grant']}", facts["seconds"], facts["outcome"])
            elif event is Event.API_REQUEST:
                self._ended(f"GET {facts['resource']}", facts["seconds"], facts["outcome"])

        return observe

    def timing(self, time_redis: Callable[[float], None]) -> Callable[[float], None]:
        """Return a function that passes round trips on, and makes a span of each."""

        def timed(seconds: float) -> None:
            time_redis(seconds)
            self._ended("Redis", seconds)

        return timed

    def _ended(self, name: str, seconds: float, outcome: str = "") -> None:
        """Make a span of what has just ended, if it belongs to a request."""
        if trace.get_current_span().is_recording():
            start = time.time_ns() - int(seconds * 1e9)
            span = self._tracer.start_span(name, kind=trace.SpanKind.CLIENT, start_time=start)
            if outcome:
                span.set_attribute("outcome", outcome)
            span.end()


def _describe(response: Response) -> Response:
    span = trace.get_current_span()
    # The route and not the path, which a visitor chooses, nor the query, which may hold a code.
    route = request.url_rule.rule if request.url_rule else "none"
    span.update_name(f"{request.method} {route}" if request.url_rule else request.method)
    span.set_attributes(
        {
            "http.request.method": request.method,
            "http.route": route,
            "http.response.status_code": response.status_code,
            "request_id": g.request_id,
        }
    )
    if response.status_code >= 500:
        span.set_status(trace.StatusCode.ERROR)
    return response
