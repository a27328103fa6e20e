"""Tokens in Redis: encrypted, replaced only by compare-and-set, refreshed under a lock.

Each token has a key of its own, named after the fingerprint of its *connection ID* and encrypted
with a key that is derived from it too. So Redis alone reveals nothing, and a session that is
written back late cannot bring back an old token. The keys of a connection share a hash tag.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from omnifund.encryption import Cipher, Unreadable, fingerprint
from omnifund.events import Event, OnEvent, ignore
from omnifund.redis_client import Command, RedisStore
from omnifund.token import Token

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Token)
_FAILED: Final = b"failed "

MAX_LOCK_SECONDS: Final = 60  # longer than any process of any configuration locks
MAX_PAUSE_SECONDS: Final = 3600  # the longest pause after a failed refresh
# Each script compares before it writes, so sending it twice does no harm, and no request can undo
# another one's write. EVAL rather than EVALSHA: refreshes are rare, and a server that has just
# taken over knows no scripts.
_REPLACE: Final = """
local stored = redis.call('GET', KEYS[1])
if redis.call('GET', KEYS[2]) == ARGV[3] then redis.call('DEL', KEYS[2]) end
if stored == ARGV[2] then return 1 end
if stored ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
"""
_DELETE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1], KEYS[2])
"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""


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

    ``acquired``: this caller may refresh. ``failure``: a recent refresh failed. ``stored``: the
    token as stored now.
    """

    owner: bytes
    acquired: bool
    failure: Failure | None
    stored: StoredToken | None


@dataclass(eq=False)
class RedisTokenStore:
    """Stores tokens by connection ID. Each method is one round trip.

    Every method raises ``StoreUnavailable`` when Redis fails, which never means "no token". The
    methods that end in ``_command`` send nothing: their commands go into a round trip of the
    caller's. ``client_tag`` changes with the client's credentials, and a failure with another tag
    does not count.
    """

    store: RedisStore
    cipher: Cipher
    client_tag: str = ""
    on_event: OnEvent = ignore

    @staticmethod
    def key(connection_id: str) -> str:
        """Return the name of the token's key in Redis."""
        return f"omnifund:{{{fingerprint(connection_id)}}}:token"

    @staticmethod
    def lock_key(connection_id: str) -> str:
        """Return the name of the refresh lock's key in Redis."""
        return f"omnifund:{{{fingerprint(connection_id)}}}:lock"

    def save_command(self, connection_id: str, token: Token, *, seconds: int) -> Command:
        """Return the command that stores ``token`` for ``seconds``, whatever was there before."""
        return ("SET", self.key(connection_id), self._seal(connection_id, token), "EX", seconds)

    def delete_command(self, connection_id: str) -> Command:
        """Return the command that deletes all that is stored for the connection."""
        return ("DEL", self.key(connection_id), self.lock_key(connection_id))

    def open(self, connection_id: str, sealed: bytes | None) -> StoredToken | None:
        """Decrypt what Redis returned. An unreadable record counts as absent, and is reported."""
        if sealed is None:
            return None
        name = self.key(connection_id)
        try:
            packed = self.cipher.open(sealed, secret=connection_id, name=name)
            return StoredToken(_DECODER.decode(packed), sealed)
        except (Unreadable, ValueError):  # msgspec.DecodeError, or UnicodeDecodeError
            handle = fingerprint(connection_id)
            self.on_event(Event.RECORD_UNREADABLE, record="token", handle=handle)
            return None

    def load(self, connection_id: str) -> StoredToken | None:
        """Return the connection's token, or ``None``."""
        (sealed,) = self.store.execute(("GET", self.key(connection_id)))
        return self.open(connection_id, sealed)

    def acquire_refresh_lock(self, connection_id: str, *, seconds: float) -> RefreshLock:
        """Ask for the refresh lock for ``seconds``, and read the token again under it."""
        lock, stale = self._try_lock(connection_id, seconds)
        if stale is not None:
            # No process of this configuration wrote that: a planted key, or a failure from before
            # an operator corrected the client's credentials.
            self.store.execute(stale)
            lock, _ = self._try_lock(connection_id, seconds)
        return lock

    def _try_lock(self, connection_id: str, seconds: float) -> tuple[RefreshLock, Command | None]:
        """Return the lock, and what deletes a key that must not be there."""
        owner, name = secrets.token_bytes(16), self.lock_key(connection_id)
        # Read the holder instead of trusting the response to SET: see PendingRequests.claim.
        _, holder, remaining_ms, sealed = self.store.execute(
            ("SET", name, owner, "NX", "PX", math.ceil(seconds * 1000)),
            ("GET", name),
            ("PTTL", name),
            ("GET", self.key(connection_id)),
        )
        failure: Failure | None = None
        stale: Command | None = None
        longest: float = MAX_LOCK_SECONDS
        if holder is None and (remaining_ms == -1 or remaining_ms > longest * 1000):
            stale = ("DEL", name)  # It has another type.
        elif holder is not None and holder != owner:
            prefix = self._failure_prefix()
            if holder.startswith(prefix):
                reason = holder.removeprefix(prefix).decode("utf-8", "replace")
                failure = Failure(reason, max(1, math.ceil(remaining_ms / 1000)))
                longest = MAX_PAUSE_SECONDS
            is_foreign = failure is None and holder.startswith(_FAILED)
            if is_foreign or remaining_ms == -1 or remaining_ms > longest * 1000:
                stale = ("EVAL", _RELEASE, 1, name, holder, b"", 0)
        stored = self.open(connection_id, sealed)
        return RefreshLock(owner, holder == owner, failure, stored), stale

    def release_refresh_lock(
        self, connection_id: str, lock: RefreshLock, failure: Failure | None = None
    ) -> None:
        """Let other requests refresh: now, or after the ``failure``'s pause."""
        name, reason, milliseconds = self.lock_key(connection_id), "", 0
        if failure is not None:
            reason, milliseconds = failure.reason, min(failure.seconds, MAX_PAUSE_SECONDS) * 1000
        mark = self._failure_prefix() + reason.encode()
        self.store.execute(("EVAL", _RELEASE, 1, name, lock.owner, mark, milliseconds))

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
        keys = (self.key(connection_id), self.lock_key(connection_id))
        (done,) = self.store.execute(
            ("EVAL", _REPLACE, 2, *keys, old.version, new.version, lock.owner)
        )
        return bool(done)

    def delete_if(self, connection_id: str, old: StoredToken) -> bool:
        """Delete ``old``; return ``False`` when it is no longer there."""
        keys = (self.key(connection_id), self.lock_key(connection_id))
        (done,) = self.store.execute(("EVAL", _DELETE, 2, *keys, old.version))
        return bool(done)

    def _failure_prefix(self) -> bytes:
        return _FAILED + f"{self.client_tag} ".encode()

    def _seal(self, connection_id: str, token: Token) -> bytes:
        packed, name = _ENCODER.encode(token), self.key(connection_id)
        return self.cipher.seal(packed, secret=connection_id, name=name)
