"""The services of request handlers, created once by `create_app`."""

from dataclasses import dataclass
from typing import cast

from flask import current_app

from local_omnifund.data import Books
from local_omnifund.demo import Clients
from local_omnifund.faults import Faults
from local_omnifund.merchants import Merchants
from local_omnifund.oauth import OmniFundServer
from local_omnifund.settings import Settings
from local_omnifund.store import Store

EXTENSION = "local_omnifund"


@dataclass(frozen=True, slots=True)
class Services:
    """Parts of the application that share the clock and the Redis connection pool."""

    settings: Settings
    store: Store
    clients: Clients
    merchants: Merchants
    faults: Faults
    server: OmniFundServer
    books: Books


def services() -> Services:
    """The services of the application that handles the current request."""
    return cast("Services", current_app.extensions[EXTENSION])
