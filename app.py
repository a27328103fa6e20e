"""The application factory: a table of contents. Everything may be imported here."""

from __future__ import annotations

import time
from collections.abc import Callable

from flask import Flask

import cli
from config import ConfigurationError, Settings
from omnifund.http import HTTPClient
from web import (
    auth,
    current,
    errors,
    health,
    incoming,
    limits,
    logging,
    metrics,
    pages,
    security,
    templating,
)
from web.sessions import RedisSessions


def create_app(
    settings: Settings | None = None, *, clock: Callable[[], float] = time.time
) -> Flask:
    """Create the app.

    ``settings``: read from the environment by default. ``clock`` returns Unix seconds. Raises
    ``ConfigurationError``, or in a command of Flask's its ``NoAppException``.
    """
    try:
        settings = settings or Settings.from_environment(checked=cli.env_file())
    except ConfigurationError as problem:
        if (explaining := cli.explain_only(problem)) is not None:
            return explaining
        raise
    logging.configure(settings)
    counts = metrics.Metrics()
    http_class, on_event = HTTPClient, counts.on_event
    time_redis: Callable[[float], None] = counts.time_redis
    if settings.otel_exporter_otlp_endpoint:
        from web.tracing import Tracing

        tracing = Tracing(settings)
        on_event, time_redis = tracing.observing(on_event), tracing.timing(time_redis)
    # Imported only where it is used: without the folder the app is complete.
    has_demo = settings.flow_inspector or settings.is_local
    if has_demo:
        import demo

        http_class, on_event = demo.RecordingHTTPClient, demo.observing(on_event)

    app = Flask(__name__)
    app.secret_key = settings.secret_key.get_secret_value()
    omnifund = current.from_settings(
        settings, http_class=http_class, clock=clock, on_event=on_event, time_redis=time_redis
    )
    app.extensions.update(settings=settings, omnifund=omnifund, redis_rights=[])  # for web/
    app.session_interface = RedisSessions(app, settings, omnifund)

    logging.init_app(app)
    metrics.init_app(app, settings, counts)
    incoming.init_app(app, settings)
    for part in (health, pages, auth):
        app.register_blueprint(part.blueprint)
    templating.init_app(app, settings)
    errors.init_app(app)
    cli.init_app(app, settings)
    if has_demo:
        demo.init_app(app, settings)
    security.init_app(app, settings)
    if settings.rate_limits:
        limits.init_app(app, current.store(omnifund))
    if settings.otel_exporter_otlp_endpoint:
        tracing.init_app(app)
    return app
