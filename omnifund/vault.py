"""The vault: where tokens live in Redis.

Each token has a key of its own, named after the fingerprint of a *handle* (any random string that
only its owner has; here the session id) and sealed with a key that is derived from the handle too.
So Redis alone gives away nothing, and a session that is written back late cannot bring back an old
token. A token is replaced only if what is stored is still what it was made from.

Beside the token lives the *turn*: a short-lived key that says that somebody is refreshing, or that
a refresh has failed a moment ago. All keys of one handle share a hash tag, for Redis Cluster.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Final

from omnifund.events import Event, Observer, ignore
from omnifund.packing import pack, unpack
from omnifund.redis_client import Command, RedisStore
from omnifund.sealing import Keyring, Unreadable, fingerprint
from omnifund.token import Token

_FAILED: Final = b"failed"

# Each of these compares before it writes, so sending it twice does no harm, and nobody can undo
# what somebody else has done in between. EVAL rather than EVALSHA: refreshes are rare, and a
# server that has just taken over knows no scripts.
_REPLACE: Final = """
local stored = redis.call('GET', KEYS[1])
if redis.call('GET', KEYS[2]) == ARGV[3] then redis.call('DEL', KEYS[2]) end
if stored == ARGV[2] then return 1 end
if stored ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
"""
_FORGET: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1], KEYS[2])
"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], 'failed', 'PX', ARGV[2])
return 1
"""


@dataclass(frozen=True, slots=True)
class Record:
    """A token as it is stored: ``sealed`` are the bytes in Redis, to compare with later."""

    token: Token
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Turn:
    """What asking for the turn to refresh found, all at one moment.

    ``mine``: this caller may refresh. ``failed_for_ms``: a refresh has failed, and for so many
    milliseconds nobody should try again; else 0. ``record``: the token as stored now.
    """

    owner: bytes
    mine: bool
    failed_for_ms: int
    record: Record | None


class Vault:
    """Loads, saves and replaces tokens by handle. Every method is one round trip to Redis.

    All of them raise ``StoreUnavailable`` when Redis fails; that never means "no token".
    """

    def __init__(self, store: RedisStore, keyring: Keyring, observe: Observer = ignore) -> None:
        self._store = store
        self._keyring = keyring
        self._observe = observe

    @staticmethod
    def key(handle: str) -> str:
        """The name of the token's key in Redis."""
        return f"omnifund:{{{fingerprint(handle)}}}:token"

    @staticmethod
    def turn_key(handle: str) -> str:
        """The name of the key that says whose turn it is to refresh."""
        return f"omnifund:{{{fingerprint(handle)}}}:turn"

    # --- commands, for callers that send several things in one round trip --------------------

    def save(self, handle: str, token: Token, *, seconds: int) -> Command:
        """Return the command that stores ``token`` for ``seconds``, whatever was there before."""
        return ("SET", self.key(handle), self.seal(handle, token), "EX", seconds)

    def forget(self, handle: str) -> Command:
        """Return the command that removes everything that is stored under ``handle``."""
        return ("DEL", self.key(handle), self.turn_key(handle))

    def open(self, handle: str, sealed: bytes | None) -> Record | None:
        """Unseal what Redis answered. What cannot be read counts as absent, and is reported."""
        if sealed is None:
            return None
        try:
            packed = self._keyring.open(sealed, secret=handle, name=self.key(handle))
            return Record(unpack(packed), sealed)
        except (Unreadable, ValueError):
            self._observe(Event.RECORD_UNREADABLE, record="token", handle=fingerprint(handle))
            return None

    # --- round trips -------------------------------------------------------------------------

    def load(self, handle: str) -> Record | None:
        """Return the token under ``handle``, or ``None``."""
        (sealed,) = self._store.execute(("GET", self.key(handle)))
        return self.open(handle, sealed)

    def take_turn(self, handle: str, *, milliseconds: int) -> Turn:
        """Ask for the turn to refresh, and read the token again under it."""
        owner, turn_key = secrets.token_bytes(16), self.turn_key(handle)
        # Read afterwards who has it, instead of trusting the answer of SET: see Attempts.claim.
        _, holder, remaining_ms, sealed = self._store.execute(
            ("SET", turn_key, owner, "NX", "PX", milliseconds),
            ("GET", turn_key),
            ("PTTL", turn_key),
            ("GET", self.key(handle)),
        )
        return Turn(
            owner=owner,
            mine=holder == owner,
            failed_for_ms=max(1, remaining_ms) if holder == _FAILED else 0,
            record=self.open(handle, sealed),
        )

    def replace(self, handle: str, old: Record, new: bytes, turn: Turn) -> bool:
        """Put ``new`` (from ``seal``) in the place of ``old``, and give the turn back.

        Returns ``False``, and stores nothing, when ``old`` is not there any more: the merchant has
        signed out, or a newer token has taken its place.
        """
        (done,) = self._store.execute(
            (
                *("EVAL", _REPLACE, 2, self.key(handle), self.turn_key(handle)),
                *(old.sealed, new, turn.owner),
            )
        )
        return bool(done)

    def forget_if(self, handle: str, old: Record) -> bool:
        """Remove ``old``; returns ``False`` when it is not there any more."""
        (done,) = self._store.execute(
            ("EVAL", _FORGET, 2, self.key(handle), self.turn_key(handle), old.sealed)
        )
        return bool(done)

    def give_back_turn(self, handle: str, turn: Turn, *, failed_for_ms: int = 0) -> None:
        """Let others refresh: at once, or only after ``failed_for_ms`` milliseconds."""
        self._store.execute(("EVAL", _RELEASE, 1, self.turn_key(handle), turn.owner, failed_for_ms))

    def seal(self, handle: str, token: Token) -> bytes:
        """Return ``token`` as it is stored under ``handle``."""
        return self._keyring.seal(pack(token), secret=handle, name=self.key(handle))
