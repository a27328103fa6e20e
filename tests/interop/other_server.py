"""The app and a third-party authorization server, each the other's counterpart."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import app as app_module
from omnifund.client import OmniFund
from omnifund.connections import StoredToken
from pytest_omnifund import Clock
from tests.support.browsing import Page
from tests.support.merchant import Merchant
from tests.support.processes import free_port
from tests.support.programs import running
from tests.support.servers import serve
from tests.support.stack import Stack, app_settings


@dataclass(frozen=True)
class OtherServer:
    """A running authorization server that knows one client: the app, on ``app_port``."""

    url: str
    app_port: int
    client_id: str
    client_secret: str

    @property
    def callback(self) -> str:
        """The client's redirect URI."""
        return f"http://localhost:{self.app_port}/callback"


@contextlib.contextmanager
def other_server(command: list[str]) -> Iterator[OtherServer]:
    """Run a third-party server."""
    port = free_port()
    server = OtherServer(f"http://localhost:{port}", free_port(), "interop", secrets.token_hex(24))
    variables = {
        "CLIENT_ID": server.client_id,
        "CLIENT_SECRET": server.client_secret,
        "REDIRECT_URI": server.callback,
    }
    with running(command, port, variables):
        yield server


class Visit(Merchant):
    """A merchant at the app, whose OmniFund is that server."""

    def follow(self, page: Page, *, until: str) -> str:
        """Follow redirects until one leads to a URL that begins with ``until``; return that."""
        for _ in range(10):
            assert page.is_redirect, page
            location = urljoin(page.url, page.headers["Location"])
            if location.startswith(until):
                return location
            page = self.get(location)
        raise AssertionError("too many redirects")

    def put_back(self, stored: StoredToken) -> None:
        """Store an older token again, as if the newer one had never come."""
        client: OmniFund = self.at.app.extensions["omnifund"]
        client.tokens.save(self.session_id, stored.token, seconds=60)


@contextlib.contextmanager
def visiting(server: OtherServer, redis_url: str, **overrides: Any) -> Iterator[Visit]:
    """Run the app as a client of ``server``; ``overrides`` are settings, by field name."""
    values = {
        "app_port": server.app_port,
        "omnifund_base_url": server.url,
        "omnifund_client_id": server.client_id,
        "omnifund_client_secret": server.client_secret,
        **overrides,
    }
    settings = app_settings(redis_url, **values)
    clock = Clock()
    app = app_module.create_app(settings, clock=clock)
    with serve(app, port=server.app_port) as running_app:
        yield Visit(Stack(running_app.url, server.url, app, settings, clock, redis_url))
