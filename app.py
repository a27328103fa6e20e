"""The application factory. Wiring only: everything may be imported here, nobody imports it."""

from __future__ import annotations

import time
from collections.abc import Callable

from flask import Flask

import cli
from config import ConfigurationError, Settings
from omnifund.redis_client import connect
from omnifund.store import RedisClient
from web import (
    errors,
    health,
    incoming,
    inspector,
    lab,
    limits,
    logging,
    metrics,
    notices,
    pages,
    security,
    sign_in,
    templating,
)
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
    logging.configure(settings)
    counts = metrics.Metrics()
    client = redis or connect(settings.redis_url.get_secret_value())

    app = Flask(__name__)
    app.secret_key = settings.secret_key.get_secret_value()

    parts = Integration.from_settings(
        settings, client, clock=clock, observe=counts.observe, time_redis=counts.time_redis
    )
    parts.init_app(app)
    app.session_interface = SealedRedisSessionInterface(app, parts)

    logging.init_app(app, settings)
    metrics.init_app(app, settings, counts)
    incoming.init_app(app, settings)
    app.register_blueprint(health.blueprint)
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(sign_in.blueprint)
    templating.init_app(app, settings)
    notices.init_app(app)
    inspector.init_app(app, settings)
    lab.init_app(app, settings)
    _add_to_navigation(app, settings)
    errors.init_app(app)
    cli.init_app(app, settings)
    security.init_app(app, settings)
    if settings.rate_limits:
        limits.init_app(app, settings, client)
    return app


def _add_to_navigation(app: Flask, settings: Settings) -> None:
    if settings.flow_inspector:
        app.extensions["navigation"].append(("inspector.inspector", "Inspector"))
    if settings.omnifund_environment == "local":
        app.extensions["navigation"].append(("lab.lab", "Lab"))
