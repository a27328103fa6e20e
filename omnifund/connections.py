"""Connections: a merchant's tokens, encrypted, in a ``TokenStore``.

Each record is encrypted with a key that is derived from its *connection ID* too. So the store alone
reveals nothing, and a session that is written back late cannot bring back an old token.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from omnifund import errors
from omnifund.encryption import Cipher, Unreadable, fingerprint
from omnifund.events import Event, OnEvent, ignore
from omnifund.token import Token
from omnifund.token_store import MAX_LOCK_SECONDS, NEVER, LockState, Swap, TokenStore

_FAILED: Final = b"failed "
_MAX_PAUSE_SECONDS: Final = 3600  # the longest pause after a failed refresh
_RESEAL_SECONDS: Final = 10  # a lock's end, should this process die in between


class _Ended(msgspec.Struct, frozen=True, array_like=True):
    """What is left of a connection that OmniFund has ended."""

    ended_at: int
    reason: str


_ENCODER: Final = msgspec.msgpack.Encoder()
_TOKEN: Final = msgspec.msgpack.Decoder(Token)
_ENDED: Final = msgspec.msgpack.Decoder(_Ended)


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token as it is stored; ``version`` is what a later ``replace`` compares with."""

    token: Token
    version: bytes = field(repr=False)


class Failure(NamedTuple):
    """A refresh that failed a moment ago: why, and for how many seconds no request tries again."""

    reason: str
    seconds: int


@dataclass(frozen=True, slots=True)
class RefreshLock:
    """The result of asking for the refresh lock, all read at one moment.

    ``holder``: the random value by which the store knows this caller. ``acquired``: this caller may
    refresh. ``failure``: a recent refresh failed. ``stored``: the token as stored now, or why there
    is none.
    """

    holder: bytes
    acquired: bool
    failure: Failure | None
    stored: StoredToken | errors.ReauthorizationRequired


class Resealed(NamedTuple):
    """Records that ``reseal`` found, by the secret key that encrypts them."""

    newest_key: int
    older_key: int
    unreadable: int


