"""The parts of the app that a request needs, made once and reached through the current app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from flask import Flask, current_app

from config import Settings
from omnifund.client import OmniFund
from omnifund.events import Observer
from omnifund.redis_client import RedisClient

_NAME: Final = "omnifund"


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration(OmniFund):
    """One app's parts, and the settings that they were made from."""

    settings: Settings

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        client: RedisClient,
        *,
        clock: Callable[[], float],
        observe: Observer,
        time_redis: Callable[[float], None],
    ) -> Integration:
        """Make every part from the settings; connects to nothing yet."""
        return cls.build(
            client,
            base_url=settings.omnifund_base_url,
            client_id=settings.omnifund_client_id,
            client_secret=settings.omnifund_client_secret.get_secret_value(),
            redirect_uri=settings.omnifund_redirect_uri,
            secret_keys=settings.secret_keys,
            pkce=settings.pkce,
            leeway=settings.token_refresh_leeway,
            connect_timeout=settings.omnifund_connect_timeout,
            read_timeout=settings.omnifund_read_timeout,
            ca_bundle=str(settings.omnifund_ca_bundle) if settings.omnifund_ca_bundle else None,
            clock=clock,
            observe=observe,
            time_redis=time_redis,
            settings=settings,
        )

    def init_app(self, app: Flask) -> None:
        """Make the parts reachable through ``integration()``."""
        app.extensions[_NAME] = self


def integration() -> Integration:
    """Return the current app's parts."""
    return cast(Integration, current_app.extensions[_NAME])
