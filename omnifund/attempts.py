"""Sign-in attempts: what has to be remembered between the redirect to OmniFund and the callback.

An attempt travels in a sealed cookie of the browser that made it, one cookie for each, so that two
tabs never overwrite each other's and a start costs the server nothing. Redis only remembers which
attempts have been used: a callback claims its attempt with one atomic command before the code goes
to the token endpoint (RFC 6749 §10.5, §10.12).
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Self

from omnifund import trace
from omnifund.errors import AttemptInvalid, StoreUnavailable
from omnifund.redis_client import Command, RedisStore
from omnifund.sealing import Keyring, Unreadable, fingerprint
from omnifund.trace import Check

ATTEMPT_SECONDS: Final = 600
"""How long a merchant may take on OmniFund's pages."""

ATTEMPTS_PER_BROWSER: Final = 7
"""How many attempts one browser may have open; older ones are dropped."""

CLOCK_SKEW_SECONDS: Final = 60
"""How far another machine of ours may be ahead."""

WAIT_SECONDS: Final = 5
"""For how long after a callback's claim a second one waits for what comes of it."""

_MAX_COOKIE_CHARACTERS: Final = 3072
_MARK_SECONDS: Final = ATTEMPT_SECONDS + CLOCK_SKEW_SECONDS
_POLL_SECONDS: Final = 0.05
_FAILED: Final = b"failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to sign in. ``started_at``: Unix seconds. ``code_verifier``: empty without PKCE."""

    state: str = field(repr=False)
    code_verifier: str = field(repr=False)
    next_path: str
    started_at: float

    @classmethod
    def start(cls, next_path: str, *, pkce: bool, now: float) -> Self:
        """Make an attempt with a fresh ``state`` and code verifier, 256 random bits each."""
        return cls(
            state=secrets.token_urlsafe(32),
            # RFC 7636 §4.1: 43 characters, the shortest and the recommended form.
            code_verifier=secrets.token_urlsafe(32) if pkce else "",
            next_path=next_path,
            started_at=now,
        )


class Claim(Enum):
    """What claiming an attempt found."""

    WON = "this callback is the first: redeem the code"
    LOST = "another callback had it and came to nothing"
    FINISHED = "the sign-in was finished with it"


class Attempts:
    """Seals attempts for the browser, and lets each be used once."""

    def __init__(
        self,
        keyring: Keyring,
        store: RedisStore,
        *,
        cookie_prefix: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``cookie_prefix``: what the cookies' names begin with, for example ``attempt_``.

        ``sleep`` only paces waiting.
        """
        self._keyring = keyring
        self._store = store
        self._prefix = cookie_prefix
        self._sleep = sleep

    # --- the cookie --------------------------------------------------------------------------

    def cookie(self, attempt: Attempt) -> tuple[str, str]:
        """Return the name and the value of the cookie that carries ``attempt``.

        The name holds the time, so that the oldest cookie can be told without opening any.
        """
        name = f"{self._prefix}{int(attempt.started_at * 1000):013d}_{_tag(attempt.state)}"
        facts = json.dumps([attempt.code_verifier, attempt.next_path, attempt.started_at])
        sealed = self._keyring.seal(facts.encode(), secret=attempt.state, name="attempt")
        return name, base64.urlsafe_b64encode(sealed).decode()

    def surplus(self, cookies: Mapping[str, str]) -> list[str]:
        """Return the names of the cookies that must go to make room for one more attempt."""
        names = sorted(name for name in cookies if name.startswith(self._prefix))
        return names[: max(0, len(names) - ATTEMPTS_PER_BROWSER + 1)]

    def find(self, state: str, cookies: Mapping[str, str], *, now: float) -> Attempt:
        """Return the attempt of this browser that ``state`` belongs to.

        Raises ``AttemptInvalid`` when there is none, or when it is too old.
        """
        tag = _tag(state)
        for name, value in cookies.items():
            if name.startswith(self._prefix) and name.endswith("_" + tag):
                attempt = self._open(state, value)
                trace.checked(Check.STATE_MATCHED)
                if -CLOCK_SKEW_SECONDS <= now - attempt.started_at <= ATTEMPT_SECONDS:
                    trace.checked(Check.ATTEMPT_IN_TIME)
                    return attempt
                raise AttemptInvalid("the sign-in attempt has expired")
        raise AttemptInvalid("no sign-in attempt of this browser has this state")

    def _open(self, state: str, value: str) -> Attempt:
        try:
            if len(value) > _MAX_COOKIE_CHARACTERS:
                raise Unreadable
            sealed = base64.b64decode(value, altchars=b"-_", validate=True)
            # The key is derived from `state` too: a cookie opens for its own state only.
            facts = json.loads(self._keyring.open(sealed, secret=state, name="attempt"))
        except (Unreadable, binascii.Error, ValueError):
            raise AttemptInvalid("the sign-in attempt cannot be read") from None
        code_verifier, next_path, started_at = facts
        return Attempt(state, code_verifier, next_path, started_at)

    # --- using it once -----------------------------------------------------------------------

    def claim(self, attempt: Attempt) -> tuple[Claim, str | None]:
        """Take the attempt, in one round trip; exactly one caller ever gets ``Claim.WON``.

        The others wait a while for that one to finish: of a double click the browser shows the
        answer to the last. With ``Claim.FINISHED`` comes the handle that the sign-in has led to.
        """
        key, mine = _key(attempt.state), secrets.token_bytes(8)
        # SET NX alone would not do: redis-py sends it again when the connection breaks before the
        # answer came, and the second time it would lose against itself.
        _, holder = self._store.execute(("SET", key, mine, "NX", "EX", _MARK_SECONDS), ("GET", key))
        if holder == mine:
            trace.checked(Check.ATTEMPT_UNUSED)
            return Claim.WON, None
        while (handle := self._finished_with(attempt, key, holder)) is None:
            holder, remaining_ms = self._store.execute(("GET", key), ("PTTL", key))
            # From the claim on: with a worker that died in the middle not every reload waits again.
            seconds_since_claim = _MARK_SECONDS - remaining_ms / 1000
            if holder == _FAILED or seconds_since_claim >= WAIT_SECONDS:
                return Claim.LOST, None
            self._sleep(_POLL_SECONDS)
        return Claim.FINISHED, handle

    def _finished_with(self, attempt: Attempt, key: str, mark: bytes | None) -> str | None:
        try:
            handle = self._keyring.open(mark or b"", secret=attempt.state, name=key)
        except Unreadable:
            return None
        return base64.urlsafe_b64encode(handle).rstrip(b"=").decode()

    def fail(self, attempt: Attempt) -> None:
        """Tell callbacks that wait for this attempt that nothing has come of it."""
        with suppress(StoreUnavailable):  # then they wait in vain
            self._store.execute(("SET", _key(attempt.state), _FAILED, "XX", "KEEPTTL"))

    def finish(self, attempt: Attempt, handle: str) -> Command:
        """Return the command that remembers what the attempt led to: ``handle``, in base64url.

        The browser may never see the answer of the callback that won: a double click or a reload
        drops it. When it comes again with the same attempt it can then be given the same session.
        """
        key = _key(attempt.state)
        packed = base64.urlsafe_b64decode(handle + "=" * (-len(handle) % 4))
        sealed = self._keyring.seal(packed, secret=attempt.state, name=key)
        return ("SET", key, sealed, "XX", "KEEPTTL")


def _tag(state: str) -> str:
    return fingerprint(state)[:11]


def _key(state: str) -> str:
    return f"omnifund:attempt:{fingerprint(state)}"
