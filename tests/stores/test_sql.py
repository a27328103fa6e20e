"""What only a SQL database can do wrong, or right."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    create_mock_engine,
    event,
    insert,
    select,
    text,
)

from omnifund.client import OmniFund
from omnifund.errors import StoreUnavailable
from omnifund.events import Event
from omnifund.sql_token_store import SQLTokenStore, claims, connections
from omnifund.token import Token
from tests.faults.provider import HonestProvider
from tests.stores.conftest import Database
from tests.stores.test_every_store import NEW, OLD, replace, save
from tests.support.postgres import PostgresServer
from tests.support.processes import wait_until
from tests.support.stack import Clock

MANY = 100_000


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database that has the tables."""
    url = f"sqlite:///{tmp_path / 'connections.db'}"
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        server.flush()
        url = server.url
    engine = create_engine(url)
    SQLTokenStore(engine).create_tables()
    yield engine
    engine.dispose()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def away(own_postgres: PostgresServer) -> Iterator[Database]:
    """The database in it."""
    database = Database(own_postgres.url, bytes)
    yield database
    for engine in database.engines:
        engine.dispose()


def test_creating_the_tables_may_be_repeated(engine: Engine) -> None:
    SQLTokenStore(engine).create_tables()


def test_another_kind_of_database_is_refused_at_once() -> None:
    engine: Any = create_mock_engine("mysql+pymysql://", lambda *_: None)
    with pytest.raises(ValueError, match="SQLite and PostgreSQL"):
        SQLTokenStore(engine)


