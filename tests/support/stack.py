"""The real app and the real Local OmniFund, each on a socket of its own, with a clock that tests
can move.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis
from flask import Flask

import app as app_module
import local_omnifund
from config import Settings
from local_omnifund.settings import Settings as LocalSettings
from pytest_omnifund import Clock
from tests.support.merchant import Merchant
from tests.support.processes import free_port
from tests.support.servers import serve


@dataclass
class Stack:
    """Both applications, running. ``settings`` are the app's."""

    url: str
    omnifund_url: str
    app: Flask
    settings: Settings
    clock: Clock
    redis_url: str

    def person(self) -> Merchant:
        """Return a merchant with a fresh browser."""
        return Merchant(self)


@contextlib.contextmanager
def running_stack(redis_url: str, *, fault_pace: float = 1.0, **overrides: Any) -> Iterator[Stack]:
    """Run both applications; ``overrides`` are settings of the app, by field name.

    ``fault_pace``: how long Local OmniFund's faults take, relative to what people meet.
    """
    clock = Clock()
    port = free_port()
    local = local_omnifund.create_app(
        LocalSettings(redis_url, app_port=port, fault_pace=fault_pace), clock=clock
    )
    with serve(local) as omnifund:
        settings = app_settings(
            redis_url, **{"app_port": port, "omnifund_base_url": omnifund.url, **overrides}
        )
        app = app_module.create_app(settings, clock=clock)
        with serve(app, port=port) as server, closing_redis(app):
            yield Stack(server.url, omnifund.url, app, settings, clock, redis_url)


@contextlib.contextmanager
def closing_redis(app: Flask) -> Iterator[None]:
    """Close the app's connections to Redis at the end: garbage collection may be too late."""
    yield
    client = app.extensions["omnifund"].store._client
    if isinstance(client, redis.Redis):
        client.close()


def app_settings(redis_url: str, **overrides: Any) -> Settings:
    """Return the app's settings for tests: no ``.env``, a key of its own, no rate limits."""
    values: dict[str, Any] = {
        "redis_url": redis_url,
        "secret_key": secrets.token_urlsafe(48),
        "rate_limits": False,
        "log_level": "WARNING",
        **overrides,
    }
    return Settings(**values)
