"""The parts of the app that a request needs, made once and reached through the current app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from flask import Flask, current_app

from config import Settings
from omnifund.access import Access
from omnifund.api import Api
from omnifund.attempts import Attempts
from omnifund.events import Observer
from omnifund.gateway import Gateway
from omnifund.sealing import Keyring
from omnifund.store import RedisClient, Store
from omnifund.transport import Transport
from omnifund.vault import Vault
from web.cookies import cookie_name

_NAME: Final = "omnifund"


@dataclass(frozen=True, slots=True)
class Integration:
    """One app's parts. ``clock`` returns Unix seconds."""

    settings: Settings
    clock: Callable[[], float]
    observe: Observer
    keyring: Keyring
    store: Store
    attempts: Attempts
    transport: Transport
    gateway: Gateway
    vault: Vault
    access: Access
    api: Api

    @classmethod
    def build(
        cls,
        settings: Settings,
        client: RedisClient,
        *,
        clock: Callable[[], float],
        observe: Observer,
        time_redis: Callable[[float], None],
    ) -> Integration:
        """Make every part from the settings; connects to nothing yet."""
        keyring = Keyring(settings.secret_keys)
        store = Store(client, observe, time_round_trip=time_redis)
        transport = Transport(
            settings.omnifund_base_url,
            connect_timeout=settings.omnifund_connect_timeout,
            read_timeout=settings.omnifund_read_timeout,
            ca_bundle=str(settings.omnifund_ca_bundle) if settings.omnifund_ca_bundle else None,
            clock=clock,
        )
        gateway = Gateway(
            transport,
            client_id=settings.omnifund_client_id,
            client_secret=settings.omnifund_client_secret.get_secret_value(),
            redirect_uri=settings.omnifund_redirect_uri,
            clock=clock,
            observe=observe,
        )
        vault = Vault(store, keyring, observe)
        access = Access(
            gateway,
            vault,
            leeway=settings.token_refresh_leeway,
            refresh_timeout=transport.total_timeout,
            clock=clock,
            observe=observe,
        )
        return cls(
            settings=settings,
            clock=clock,
            observe=observe,
            keyring=keyring,
            store=store,
            attempts=Attempts(
                keyring, store, cookie_prefix=cookie_name(settings, "omnifund_attempt_")
            ),
            transport=transport,
            gateway=gateway,
            vault=vault,
            access=access,
            api=Api(transport, access, clock=clock),
        )

    def init_app(self, app: Flask) -> None:
        """Make the parts reachable through ``integration()``."""
        app.extensions[_NAME] = self


def integration() -> Integration:
    """Return the current app's parts."""
    return cast(Integration, current_app.extensions[_NAME])
