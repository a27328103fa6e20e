"""``TokenStore`` in a SQL database, through SQLAlchemy Core: SQLite or PostgreSQL.

Not imported by other modules; it needs SQLAlchemy (the extra ``sql``). Give the engine timeouts
(docs/connect-your-users.md); a statement that fails becomes ``StoreUnavailable``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, TimeoutError

from omnifund.encryption import fingerprint
from omnifund.errors import StoreUnavailable
from omnifund.events import Event, OnEvent, ignore
from omnifund.token_store import LockState, Swap

metadata: Final = sa.MetaData()
"""The two tables, for a migration tool."""

connections: Final = sa.Table(
    "omnifund_connections",
    metadata,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("record", sa.LargeBinary, nullable=False),
    sa.Column("refreshed_at", sa.BigInteger, index=True),
    sa.Column("expires_at", sa.Float, index=True),
)
claims: Final = sa.Table(
    "omnifund_claims",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("holder", sa.LargeBinary, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False, index=True),
)

Result = TypeVar("Result")

_DROPPED_AT_ONCE: Final = 100
# The database's own clock, in Unix seconds: those of several machines may differ.
_NOW: Final[dict[str, sa.ColumnElement[Any]]] = {
    "postgresql": sa.func.extract("epoch", sa.func.clock_timestamp()),
    "sqlite": (sa.func.julianday("now") - 2440587.5) * 86400.0,
}
# Whatever the host has set for its engine: a transaction is one, and of two that change the same
# row, the second waits for the first and sees what that has written.
_ISOLATION: Final = {"postgresql": "READ COMMITTED", "sqlite": "SERIALIZABLE"}
_INSERT: Final[dict[str, Any]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
# SQLite's name of the error, or PostgreSQL's SQLSTATE; what either begins with.
_UNKNOWN: Final = "the database failed"
_FAILURES: Final = {
    "SQLITE_FULL": "the database is full",
    "SQLITE_READONLY": "the database is read-only",
    "SQLITE_BUSY": "another process keeps the database locked",
    "SQLITE_CANTOPEN": "the database file cannot be opened",
    "SQLITE_NOTADB": "the file is not a database",
    "SQLITE_CORRUPT": "the database file is damaged",
    "SQLITE_ERROR": "a table or column is missing: see create_tables()",
    "42P01": "a table or column is missing: see create_tables()",
    "42703": "a table or column is missing: see create_tables()",
    "42501": "the database does not permit a statement",
    "25006": "the database is read-only",
    "53100": "the database is full",
    "55P03": "another process keeps the database locked",
    "57014": "the database did not respond in time",
    "57P": "the database has closed the connection",
    "None": "the database is unreachable",
}


class SQLTokenStore:
    """``TokenStore`` in a SQL database. Each method is one transaction, which writes first:
    SQLite lets a transaction that has begun to read wait for no other that writes.
    """

    def __init__(self, engine: sa.Engine, on_event: OnEvent = ignore) -> None:
        """``engine``: of SQLite or PostgreSQL; raises ``ValueError`` for another database."""
        if engine.dialect.name not in _NOW:
            raise ValueError("SQLTokenStore supports SQLite and PostgreSQL")
        self._engine = engine.execution_options(isolation_level=_ISOLATION[engine.dialect.name])
        self._on_event = on_event
        self._process = os.getpid()
        self._insert: Any = _INSERT[engine.dialect.name]
        now = self._now = _NOW[engine.dialect.name]
        # Built once, as every request needs them: building one takes longer than executing it.
        expires_at = connections.c.expires_at
        self._select_record = sa.select(connections.c.record).where(
            connections.c.id == sa.bindparam("id"), sa.or_(expires_at.is_(None), expires_at > now)
        )
        seconds = sa.bindparam("seconds", type_=sa.Float)
        insert = self._insert(claims).values(expires_at=now + seconds)
        self._insert_claim = insert.on_conflict_do_update(
            index_elements=["name"],
            set_={"holder": insert.excluded.holder, "expires_at": insert.excluded.expires_at},
            where=claims.c.expires_at <= now,
        )
        self._select_claim = sa.select(claims.c.holder, claims.c.expires_at - now).where(
            claims.c.name == sa.bindparam("name"), claims.c.expires_at > now
        )

    def create_tables(self) -> None:
        """Create the two tables, if they do not exist. All processes may do so at their start."""
        for _ in metadata.tables:
            with suppress(DBAPIError):  # Another process has created one a moment ago.
                return metadata.create_all(self._engine)
        return metadata.create_all(self._engine)

    def load(self, connection_id: str) -> bytes | None:
        return self._run(lambda db: self._record(db, connection_id))

    def save(
        self,
        connection_id: str,
        record: bytes,
        *,
        refreshed_at: int | None,
        seconds: int | None,
        completes: Mapping[str, bytes],
        swap: Swap | None,
        also: Sequence[Any],
    ) -> bytes | None:
        def work(db: sa.Connection) -> bytes | None:
            expires_at = None if seconds is None else self._now + seconds
            values = {"record": record, "refreshed_at": refreshed_at, "expires_at": expires_at}
            insert = self._insert(connections).values(id=connection_id, **values)
            db.execute(insert.on_conflict_do_update(index_elements=["id"], set_=values))
            for name, value in completes.items():
                db.execute(self._held(name).values(holder=value))
            last = self._swap(db, swap) if swap else None
            for statement in also:
                db.execute(statement)
            self._drop_expired(db)
            return last

        return self._run(work)

    def replace(
        self, connection_id: str, old: bytes, new: bytes, *, refreshed_at: int | None, lock: bytes
    ) -> bool:
        values: dict[str, Any] = {"record": new}
        if refreshed_at is not None:
            values["refreshed_at"] = refreshed_at

        def work(db: sa.Connection) -> bool:
            ours = connections.c.id == connection_id, connections.c.record == old
            replaced = db.execute(sa.update(connections).where(*ours).values(values)).rowcount > 0
            db.execute(sa.delete(claims).where(*_locked_by(connection_id, lock)))
            return replaced or self._record(db, connection_id) == new

        return self._run(work)

    def delete(self, connection_id: str, old: bytes | None = None, *, listed: bool) -> bool:
        def work(db: sa.Connection) -> bool:
            ours = sa.delete(connections).where(connections.c.id == connection_id)
            if old is not None:
                ours = ours.where(connections.c.record == old)
            if (deleted := db.execute(ours).rowcount > 0) or old is None:
                db.execute(sa.delete(claims).where(claims.c.name == _lock_name(connection_id)))
            return deleted

        return self._run(work)

    def list_ids(self, refreshed_before: int | None = None) -> list[str]:
        column = connections.c.refreshed_at
        listed = column.is_not(None) if refreshed_before is None else column <= refreshed_before
        query = sa.select(connections.c.id).where(listed).order_by(column)
        return self._run(lambda db: list(db.scalars(query)))

    def unlist(self, connection_id: str, refreshed_before: int) -> None:
        """Do nothing: the list is of rows, and where no row is, none is listed."""

    def lock(self, connection_id: str, holder: bytes, seconds: float) -> LockState:
        name = _lock_name(connection_id)

        def work(db: sa.Connection) -> LockState:
            _require_delete(db)
            self._claim(db, name, holder, seconds)
            found, remaining = self._read_claim(db, name)
            return LockState(found, remaining, self._record(db, connection_id))

        return self._run(work)

    def release(
        self, connection_id: str, holder: bytes, value: bytes = b"", seconds: int = 0
    ) -> None:
        values = {"holder": value, "expires_at": self._now + seconds}
        statement = sa.update(claims).values(values) if seconds else sa.delete(claims)
        self._run(lambda db: db.execute(statement.where(*_locked_by(connection_id, holder))))

    def claim(self, *names: str, value: bytes, seconds: int) -> list[bytes | None]:
        def work(db: sa.Connection) -> list[bytes | None]:
            _require_delete(db)
            for name in names:
                self._claim(db, name, value, seconds)
            return [self._read_claim(db, name)[0] for name in names]

        return self._run(work)

    def read_claim(self, name: str) -> tuple[bytes | None, float]:
        return self._run(lambda db: self._read_claim(db, name))

    def update_claim(self, name: str, value: bytes) -> None:
        self._run(lambda db: db.execute(self._held(name).values(holder=value)))

    def _run(self, work: Callable[[sa.Connection], Result]) -> Result:
        try:
            return self._try(work)
        except SQLAlchemyError as error:
            self._on_event(Event.STORE_FAILED, reason=type(error).__name__)
            # `from None`: SQLAlchemy's text quotes the statement's values.
            raise StoreUnavailable(_sentence(error)) from None

    def _try(self, work: Callable[[sa.Connection], Result]) -> Result:
        if self._process != os.getpid():
            # After a fork, the pool's connections are still the parent's.
            self._engine.dispose(close=False)
            self._process = os.getpid()
        try:
            with self._engine.begin() as db:
                return work(db)
        except DBAPIError as error:
            # A restarted server leaves dead connections in the pool.
            if not error.connection_invalidated:
                raise
            with self._engine.begin() as db:
                return work(db)

    def _drop_expired(self, db: sa.Connection) -> None:
        for table in (connections, claims):
            (key,) = table.primary_key
            # Rows that another transaction is dropping are left to it.
            expired = sa.select(key).where(table.c.expires_at < self._now).limit(_DROPPED_AT_ONCE)
            db.execute(sa.delete(table).where(key.in_(expired.with_for_update(skip_locked=True))))

    def _record(self, db: sa.Connection, connection_id: str) -> bytes | None:
        return db.scalar(self._select_record, {"id": connection_id})

    def _claim(self, db: sa.Connection, name: str, holder: bytes, seconds: float) -> None:
        db.execute(self._insert_claim, {"name": name, "holder": holder, "seconds": seconds})

    def _read_claim(self, db: sa.Connection, name: str) -> tuple[bytes | None, float]:
        row = db.execute(self._select_claim, {"name": name}).first()
        return (None, 0.0) if row is None else (row[0], float(row[1]))

    def _held(self, name: str) -> Any:
        return sa.update(claims).where(claims.c.name == name, claims.c.expires_at > self._now)

    def _swap(self, db: sa.Connection, swap: Swap) -> bytes | None:
        # Claimed first, so that of two at once the second waits for the first.
        self._claim(db, swap.name, b"", swap.seconds)
        last = db.scalar(
            sa.select(claims.c.holder).where(claims.c.name == swap.name).with_for_update()
        )
        values = {"holder": swap.value, "expires_at": self._now + swap.seconds}
        db.execute(sa.update(claims).where(claims.c.name == swap.name).values(values))
        return last or None


def _require_delete(db: sa.Connection) -> None:
    """Fail before OmniFund is asked, not when its response is stored, which deletes too."""
    for table in (connections, claims):
        db.execute(sa.delete(table).where(sa.false()))


def _sentence(error: SQLAlchemyError) -> str:
    if isinstance(error, TimeoutError):
        return "no connection to the database became free in time"
    if (cause := getattr(error, "orig", None)) is None:
        return _UNKNOWN  # raised before the database was asked, for instance by a host's `also`
    code = str(getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None))
    if code == "None" and "FATAL:" in str(cause):  # All that psycopg says of a refused connection.
        return "the database refused the connection: check its user, password, name, and limits"
    return next((text for key, text in _FAILURES.items() if code.startswith(key)), _UNKNOWN)


def _locked_by(connection_id: str, holder: bytes) -> tuple[sa.ColumnElement[bool], ...]:
    return claims.c.name == _lock_name(connection_id), claims.c.holder == holder


def _lock_name(connection_id: str) -> str:
    return f"omnifund:lock:{fingerprint(connection_id)}"