def test_reading_a_connection_is_one_query(engine: Engine) -> None:
    store, sent = SQLTokenStore(engine), list[str]()
    save(store)

    def count(_db: Connection, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", count)
    assert store.load("user 1") == OLD
    assert len(sent) == 1


def test_a_connection_among_100_000_is_found_through_an_index(engine: Engine) -> None:
    now = int(time.time())
    rows = [
        {"id": f"user {number}", "record": b"x" * 200, "refreshed_at": now + number}
        for number in range(MANY)
    ]
    with engine.begin() as db:
        db.execute(insert(connections), rows)
        if engine.dialect.name == "postgresql":
            db.execute(text("ANALYZE"))
    store = SQLTokenStore(engine)
    assert store.load(f"user {MANY - 1}") == b"x" * 200
    assert store.load("user nobody") is None
    assert store.list_ids(now + 2) == ["user 0", "user 1", "user 2"]
    by_owner = select(connections.c.record).where(connections.c.id == "user 5")
    due = select(connections.c.id).where(connections.c.refreshed_at <= now + 2)
    explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
    with engine.begin() as db:
        for query in (by_owner, due):
            sql = str(query.compile(engine, compile_kwargs={"literal_binds": True}))
            plan = "\n".join(str(row) for row in db.execute(text(explain + sql)))
            assert "ndex" in plan or "INDEX" in plan
            assert "Seq Scan" not in plan
            assert "SCAN" not in plan


def test_what_the_host_stores_is_in_the_same_transaction(engine: Engine) -> None:
    """K25"""
    with engine.begin() as db:
        db.execute(text("CREATE TABLE users (id INTEGER PRIMARY KEY, connected INTEGER)"))
        db.execute(text("INSERT INTO users VALUES (1, 0)"))
    store = SQLTokenStore(engine)
    save(store, also=[text("UPDATE users SET connected = 1")])
    with engine.begin() as db:
        assert db.scalar(text("SELECT connected FROM users")) == 1
    with pytest.raises(StoreUnavailable):
        save(store, record=NEW, also=[text("UPDATE no_such_table SET connected = 2")])
    assert store.load("user 1") == OLD


def test_what_has_ended_is_dropped_by_the_next_sign_in(engine: Engine) -> None:
    store = SQLTokenStore(engine)
    with engine.begin() as db:
        for number in range(250):
            row = {"id": f"old {number}", "record": b"", "expires_at": 1.0}
            db.execute(insert(connections), row)
            row = {"name": f"old {number}", "holder": b"", "expires_at": 1.0}
            db.execute(insert(claims), row)
    for _ in range(3):
        save(store, seconds=100)
    with engine.begin() as db:
        assert db.scalars(select(connections.c.id)).all() == ["user 1"]
        assert db.scalars(select(claims.c.name)).all() == []


def test_a_failure_says_nothing_of_what_was_stored() -> None:
    """A5: SQLAlchemy's own text quotes the values of the statement."""
    events = list[Any]()
    engine = create_engine("sqlite:////no/such/folder/connections.db")
    store = SQLTokenStore(engine, lambda event, **facts: events.append((event, facts)))
    with pytest.raises(StoreUnavailable) as failed:
        save(store, "owner@example.com", b"a record")
    assert str(failed.value) == "the database failed"
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__
    assert events == [(Event.STORE_FAILED, {"reason": "OperationalError"})]


def test_a_database_that_another_program_is_writing_to_is_waited_for(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'connections.db'}", connect_args={"timeout": 10})
    store = SQLTokenStore(engine)
    store.create_tables()
    save(store)
    other = engine.connect()
    other.exec_driver_sql("BEGIN IMMEDIATE")
    done = threading.Event()

    def write() -> None:
        assert replace(store, OLD, NEW)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert store.load("user 1") == OLD
    assert not done.is_set()
    other.rollback()
    thread.join(10)
    assert done.is_set()
    other.close()
    engine.dispose()


class TestAway:
    """F5, F8: PostgreSQL is stopped and killed for real."""

    def test_it_is_never_taken_for_nothing_stored(
        self, own_postgres: PostgresServer, away: Database
    ) -> None:
        store = away.open()
        save(store)
        own_postgres.stop()
        for call in (
            lambda: store.load("user 1"),
            lambda: save(store, record=NEW),
            lambda: replace(store, OLD, NEW),
            lambda: store.delete("user 1", listed=True),
            lambda: store.list_ids(),
            lambda: store.lock("user 1", b"mine", 30),
            lambda: store.release("user 1", b"mine"),
            lambda: store.claim("a", value=b"1", seconds=60),
            lambda: store.read_claim("a"),
            lambda: store.update_claim("a", b"2"),
        ):
            with pytest.raises(StoreUnavailable):
                call()
        assert away.events == [Event.STORE_FAILED] * 10
        own_postgres.start()
        assert store.load("user 1") == OLD

    def test_a_restart_between_two_calls_is_not_noticed(
        self, own_postgres: PostgresServer, away: Database
    ) -> None:
        """K26: the connections in the pool are dead."""
        store = away.open()
        save(store)
        own_postgres.stop()
        own_postgres.start()
        assert store.load("user 1") == OLD
        assert away.events == []

    def test_tokens_are_stored_when_it_comes_back_in_time(
        self, own_postgres: PostgresServer, away: Database
    ) -> None:
        """E8: it is killed while OmniFund responds to a refresh."""
        clock = Clock()
        with HonestProvider(clock=clock, delay=1) as provider:
            omnifund = OmniFund(
                away.open(),
                base_url=provider.url,
                client_id="an id",
                client_secret="a secret",
                redirect_uri="http://localhost:8000/callback",
                secret_keys=[secrets.token_urlsafe(48)],
                sign_in_seconds=None,
                clock=clock,
                on_event=away.on_event,
            )
            omnifund.sign_in_with_password("merchant", "password", owner="user 1")
            clock.advance(3600)
            renewed = list[Token]()
            thread = threading.Thread(target=lambda: renewed.append(omnifund.renew("user 1").token))
            thread.start()
            wait_until(lambda: provider.refreshes == 1)
            own_postgres.stop()
            wait_until(lambda: Event.STORE_FAILED in away.events)
            own_postgres.start()
            thread.join(20)
            assert omnifund.tokens.load("user 1").token == renewed[0]
            assert Event.REFRESH_UNSAVED not in away.events


class TestTheHostsEngine:
    """M4: a host may have set any isolation level; the store's guarantees do not depend on it."""

    @pytest.fixture(params=["AUTOCOMMIT", "REPEATABLE READ", "SERIALIZABLE"])
    def odd(self, request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[Engine]:
        postgres.flush()
        engine = create_engine(postgres.url, isolation_level=request.param, pool_size=20)
        yield engine
        engine.dispose()

    def test_what_is_stored_together_is_stored_as_a_whole_or_not_at_all(self, odd: Engine) -> None:
        store = SQLTokenStore(odd)
        store.create_tables()
        with pytest.raises(StoreUnavailable):
            save(store, also=[text("INSERT INTO no_such_table VALUES (1)")])
        assert store.load("user 1") is None

    def test_of_twenty_that_replace_at_once_one_does_and_none_fails(self, odd: Engine) -> None:
        store = SQLTokenStore(odd)
        store.create_tables()
        for round_ in range(5):
            save(store, record=OLD)
            with ThreadPoolExecutor(20) as pool:
                done = pool.map(lambda number: replace(store, OLD, b"new %d" % number), range(20))
                assert sorted(done) == [False] * 19 + [True], round_
