"""The naive client with a tap on its wire.

Imported by the first comparison, and not at the start: its libraries load slowly.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from flask import Flask
from requests import PreparedRequest, RequestException, Response

from config import Settings
from demo import naive_client, wire


def create(settings: Settings) -> Flask:
    """Make the naive client for the same OmniFund."""
    naive = naive_client.create_app(
        base_url=settings.omnifund_base_url,
        client_id=settings.omnifund_client_id,
        client_secret=settings.omnifund_client_secret.get_secret_value(),
        redirect_uri=settings.omnifund_redirect_uri,
        # Its own: with the app's key, a cookie of one might be worth something to the other.
        secret_key=secrets.token_urlsafe(48),
    )
    # What it does wrong is shown on the page; this app's log is for this app.
    naive.logger.disabled = True
    # From outside, so that its code is what such a client has.
    remote = naive.extensions["authlib.integrations.flask_client"].omnifund
    remote.client_cls = type("TappedSession", (_Tapped, remote.client_cls), {})
    return naive


class _Tapped:
    """A mixin for a session of requests: it writes down what passes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Not through a proxy of the environment, which may not reach this machine's ports.
        self.trust_env = False

    def send(self, request: PreparedRequest, **options: Any) -> Response:
        wire.sent(str(request.method), str(request.url), request.body)
        passing: Callable[..., Response] = super().send  # type: ignore[misc]  # the session's
        try:
            response = passing(request, **options)
        except RequestException:
            wire.gave_up()
            raise
        wire.received(response.status_code, response.content)
        return response