@dataclass(eq=False)
class Connections:
    """Reads and writes connections. Each method raises ``StoreUnavailable``.

    ``lasting``: connections have no end of their own, so they are listed, and what ended one stays
    readable. ``client_tag`` changes with the client's credentials, and a failed refresh with
    another tag does not count.
    """

    store: TokenStore
    cipher: Cipher
    lasting: bool = False
    client_tag: str = ""
    on_event: OnEvent = ignore

    def load(self, connection_id: str) -> StoredToken:
        """Return the connection's token; raises what ``open`` raises."""
        return self.open(connection_id, self.store.load(connection_id))

    def open(self, connection_id: str, record: bytes | None) -> StoredToken:
        """Decrypt a record.

        Raises ``ConnectionNotFound``, ``ConnectionUnreadable`` (and reports it), or
        ``ConnectionEnded``.
        """
        if record is None:
            raise errors.ConnectionNotFound("there is no such connection")
        try:
            packed = self.cipher.open(record, secret=connection_id, name=_name(connection_id))
            try:
                return StoredToken(_TOKEN.decode(packed), record)
            except msgspec.ValidationError:
                ended = _ENDED.decode(packed)
        except (Unreadable, ValueError):  # msgspec.DecodeError, or UnicodeDecodeError
            handle = fingerprint(connection_id)
            self.on_event(Event.RECORD_UNREADABLE, record="token", handle=handle)
            raise errors.ConnectionUnreadable("the connection cannot be decrypted") from None
        raise errors.ConnectionEnded(ended.reason, ended_at=ended.ended_at)

    def save(
        self,
        connection_id: str,
        token: Token,
        *,
        seconds: int | None,
        completes: Mapping[str, bytes] | None = None,
        swap: Swap | None = None,
        also: Sequence[Any] = (),
    ) -> bytes | None:
        """Store ``token``; for the parameters and the result see ``TokenStore.save``."""
        return self.store.save(
            connection_id,
            self._seal(connection_id, token),
            refreshed_at=self._refreshed_at(token),
            seconds=seconds,
            completes=completes or {},
            swap=swap,
            also=also,
        )

    def list_ids(self, refreshed_before: int | None = None) -> list[str]:
        """Return the IDs of connections without an end; see ``TokenStore.list_ids``.

        Raises ``ValueError`` if this client's connections have an end: none of them is listed.
        """
        if not self.lasting:
            raise ValueError("only with sign_in_seconds=None are connections listed and kept alive")
        return self.store.list_ids(refreshed_before)

    def delete(self, connection_id: str) -> None:
        """Delete all that is stored for the connection."""
        self.store.delete(connection_id, listed=self.lasting)

    def unlist(self, connection_id: str, refreshed_before: int) -> None:
        """Drop the ID of a connection that is gone; see ``TokenStore.unlist``."""
        self.store.unlist(connection_id, refreshed_before)

    def acquire_refresh_lock(self, connection_id: str, *, seconds: float) -> RefreshLock:
        """Ask for the refresh lock for ``seconds``, and read the token again under it."""
        holder = secrets.token_bytes(16)
        state = self.store.lock(connection_id, holder, seconds)
        if state.holder is not None and self._is_stale(state):
            # No process of this configuration wrote that: a planted value, or a failure from
            # before an operator corrected the client's credentials.
            self.store.release(connection_id, state.holder)
            state = self.store.lock(connection_id, holder, seconds)
        failure = None
        if state.holder is not None and state.holder.startswith(self._failure_prefix()):
            reason = state.holder.removeprefix(self._failure_prefix()).decode("utf-8", "replace")
            failure = Failure(reason, max(1, math.ceil(state.seconds)))
        stored: StoredToken | errors.ReauthorizationRequired
        try:
            stored = self.open(connection_id, state.record)
        except errors.ReauthorizationRequired as error:
            stored = error
        return RefreshLock(holder, state.holder == holder, failure, stored)

    def _is_stale(self, state: LockState) -> bool:
        holder = state.holder or b""
        if holder.startswith(self._failure_prefix()):
            return state.seconds > _MAX_PAUSE_SECONDS
        return holder.startswith(_FAILED) or state.seconds > MAX_LOCK_SECONDS

    def release_refresh_lock(
        self, connection_id: str, lock: RefreshLock, failure: Failure | None = None
    ) -> None:
        """Let other requests refresh: now, or after the ``failure``'s pause."""
        if failure is None:
            self.store.release(connection_id, lock.holder)
            return
        mark = self._failure_prefix() + failure.reason.encode()
        seconds = min(failure.seconds, _MAX_PAUSE_SECONDS)
        self.store.release(connection_id, lock.holder, mark, seconds)

    def prepare(self, connection_id: str, token: Token) -> StoredToken:
        """Return ``token`` as it will be stored, so that ``replace`` can be repeated."""
        return StoredToken(token, self._seal(connection_id, token))

    def replace(
        self, connection_id: str, old: StoredToken, new: StoredToken, lock: RefreshLock
    ) -> bool:
        """The new tokens replaced exactly the old ones (RFC 9700 §4.14).

        Releases the lock too. Returns ``False``, and stores nothing, when ``old`` is no longer
        there: the merchant has signed out, or a newer token has replaced it.
        """
        moment = self._refreshed_at(new.token)
        return self.store.replace(
            connection_id, old.version, new.version, refreshed_at=moment, lock=lock.holder
        )

    def end(
        self, connection_id: str, old: StoredToken, lock: RefreshLock, ended: errors.ConnectionEnded
    ) -> bool:
        """Remember why ``old`` ended, or delete it; return ``False`` when it is no longer there."""
        if not self.lasting:
            return self.store.delete(connection_id, old.version, listed=False)
        record = self._seal(connection_id, _Ended(ended.ended_at, ended.reason))
        return self.store.replace(
            connection_id, old.version, record, refreshed_at=NEVER, lock=lock.holder
        )

    def reseal(self) -> Resealed:
        """Encrypt every listed connection with the newest secret key.

        Safe to repeat, and while connections are in use: one that is being refreshed is left to the
        next run. When it returns 0 for ``older_key``, no listed connection needs an older key any
        more.
        """
        counts = [0, 0, 0]
        for connection_id in self.list_ids():
            if (record := self.store.load(connection_id)) is None:
                continue
            name = _name(connection_id)
            try:
                number, packed = self.cipher.open_with(record, secret=connection_id, name=name)
            except Unreadable:
                counts[2] += 1
                continue
            if number > 0:
                new = self.cipher.seal(packed, secret=connection_id, name=name)
                # A refresh replaces what it has read, and OmniFund has dropped that by then.
                lock = self.acquire_refresh_lock(connection_id, seconds=_RESEAL_SECONDS)
                if lock.acquired:  # Its place in the list stays.
                    held = lock.holder
                    self.store.replace(connection_id, record, new, refreshed_at=None, lock=held)
            counts[min(number, 1)] += 1
        return Resealed(*counts)

    def _refreshed_at(self, token: Token) -> int | None:
        if not self.lasting:
            return None
        return token.obtained_at if token.refresh_token else NEVER

    def _failure_prefix(self) -> bytes:
        return _FAILED + f"{self.client_tag} ".encode()

    def _seal(self, connection_id: str, record: Token | _Ended) -> bytes:
        packed, name = _ENCODER.encode(record), _name(connection_id)
        return self.cipher.seal(packed, secret=connection_id, name=name)


def _name(connection_id: str) -> str:
    # The associated data of each record, in whatever store it is. It looks like Redis's key of the
    # record, but nothing depends on that; changing it would make every stored record unreadable.
    return f"omnifund:{{{fingerprint(connection_id)}}}:token"
