"""The demo client: created at the start, and again after Redis was emptied."""

from dataclasses import replace

from local_omnifund.merchants import MERCHANTS
from local_omnifund.models import Client, digest
from local_omnifund.settings import Settings
from local_omnifund.store import Store

DEMO_CLIENT_NAME = "OmniFund Reference Integration"


class Clients:
    """Finds OAuth clients, and creates the demo client if it is missing.

    Creating it is idempotent, so several workers may do it simultaneously. It keeps the changes
    that a merchant made in the portal, and adds the redirect URIs that the demo needs.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    def find(self, client_id: str) -> Client | None:
        """The client with this ID, active or not."""
        client = self._store.find_client(client_id)
        if client is None and client_id == self._settings.client_id:
            self.ensure_demo_client()
            client = self._store.find_client(client_id)
        return client

    def find_active(self, client_id: str) -> Client | None:
        """The client with this ID, unless it is deactivated."""
        client = self.find(client_id)
        return client if client is not None and client.active else None

    def of_merchant(self, username: str) -> list[Client]:
        """All clients of a merchant, oldest first."""
        if username == MERCHANTS[0].username:
            self.find(self._settings.client_id)
        return self._store.clients_of(username)

    def ensure_demo_client(self) -> None:
        """Create the demo client, or update the existing one to match the settings."""
        wanted = self._settings.demo_redirect_uris
        existing = self._store.find_client(self._settings.client_id)
        if existing is None:
            self._store.save_client(
                Client(
                    client_id=self._settings.client_id,
                    owner=MERCHANTS[0].username,
                    name=DEMO_CLIENT_NAME,
                    secret_digest=digest(self._settings.client_secret),
                    redirect_uris=wanted,
                    created_at=self._store.now(),
                )
            )
            return
        missing = tuple(uri for uri in wanted if uri not in existing.redirect_uris)
        updated = replace(
            existing,
            secret_digest=digest(self._settings.client_secret),
            redirect_uris=existing.redirect_uris + missing,
        )
        if updated != existing:
            self._store.save_client(updated)
