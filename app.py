"""The application factory. Wiring only: everything may be imported here, nobody imports it."""

from __future__ import annotations

import time
from collections.abc import Callable

from flask import Flask

import cli
from config import ConfigurationError, Settings
from omnifund.redis_client import RedisClient, connect
from web import (
    errors,
    formats,
    inspector,
    lab,
    layout,
    limits,
    notices,
    operations,
    pages,
    security,
    sign_in,
)
from web.application import Application
from web.integration import Integration
from web.sessions import SealedRedisSessionInterface


def create_app(
    settings: Settings | None = None,
    *,
    redis: RedisClient | None = None,
    clock: Callable[[], float] = time.time,
) -> Flask:
    """Make the app.

    ``settings``: read from the environment by default. ``redis``: made from ``REDIS_URL`` by
    default. ``clock`` returns Unix seconds. Raises ``ConfigurationError``.
    """
    try:
        settings = settings or Settings.from_environment()
    except ConfigurationError as problem:
        if (explaining := cli.explain_only(problem)) is not None:
            return explaining
        raise
    operations.configure_logging(settings)
    events = operations.EventLog()

    app = Application(__name__)
    app.secret_key = settings.secret_key.get_secret_value()

    parts = Integration.from_settings(
        settings,
        redis or connect(settings.redis_url.get_secret_value()),
        clock=clock,
        observe=events.observer(),
        time_redis=events.time_redis,
    )
    parts.init_app(app)
    app.session_interface = SealedRedisSessionInterface(app, parts)

    operations.init_app(app, settings, events)
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(sign_in.blueprint)
    layout.init_app(app, settings)
    formats.register(app)
    notices.init_app(app)
    inspector.init_app(app, settings)
    lab.init_app(app, settings)
    errors.init_app(app)
    cli.init_app(app, settings)
    security.init_app(app, settings)
    if settings.rate_limits:
        limits.init_app(app, limits.RateLimiter(parts.store, clock))
    return app
