"""What only a SQL database can do wrong, or right."""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
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
from sqlalchemy.exc import OperationalError

from omnifund.client import OmniFund
from omnifund.errors import StoreUnavailable
from omnifund.events import Event
from omnifund.sql_token_store import SQLTokenStore, claims, connections, metadata
from omnifund.token import Token
from pytest_omnifund import Clock
from tests.faults import provider as kit
from tests.faults.provider import HonestProvider
from tests.stores.conftest import Database
from tests.stores.test_every_store import NEW, OLD, replace, save
from tests.support.postgres import PostgresServer
from tests.support.processes import free_port, wait_until
from tests.support.servers import REPOSITORY

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


def test_a_process_that_creates_the_tables_a_moment_earlier_is_no_failure(engine: Engine) -> None:
    """Workers start at once, and each finds that there are no tables yet."""
    metadata.drop_all(engine)
    late = create_engine(engine.url)

    def be_faster(_db: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.strip().startswith("CREATE TABLE"):
            SQLTokenStore(engine).create_tables()

    event.listen(late, "before_cursor_execute", be_faster)
    SQLTokenStore(late).create_tables()
    late.dispose()
    save(SQLTokenStore(engine))


def test_tables_that_cannot_be_created_are_a_failure() -> None:
    with pytest.raises(OperationalError):
        SQLTokenStore(create_engine("sqlite:////no/such/folder/connections.db")).create_tables()


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
    assert str(failed.value) == "the database file cannot be opened"
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__
    assert events == [(Event.STORE_FAILED, {"reason": "OperationalError"})]


FORKING = """
import os, sys
from sqlalchemy import create_engine
from omnifund.sql_token_store import SQLTokenStore
store = SQLTokenStore(create_engine(sys.argv[1]))
store.load("user 1")
child = os.fork()
wrong = sum(store.load("user 1") != bytes.fromhex(sys.argv[2]) for _ in range(500))
if child == 0:
    os._exit(min(wrong, 1))
print(wrong, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_after_a_fork_both_processes_read_what_is_stored(engine: Engine) -> None:
    """Two workers on one socket would read each other's rows, or that there is no connection."""
    save(SQLTokenStore(engine))
    command = [sys.executable, "-c", FORKING, str(engine.url), OLD.hex()]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.stdout == "0 0\n", done.stderr


class TestWhatAnOperatorReads:
    """A failure has a cause that somebody can remove; the sentence names it, and no value."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """A database file with one connection."""
        path = tmp_path / "connections.db"
        engine = create_engine(f"sqlite:///{path}")
        SQLTokenStore(engine).create_tables()
        save(SQLTokenStore(engine))
        engine.dispose()
        return path

    @pytest.fixture
    def failing(self) -> Iterator[Callable[..., str]]:
        """Returns what ``StoreUnavailable`` says when the database of this URL is written to."""
        engines = list[Engine]()

        def sentence(url: str, *, first: str = "SELECT 1", **options: Any) -> str:
            engine = create_engine(url, **options)
            engines.append(engine)

            def prepare(connection: Any, *_: object) -> None:
                connection.cursor().execute(first)
                connection.commit()

            event.listen(engine, "checkout", prepare)
            with pytest.raises(StoreUnavailable) as failed:
                save(SQLTokenStore(engine), "user 2", b"a record" * 10_000)
            return str(failed.value)

        yield sentence
        for engine in engines:
            engine.dispose()

    def test_of_sqlite(self, path: Path, failing: Callable[..., str], tmp_path: Path) -> None:
        url = f"sqlite:///{path}"
        assert failing(url, first="PRAGMA max_page_count = 1") == "the database is full"
        read_only = f"sqlite:///file:{path}?mode=ro&uri=true"
        assert failing(read_only) == "the database is read-only"
        other = create_engine(url)
        with other.connect() as db:
            db.exec_driver_sql("BEGIN IMMEDIATE")
            locked = failing(url, connect_args={"timeout": 0})
        other.dispose()
        assert locked == "another process keeps the database locked"
        (tmp_path / "text").write_text("no database" * 100)
        assert failing(f"sqlite:///{tmp_path / 'text'}") == "the file is not a database"
        empty = failing(f"sqlite:///{tmp_path / 'empty.db'}")
        assert empty == "a table or column is missing: see create_tables()"
        changed = failing(url, first="ALTER TABLE omnifund_connections DROP COLUMN record")
        assert changed == "a table or column is missing: see create_tables()"

    def test_of_postgresql(self, failing: Callable[..., str], postgres: PostgresServer) -> None:
        postgres.flush()
        url = postgres.url
        assert failing(url) == "a table or column is missing: see create_tables()"
        store = SQLTokenStore(engine := create_engine(url))
        store.create_tables()
        save(store, "user 2")
        read_only = "SET default_transaction_read_only = on"
        assert failing(url, first=read_only) == "the database is read-only"
        with engine.begin() as db:
            db.execute(select(connections).with_for_update()).all()
            slow = failing(url, first="SET statement_timeout = 100")
            assert slow == "the database did not respond in time"
            waited = failing(url, first="SET lock_timeout = 100")
            assert waited == "another process keeps the database locked"
        with engine.begin() as db:
            db.execute(text("CREATE ROLE stranger LOGIN"))
            db.execute(text("GRANT USAGE ON SCHEMA public TO stranger"))
        stranger = failing(url.replace("postgres@", "stranger@"))
        assert stranger == "the database does not permit a statement"
        with engine.begin() as db:
            for table in ("omnifund_connections", "omnifund_claims"):
                db.execute(text(f"GRANT SELECT, INSERT, UPDATE ON {table} TO stranger"))
        reader = create_engine(url.replace("postgres@", "stranger@"))
        # Before OmniFund is asked: what it responds could not be stored (K27).
        with pytest.raises(StoreUnavailable, match="does not permit"):
            SQLTokenStore(reader).lock("user 1", b"holder", 9)
        with pytest.raises(StoreUnavailable, match="does not permit"):
            SQLTokenStore(reader).claim("omnifund:code:1", value=b"mine", seconds=9)
        assert SQLTokenStore(reader).load("user 2") == OLD
        reader.dispose()
        unknown = failing(url.replace("postgres@", "unknown@"))
        assert unknown.startswith("the database refused the connection: check its user")
        nowhere = url.replace(f":{postgres.port}", f":{free_port()}")
        assert failing(nowhere) == "the database is unreachable"
        with engine.begin() as db:
            db.execute(text("DROP OWNED BY stranger"))
            db.execute(text("DROP ROLE stranger"))
        engine.dispose()

    def test_of_what_is_no_statement(self, engine: Engine) -> None:
        """``also`` is the host's own: nothing is wrong with the database."""
        store = SQLTokenStore(engine)
        with pytest.raises(StoreUnavailable, match="the database failed"):
            save(store, also=["insert"])
        assert store.load("user 1") is None

    def test_of_a_pool_that_the_host_has_used_up(self, engine: Engine) -> None:
        small = create_engine(engine.url, pool_size=1, max_overflow=0, pool_timeout=0.1)
        store = SQLTokenStore(small)
        with small.connect(), pytest.raises(StoreUnavailable, match="became free in time"):
            store.load("user 1")
        assert store.load("user 1") is None
        small.dispose()


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
        with HonestProvider(clock=clock) as provider:
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

            def killed_meanwhile(request: kit.Request, wire: kit.Wire) -> bool:
                own_postgres.stop()
                return provider._token(request)(request, wire)

            provider.next_token_answer(killed_meanwhile)
            renewed = list[Token]()
            thread = threading.Thread(target=lambda: renewed.append(omnifund.renew("user 1").token))
            thread.start()
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
