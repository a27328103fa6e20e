"""Every store that the package offers, behind one fixture: the same tests hold for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, create_engine

from omnifund.events import Event
from omnifund.redis_client import OPTIONS
from omnifund.sql_token_store import SQLTokenStore
from omnifund.token_store import RedisTokenStore, TokenStore
from tests.support.postgres import PostgresServer
from tests.support.valkey import ValkeyServer


@dataclass
class Database:
    """A database with nothing in it, at ``url``; ``dump`` returns all of it, as a backup has it."""

    url: str
    dump: Callable[[], bytes]
    events: list[Event] = field(default_factory=list)
    engines: list[Engine] = field(default_factory=list)

    def on_event(self, event: Event, **_facts: Any) -> None:
        self.events.append(event)

    def open(self) -> TokenStore:
        """Return a store with connections of its own, as another process would make it."""
        if self.url.startswith("redis"):
            return RedisTokenStore(redis.Redis.from_url(self.url, **OPTIONS), self.on_event)
        self.engines.append(create_engine(self.url))
        store = SQLTokenStore(self.engines[-1], self.on_event)
        store.create_tables()
        return store


def _dump_of(valkey: ValkeyServer) -> bytes:
    with valkey.client() as client:
        keys = list(client.scan_iter())
        return b"\n".join([*keys, *(client.dump(key) or b"" for key in keys)])


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["redis", "sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        path = tmp_path / "connections.db"
        empty = Database(f"sqlite:///{path}", path.read_bytes)
    elif request.param == "redis":
        valkey: ValkeyServer = request.getfixturevalue("valkey")
        valkey.flush()
        empty = Database(valkey.url, lambda: _dump_of(valkey))
    else:
        postgres: PostgresServer = request.getfixturevalue("postgres")
        postgres.flush()
        empty = Database(postgres.url, postgres.dump)
    yield empty
    for engine in empty.engines:
        engine.dispose()


@pytest.fixture
def store(database: Database) -> TokenStore:
    """A store with nothing in it."""
    return database.open()
