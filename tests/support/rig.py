"""The app against the fault kit's provider: in a thread with a clock, or as a real gunicorn."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Flask

import app as app_module
from config import Settings
from omnifund.connections import Connections
from pytest_omnifund import Clock
from tests.faults.provider import HonestProvider
from tests.support.merchant import Merchant
from tests.support.processes import free_port
from tests.support.servers import Gunicorn, serve
from tests.support.stack import app_settings, closing_redis

SERVER: type[Gunicorn] = Gunicorn
"""What ``fleet`` starts; the fixture ``both_servers`` changes it."""

FAST = {"omnifund_connect_timeout": 1.0, "omnifund_read_timeout": 10.0}


@dataclass
class Rig:
    """The app at ``url``. ``app`` opens the same Redis with the same keys, in the test's process.

    ``clock`` is the app's and the provider's, unless it is a ``Fleet``.
    """

    url: str
    app: Flask
    settings: Settings
    provider: HonestProvider
    clock: Clock = field(default_factory=Clock)

    @property
    def tokens(self) -> Connections:
        """What the app has stored."""
        tokens: Connections = self.app.extensions["omnifund"].tokens
        return tokens

    def merchant(self) -> Merchant:
        """Return a merchant who has just signed in."""
        merchant = Merchant(self)
        merchant.sign_in()
        return merchant


@dataclass
class Fleet(Rig):
    """The app as processes of a real server."""

    server: Gunicorn = field(kw_only=True)


@contextlib.contextmanager
def rig(redis_url: str, *, expires_in: int = 3600, **overrides: Any) -> Iterator[Rig]:
    """Run the app in a thread, with a clock that the provider shares."""
    clock, port = Clock(), free_port()
    with HonestProvider(clock=clock, expires_in=expires_in) as provider:
        values = {"app_port": port, "omnifund_base_url": provider.url, **FAST, **overrides}
        settings = app_settings(redis_url, **values)
        app = app_module.create_app(settings, clock=clock)
        with serve(app, port=port) as server, closing_redis(app):
            yield Rig(server.url, app, settings, provider, clock=clock)


@contextlib.contextmanager
def fleet(
    redis_url: str,
    *,
    workers: int,
    expires_in: int = 3600,
    store_url: str | None = None,
    temporary: str | None = None,
    log_level: str = "INFO",
    arguments: tuple[str, ...] = (),
    variables: Mapping[str, str] | None = None,
    stdout: int | None = None,
) -> Iterator[Fleet]:
    """Run the app as a real gunicorn, or as ``SERVER`` says.

    ``store_url``: how the app reaches Redis, if not directly.
    ``temporary``: the folder for gunicorn's temporary files; ``arguments``: more of gunicorn's;
    ``variables``: more environment variables; ``stdout``: an open file instead of the log.
    """
    port, secret_key = free_port(), secrets.token_urlsafe(48)
    with HonestProvider(expires_in=expires_in) as provider:
        settings = app_settings(
            redis_url, app_port=port, omnifund_base_url=provider.url, secret_key=secret_key
        )
        environment = {
            "APP_PORT": str(port),
            "OMNIFUND_BASE_URL": provider.url,
            "REDIS_URL": store_url or redis_url,
            "SECRET_KEY": secret_key,
            "RATE_LIMITS": "off",
            "LOG_LEVEL": log_level,
            **({"TMPDIR": temporary} if temporary else {}),
            **(variables or {}),
        }
        app = app_module.create_app(settings)
        with SERVER(
            "app:create_app()",
            environment,
            workers=workers,
            threads=64,
            port=port,
            arguments=arguments,
            stdout=stdout,
        ) as server:
            yield Fleet(server.url, app, settings, provider, server=server)
