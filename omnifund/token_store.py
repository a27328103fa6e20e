"""Where connections are stored: ``TokenStore``, a protocol, and its implementation in Redis.

A store gets connection IDs and encrypted records, never a token (``connections`` encrypts them).
Besides, it keeps *claims*: names that one caller holds for a time. ``sql_token_store`` keeps both
in a SQL database.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from omnifund.encryption import fingerprint
from omnifund.redis_client import Command, RedisStore

NEVER: Final = 253_402_300_799
"""As ``refreshed_at``: OmniFund gives this connection no new tokens any more."""

MAX_LOCK_SECONDS: Final = 60  # longer than any process of any configuration of this app locks

_INDEX: Final = "omnifund:connections"
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
_UNLIST: Final = """
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if score and tonumber(score) <= tonumber(ARGV[2]) then redis.call('ZREM', KEYS[1], ARGV[1]) end
"""
_SWAP: Final = """
local last = redis.pcall('GET', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
if type(last) == 'table' then return false end -- an error: the key had another type
return last
"""


class Swap(NamedTuple):
    """A claim whose value is replaced, for ``seconds``, whoever holds it."""

    name: str
    value: bytes
    seconds: int


class LockState(NamedTuple):
    """Who holds a refresh lock, for how many seconds more, and the connection's record."""

    holder: bytes | None
    seconds: float
    record: bytes | None


class TokenStore(Protocol):
    """Encrypted records by connection ID, and claims by name.

    Each method is one transaction, or one round trip (two, where ``replace`` changes the list), and
    does no harm when it is sent twice. It raises ``StoreUnavailable`` when the database fails,
    which never means "nothing is stored".
    ``refreshed_at``: Unix seconds for a connection that is to be listed, ``NEVER`` when it cannot
    be refreshed any more, ``None`` for one that ends by itself.
    """

    def load(self, connection_id: str) -> bytes | None:
        """Return the connection's record, if there is one."""

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
        """Store ``record`` for ``seconds``, whatever was there before; ``None``: without an end.

        ``completes``: new values of claims that are still held. ``also``: the host's own commands
        or statements. Returns the value that ``swap`` replaced, if any.
        """

    def replace(
        self, connection_id: str, old: bytes, new: bytes, *, refreshed_at: int | None, lock: bytes
    ) -> bool:
        """Replace exactly ``old``, and release ``lock``; return whether ``new`` is stored now."""

    def delete(self, connection_id: str, old: bytes | None = None, *, listed: bool) -> bool:
        """Delete the record; with ``old``, only if that is stored. Return whether it was."""

    def list_ids(self, refreshed_before: int | None = None) -> list[str]:
        """Return the listed connections, the longest without a refresh first.

        ``refreshed_before``: only those last refreshed at that time or before.
        """

    def unlist(self, connection_id: str, refreshed_before: int) -> None:
        """Drop an ID without a record from the list, unless it has been saved since that time."""

    def lock(self, connection_id: str, holder: bytes, seconds: float) -> LockState:
        """Acquire the refresh lock if it is free, and read the record, all at one moment."""

    def release(
        self, connection_id: str, holder: bytes, value: bytes = b"", seconds: int = 0
    ) -> None:
        """Release a lock of ``holder``'s; or have ``value`` hold it for ``seconds``."""

    def claim(self, *names: str, value: bytes, seconds: int) -> list[bytes | None]:
        """Claim each name that is free, and return every name's holder."""

    def read_claim(self, name: str) -> tuple[bytes | None, float]:
        """Return a claim's holder, and for how many seconds more it is held."""

    def update_claim(self, name: str, value: bytes) -> None:
        """Set a claim's value, if it is still held."""


class RedisTokenStore(RedisStore):
    """``TokenStore`` in Redis. The keys of one connection share a hash tag.

    Without a connection's ID, Redis reveals neither the tokens nor whose they are; only listed
    connections' IDs are in it.
    """

    @staticmethod
    def key(connection_id: str) -> str:
        """Return the name of the record's key in Redis."""
        return f"omnifund:{{{fingerprint(connection_id)}}}:token"

    @staticmethod
    def lock_key(connection_id: str) -> str:
        """Return the name of the refresh lock's key in Redis."""
        return f"omnifund:{{{fingerprint(connection_id)}}}:lock"

    def _keys(self, connection_id: str) -> tuple[str, str]:
        return self.key(connection_id), self.lock_key(connection_id)

    def load(self, connection_id: str) -> bytes | None:
        record: bytes | None = self.execute(("GET", self.key(connection_id)))[0]
        return record

    def save(
        self,
        connection_id: str,
        record: bytes,
        *,
        refreshed_at: int | None,
        seconds: int | None,
        completes: Mapping[str, bytes],
        swap: Swap | None,
        also: Sequence[Command],
    ) -> bytes | None:
        swapping: list[Command] = []
        if swap is not None:
            swapping = [("EVAL", _SWAP, 1, swap.name, swap.value, swap.seconds)]
        # Before the record: an ID without one is dropped later, a record without ID never found.
        listing: list[Command] = []
        if refreshed_at is not None:
            listing = [("ZADD", _INDEX, refreshed_at, connection_id)]
        expiry = () if seconds is None else ("EX", seconds)
        storing: Command = ("SET", self.key(connection_id), record, *expiry)
        completing = [("SET", name, value, "XX", "KEEPTTL") for name, value in completes.items()]
        results = self.execute(*swapping, *listing, storing, *completing, *also)
        if listing and results[len(swapping)] is None:
            self.execute(("DEL", _INDEX), *listing)  # No process wrote that: it has another type.
        return results[0] if swapping else None

    def replace(
        self, connection_id: str, old: bytes, new: bytes, *, refreshed_at: int | None, lock: bytes
    ) -> bool:
        key, name = self._keys(connection_id)
        replaced = bool(self.execute(("EVAL", _REPLACE, 2, key, name, old, new, lock))[0])
        if replaced and refreshed_at is not None:
            # The list has another slot in a Cluster, so no script changes both. Whoever connected
            # again in between is moved to the front, where keep_alive looks at each.
            place: Command = ("ZADD", _INDEX, "XX", refreshed_at, connection_id)
            if self.execute(place, ("GET", key))[1] not in (new, None):
                self.execute(("ZADD", _INDEX, "XX", 0, connection_id))
        return replaced

    def delete(self, connection_id: str, old: bytes | None = None, *, listed: bool) -> bool:
        keys = self._keys(connection_id)
        command: Command = ("DEL", *keys) if old is None else ("EVAL", _DELETE, 2, *keys, old)
        unlist: list[Command] = [("ZREM", _INDEX, connection_id)] if listed else []
        return bool(self.execute(command, *unlist)[0])

    def list_ids(self, refreshed_before: int | None = None) -> list[str]:
        before = "+inf" if refreshed_before is None else refreshed_before
        (found,) = self.execute(("ZRANGEBYSCORE", _INDEX, "-inf", before))
        return [each.decode(errors="replace") for each in found]

    def unlist(self, connection_id: str, refreshed_before: int) -> None:
        self.execute(("EVAL", _UNLIST, 1, _INDEX, connection_id, refreshed_before))

    def lock(self, connection_id: str, holder: bytes, seconds: float) -> LockState:
        key, name = self._keys(connection_id)
        # Read the holder instead of trusting the response to SET: see claim().
        commands: tuple[Command, ...] = (
            ("SET", name, holder, "NX", "PX", math.ceil(seconds * 1000)),
            ("GET", name),
            ("PTTL", name),
            ("GET", key),
        )
        _, found, remaining_ms, record = self.execute(*commands)
        if found is None and (remaining_ms == -1 or remaining_ms > MAX_LOCK_SECONDS * 1000):
            # No process wrote that: it has another type.
            self.execute(("DEL", name))
            _, found, remaining_ms, record = self.execute(*commands)
        return LockState(found, math.inf if remaining_ms == -1 else remaining_ms / 1000, record)

    def release(
        self, connection_id: str, holder: bytes, value: bytes = b"", seconds: int = 0
    ) -> None:
        name = self.lock_key(connection_id)
        self.execute(("EVAL", _RELEASE, 1, name, holder, value, seconds * 1000))

    def claim(self, *names: str, value: bytes, seconds: int) -> list[bytes | None]:
        # SET NX alone is not enough: it is sent again when the connection breaks before the
        # response, and the second SET would lose against the first.
        commands: list[Command] = []
        for name in names:
            commands += [("SET", name, value, "NX", "EX", seconds), ("GET", name)]
        return self.execute(*commands)[1::2]

    def read_claim(self, name: str) -> tuple[bytes | None, float]:
        holder, remaining_ms = self.execute(("GET", name), ("PTTL", name))
        return holder, remaining_ms / 1000

    def update_claim(self, name: str, value: bytes) -> None:
        self.execute(("SET", name, value, "XX", "KEEPTTL"))
