"""The objects that every request needs, reached through the current Flask app."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, cast

from flask import current_app

from config import Settings
from omnifund.client import OmniFund
from omnifund.events import OnEvent, ignore
from omnifund.http import HTTPClient
from omnifund.token_store import RedisTokenStore
from redis_url import connect

# A sign-in that led there would start or end another one.
_NEVER_NEXT: Final = ("/login", "/logout", "/callback", "/token")


def from_settings(
    settings: Settings,
    *,
    http_class: type[HTTPClient] = HTTPClient,
    clock: Callable[[], float] = time.time,
    on_event: OnEvent = ignore,
    time_redis: Callable[[float], None] = lambda _seconds: None,
) -> OmniFund:
    """Return the OmniFund client that ``settings`` describe; opens no connection yet."""
    ca_bundle = settings.omnifund_ca_bundle
    secrets = settings.redis_url, settings.redis_password
    return OmniFund(
        RedisTokenStore(
            connect(*(each.get_secret_value() for each in secrets)),
            on_event,
            time_round_trip=time_redis,
        ),
        base_url=settings.omnifund_base_url,
        client_id=settings.omnifund_client_id,
        client_secret=settings.omnifund_client_secret.get_secret_value(),
        redirect_uri=settings.omnifund_redirect_uri,
        secret_keys=settings.secret_keys,
        http_client=http_class(
            settings.omnifund_base_url,
            connect_timeout=settings.omnifund_connect_timeout,
            read_timeout=settings.omnifund_read_timeout,
            ca_bundle=str(ca_bundle) if ca_bundle else None,
            clock=clock,
        ),
        pkce=settings.pkce,
        leeway=settings.token_refresh_leeway,
        sign_in_seconds=min(settings.session_idle_seconds, settings.session_lifetime_seconds),
        default_next=f"{settings.mount_path}/dashboard",
        never_next=[settings.mount_path + path for path in _NEVER_NEXT],
        clock=clock,
        on_event=on_event,
    )


def settings() -> Settings:
    """Return the current app's settings."""
    return cast(Settings, current_app.extensions["settings"])


def omnifund() -> OmniFund:
    """Return the current app's OmniFund client."""
    return cast(OmniFund, current_app.extensions["omnifund"])


def store(client: OmniFund | None = None) -> RedisTokenStore:
    """Return where ``client``, by default the current app's, stores: in this app always Redis."""
    return cast(RedisTokenStore, (client or omnifund()).store)
