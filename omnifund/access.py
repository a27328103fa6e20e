"""A bearer token that is fresh: the one way from a handle to an access token.

However many requests, processes and machines share a handle, an expiring token is refreshed once.
One of them takes the *turn* in Redis, reads the token again, refreshes, saves, gives the turn back.
While the old access token is still good the others go on with it; once it has expired they wait for
the new one, for a bounded time. What the outcome of a refresh means is decided here and nowhere
else: only ``invalid_grant``, believed after a second look at the store, ends a sign-in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from omnifund import trace
from omnifund.errors import (
    ClientMisconfigured,
    GrantRejected,
    InvalidResponse,
    OmniFundError,
    OmniFundUnavailable,
    RefreshBusy,
    SignInRequired,
    StoreUnavailable,
    Unavailable,
)
from omnifund.events import Event, Observer, ignore
from omnifund.gateway import Gateway
from omnifund.sealing import fingerprint
from omnifund.token import Token
from omnifund.trace import Check
from omnifund.vault import Record, Turn, Vault

WAIT_SECONDS: Final = 5.0
"""How long a request waits for another one's refresh."""

SAVE_SECONDS: Final = 5.0
"""How long saving a refreshed token is tried: OmniFund has already dropped the old one."""

FAILURE_PAUSE_SECONDS: Final = 30
"""How long nobody tries again after a refresh has failed."""

_POLL_SECONDS: Final = 0.05


class Access:
    """Hands out access tokens by handle, refreshing them when they are due."""

    def __init__(
        self,
        gateway: Gateway,
        vault: Vault,
        *,
        leeway: float,
        refresh_timeout: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        observe: Observer = ignore,
    ) -> None:
        """``leeway``: seconds before expiry from which a token is refreshed.

        ``refresh_timeout``: the longest that a token request can take, in seconds. ``clock``
        returns Unix seconds; ``monotonic`` and ``sleep`` only pace waiting.
        """
        self._gateway = gateway
        self._vault = vault
        self._leeway = leeway
        # The turn outlives the slowest refresh and its saving, so it is never taken by a second
        # request while the first is still at it; the rest is for a machine that is slow itself.
        self._turn_ms = math.ceil((refresh_timeout + SAVE_SECONDS + 5) * 1000)
        self._clock = clock
        self._sleep = sleep
        self._monotonic = monotonic
        self._observe = observe

    def bearer(self, handle: str, record: Record | None = None) -> Record:
        """Return a token that OmniFund should accept now.

        ``record``: the token as the caller has just read it, to save reading it again.

        Raises ``SignInRequired`` when there is none and no way to get one; ``Unavailable`` or
        ``InvalidResponse`` or ``ClientMisconfigured`` when it has expired and cannot be refreshed
        now, which leaves the sign-in as it is.
        """
        record = record or self._load(handle)
        now = self._clock()
        if not record.token.due(now, self._leeway):
            return record
        if record.token.refresh_token is None:
            if record.token.expired(now):
                raise SignInRequired("the connection has expired")
            return record
        if record.token.expired(now):
            return self._refresh(handle, record)
        try:
            return self._refresh(handle, record, wait=False)
        except (Unavailable, InvalidResponse, ClientMisconfigured):
            # The old token still lives: nobody is turned away before it has expired.
            return record

    def renew(self, handle: str, record: Record) -> Record:
        """Return another token than ``record``'s: OmniFund refused that, or the merchant asked.

        If somebody else has replaced it already, theirs is returned. Raises as ``bearer`` does.
        """
        if record.token.refresh_token is None:
            raise SignInRequired("the connection cannot be renewed")
        return self._refresh(handle, record)

    def _load(self, handle: str) -> Record:
        record = self._vault.load(handle)
        if record is None:
            raise SignInRequired("there is no connection")
        return record

    def _refresh(self, handle: str, stale: Record, *, wait: bool = True) -> Record:
        """Return what follows ``stale``, refreshing it if that is this caller's turn."""
        give_up_at = self._monotonic() + WAIT_SECONDS
        while True:
            turn = self._vault.take_turn(handle, milliseconds=self._turn_ms)
            if turn.record is None:
                if turn.mine:
                    self._vault.give_back_turn(handle, turn)
                raise SignInRequired("the connection has ended")
            if turn.record.sealed != stale.sealed:
                if turn.mine:
                    self._vault.give_back_turn(handle, turn)
                return turn.record
            if turn.mine:
                return self._refresh_in_turn(handle, stale, turn)
            if turn.failed_for_ms:
                raise OmniFundUnavailable(
                    "a refresh has just failed",
                    retry_after=math.ceil(turn.failed_for_ms / 1000),
                    sent=False,
                )
            if not wait:
                return stale
            if self._monotonic() >= give_up_at:
                raise RefreshBusy("another request is still refreshing this token")
            self._sleep(_POLL_SECONDS)

    def _refresh_in_turn(self, handle: str, stale: Record, turn: Turn) -> Record:
        try:
            token = self._gateway.refresh(stale.token)
        except GrantRejected:
            return self._rejected(handle, stale, turn)
        except OmniFundError as error:
            trace.failed(error)
            self._note(Event.REFRESH_FAILED, handle, reason=type(error).__name__)
            self._vault.give_back_turn(handle, turn, failed_for_ms=FAILURE_PAUSE_SECONDS * 1000)
            raise
        return self._save(handle, stale, token, turn)

    def _save(self, handle: str, stale: Record, token: Token, turn: Turn) -> Record:
        # Sealed once: the script knows by these bytes that a first, unanswered try has worked.
        fresh = Record(token, self._vault.seal(handle, token))
        give_up_at = self._monotonic() + SAVE_SECONDS
        while True:
            try:
                saved = self._vault.replace(handle, stale, fresh.sealed, turn)
                break
            except StoreUnavailable:
                if self._monotonic() >= give_up_at:
                    # This request can still be served. The next one has to sign in again, because
                    # OmniFund has dropped the old refresh token and nobody knows the new one.
                    self._note(Event.REFRESH_UNSAVED, handle)
                    return fresh
                self._sleep(_POLL_SECONDS)
        if saved:
            trace.checked(Check.SAVED_ONCE)
            self._note(Event.REFRESH_SUCCEEDED, handle)
            return fresh
        self._note(Event.REFRESH_SUPERSEDED, handle)
        return self._load(handle)

    def _rejected(self, handle: str, stale: Record, turn: Turn) -> Record:
        # RFC 6749 §5.2 invalid_grant: expired, revoked, or used before. If it was used by somebody
        # whose turn had run out, their token is in the store by now, and good.
        if not self._vault.forget_if(handle, stale):
            self._vault.give_back_turn(handle, turn)
            return self._load(handle)
        self._note(Event.REFRESH_REJECTED, handle)
        raise SignInRequired("OmniFund has ended the connection")

    def _note(self, event: Event, handle: str, **facts: str) -> None:
        self._observe(event, handle=fingerprint(handle), **facts)
