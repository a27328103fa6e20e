"""Valid access tokens, refreshed under a lock.

However many requests, processes, and servers share a connection, an expiring token is refreshed
once. One request acquires the refresh lock in the store, reads the token again, refreshes, stores
the result, and releases the lock. Other requests use the old access token while it is valid; after
that they wait for the new one, for a bounded time. Only ``invalid_grant``, confirmed by a second
look at the store, ends a connection, and only when the access token no longer works either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from typing import Final, NamedTuple

import msgspec

from omnifund import errors
from omnifund.connections import Connections, Failure, RefreshLock, StoredToken
from omnifund.encryption import fingerprint
from omnifund.events import Event, OnEvent, ignore
from omnifund.oauth import OAuthClient
from omnifund.token import Token
from omnifund.token_store import MAX_LOCK_SECONDS

WAIT_SECONDS: Final = 5.0  # how long a request waits for another request's refresh
SAVE_SECONDS: Final = 5.0  # how long storing is tried: OmniFund has dropped the old token
PATIENT_SAVE_SECONDS: Final = 30.0  # the same where no request waits
MAX_REQUEST_SECONDS: Final = MAX_LOCK_SECONDS - SAVE_SECONDS - 5
"""The longest time a token request may take: the refresh lock has to outlive it."""
KEEP_ALIVE_SECONDS: Final = 7 * 24 * 3600
"""From which age on ``keep_alive`` refreshes tokens: half the life of OmniFund's refresh tokens,
so that a run that fails can be repeated on six more days."""
FAILURES_IN_A_ROW: Final = 5
"""After so many connections that OmniFund could not serve, ``keep_alive`` gives up."""
FAILURE_PAUSE_SECONDS: Final = 30  # the shortest time without another try after a failure
_POLL_SECONDS: Final = 0.05
# This client may not refresh at all: FOSOAuthServerBundle's default for a new client.
_NO_REFRESH: Final = frozenset({"unauthorized_client", "unsupported_grant_type"})


class KeptAlive(NamedTuple):
    """What ``keep_alive`` did for one connection; ``error``: why it was not refreshed."""

    connection_id: str
    error: errors.OmniFundError | None


@dataclass(eq=False)
class TokenRefresher:
    """Returns access tokens by connection ID; refreshes them when they are due.

    ``leeway``: seconds before expiry from which a token is refreshed. ``request_timeout``: the
    longest that a token request can take, in seconds. ``clock`` returns Unix seconds;
    ``monotonic`` and ``sleep`` only pace waiting. ``patient``: storing is tried for longer, and
    raises ``StoreUnavailable`` when it fails, because no request could use the token.
    """

    oauth: OAuthClient
    tokens: Connections
    _: KW_ONLY
    leeway: float
    request_timeout: float
    clock: Callable[[], float]
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    on_event: OnEvent = ignore
    patient: bool = False

    @property
    def save_seconds(self) -> float:
        """How long storing is tried."""
        longest = MAX_LOCK_SECONDS - self.request_timeout - 5
        return min(PATIENT_SAVE_SECONDS, longest) if self.patient else SAVE_SECONDS

    def valid_token(self, connection_id: str, stored: StoredToken | None = None) -> StoredToken:
        """Return a token that OmniFund should accept now.

        ``stored``: the token as the caller has just read it, which saves reading it again. Raises
        ``ReauthorizationRequired`` when there is no token and no way to get one, and another of
        ``omnifund.errors`` when it cannot be refreshed now, which leaves the connection as it is.
        """
        stored = stored or self.tokens.load(connection_id)
        now = self.clock()
        if not stored.token.due(now, self.leeway):
            return stored
        has_expired = stored.token.expired(now)
        try:
            return self._refresh(connection_id, stored, wait=has_expired)
        except errors.OmniFundError as error:
            if has_expired or isinstance(error, errors.ReauthorizationRequired):
                raise
            return stored  # The old access token is still valid.

    def refresh(self, connection_id: str, stored: StoredToken) -> StoredToken:
        """Return another token than ``stored``, because the merchant asked for it.

        Raises ``RefreshRejected`` when OmniFund refuses and the access token still works, and what
        ``valid_token`` raises.
        """
        fresh = self._refresh(connection_id, stored)
        _raise_if_kept(fresh, stored)
        return fresh

    def replace_rejected(self, connection_id: str, stored: StoredToken) -> StoredToken:
        """Return another token than ``stored``, whose access token the API has rejected."""
        return self._refresh(connection_id, stored, rejected=True)

    def keep_alive(self, refreshed_before: int) -> Iterator[KeptAlive]:
        """Refresh, one after the other, every listed connection that was last refreshed before.

        The oldest come first. Yields each with its outcome: a failure of one does not end the run.
        When a run ends early, what is done is not done again; two runs at once share the work.
        Raises ``Unavailable`` when it gives up, because OmniFund serves none.
        """
        failures, patient = 0, replace(self, patient=True)
        for connection_id in self.tokens.list_ids(refreshed_before):
            error: errors.OmniFundError | None = None
            try:
                stored = self.tokens.load(connection_id)
                if stored.token.obtained_at > refreshed_before:
                    continue  # Another run was faster.
                fresh = patient._refresh(connection_id, stored, wait=False)
                if fresh.token == stored.token:
                    continue  # Another run is at work on it.
                failures = 0
                _raise_if_kept(fresh, stored)
            except errors.ConnectionNotFound:
                with suppress(errors.StoreUnavailable):  # The next run comes across it too.
                    self.tokens.unlist(connection_id, refreshed_before)
                continue
            except errors.OmniFundError as failure:
                error = failure
            yield KeptAlive(connection_id, error)
            if isinstance(error, errors.Unavailable):
                failures += 1
                if failures == FAILURES_IN_A_ROW:
                    raise error

    def _refresh(
        self, connection_id: str, stale: StoredToken, *, wait: bool = True, rejected: bool = False
    ) -> StoredToken:
        """Return what follows ``stale``; refresh it if this caller acquires the lock.

        ``wait``: for another request's refresh. ``rejected``: the access token no longer works,
        whatever its expiry says.
        """
        works = not rejected and not stale.token.expired(self.clock())
        if stale.token.refresh_token is None:
            if works:
                return stale
            raise _expired(stale, "the access token has expired, and there is no refresh token")
        deadline = self.monotonic() + WAIT_SECONDS
        # The lock outlives the slowest refresh and its storing, so no second request acquires it
        # while the first is still at work; the rest is for a server that is slow itself.
        seconds = self.request_timeout + self.save_seconds + 5
        while True:
            lock = self.tokens.acquire_refresh_lock(connection_id, seconds=seconds)
            now = lock.stored
            if isinstance(now, errors.ReauthorizationRequired) or now.token != stale.token:
                if lock.acquired:
                    self.tokens.release_refresh_lock(connection_id, lock)
                if isinstance(now, errors.ReauthorizationRequired):
                    raise now
                return now
            if lock.acquired:
                # ``now``: encrypted with another key meanwhile, the same token has another version.
                return self._refresh_under_lock(connection_id, now, lock, works=works)
            if lock.failure is not None:
                raise _as_seen(_recent_failure(lock.failure), stale, works=works)
            if not wait:
                return stale
            if self.monotonic() >= deadline:
                raise errors.RefreshInProgress("another request is still refreshing this token")
            self.sleep(_POLL_SECONDS)

    def _refresh_under_lock(
        self, connection_id: str, stale: StoredToken, lock: RefreshLock, *, works: bool
    ) -> StoredToken:
        try:
            token = self.oauth.refresh(stale.token)
        except errors.InvalidGrant:
            return self._rejected(connection_id, stale, lock, works=works)
        except errors.OmniFundError as error:
            self._note(Event.REFRESH_FAILED, connection_id, reason=type(error).__name__)
            with suppress(errors.StoreUnavailable):  # The lock ends with its own lifetime instead.
                self.tokens.release_refresh_lock(connection_id, lock, _failure(error))
            raise _as_seen(error, stale, works=works) from None
        except BaseException:
            with suppress(errors.StoreUnavailable):
                self.tokens.release_refresh_lock(connection_id, lock)
            raise
        return self._save(connection_id, stale, token, lock)

    def _save(
        self, connection_id: str, stale: StoredToken, token: Token, lock: RefreshLock
    ) -> StoredToken:
        # Encrypted once: the store recognizes by the version that a first, unanswered try worked.
        fresh = self.tokens.prepare(connection_id, token)
        deadline = self.monotonic() + self.save_seconds
        while True:
            try:
                saved = self.tokens.replace(connection_id, stale, fresh, lock)
                break
            except errors.StoreUnavailable:
                if self.monotonic() >= deadline:
                    # This request can still be served. The next one needs a new sign-in, because
                    # OmniFund has dropped the old refresh token and the new one was not stored.
                    self._note(Event.REFRESH_UNSAVED, connection_id)
                    if self.patient:
                        raise
                    return fresh
                self.sleep(_POLL_SECONDS)
        if saved:
            self._note(Event.REFRESH_SUCCEEDED, connection_id)
            return fresh
        self._note(Event.REFRESH_SUPERSEDED, connection_id)
        return self.tokens.load(connection_id)

    def _rejected(
        self, connection_id: str, stale: StoredToken, lock: RefreshLock, *, works: bool
    ) -> StoredToken:
        # RFC 6749 §5.2 invalid_grant: expired, revoked, or used before. If a request whose lock had
        # run out used it, that request's token is in the store by now, and valid.
        if works:
            last = msgspec.structs.replace(stale.token, refresh_token=None)
            kept = self.tokens.prepare(connection_id, last)
            if self.tokens.replace(connection_id, stale, kept, lock):
                self._note(Event.REFRESH_REJECTED, connection_id)
                return kept
            return self.tokens.load(connection_id)
        reason = "OmniFund rejected the refresh token (invalid_grant)"
        ended = errors.ConnectionEnded(reason, ended_at=int(self.clock()))
        if not self.tokens.end(connection_id, stale, lock, ended):
            self.tokens.release_refresh_lock(connection_id, lock)  # `end` may have kept it.
            return self.tokens.load(connection_id)
        self._note(Event.REFRESH_REJECTED, connection_id)
        raise ended

    def _note(self, event: Event, connection_id: str, **facts: str) -> None:
        self.on_event(event, handle=fingerprint(connection_id), **facts)


def _expired(stale: StoredToken, reason: str) -> errors.ConnectionEnded:
    return errors.ConnectionEnded(reason, ended_at=stale.token.expires_at)


def _raise_if_kept(fresh: StoredToken, stale: StoredToken) -> None:
    """Raise ``RefreshRejected`` if ``fresh`` is what is left of ``stale``: its access token."""
    if fresh.token.refresh_token is None and fresh.token.generation == stale.token.generation:
        raise errors.RefreshRejected("OmniFund does not refresh this connection")


def _as_seen(
    error: errors.OmniFundError, stale: StoredToken, *, works: bool
) -> errors.OmniFundError:
    """Return ``error``, or what it means for the merchant when this client may not refresh."""
    if getattr(error, "code", None) not in _NO_REFRESH:
        return error
    if works:
        return errors.RefreshRejected("OmniFund does not let this app refresh connections")
    return _expired(stale, "the access token has expired, and this app may not refresh it")


def _failure(error: errors.OmniFundError) -> Failure:
    asked_for = error.retry_after if isinstance(error, errors.Unavailable) else 0
    code = getattr(error, "code", None) or ""
    return Failure(f"{type(error).__name__} {code}", max(FAILURE_PAUSE_SECONDS, asked_for))


def _recent_failure(failure: Failure) -> errors.OmniFundError:
    """Return the error that the failed refresh raised, with the rest of its pause."""
    kind, _, code = failure.reason.partition(" ")
    what, seconds = "a refresh has just failed", failure.seconds
    if kind == errors.ClientMisconfigured.__name__:
        return errors.ClientMisconfigured(errors.shown_code(code))
    if kind == errors.InvalidResponse.__name__:
        return errors.InvalidResponse(what)
    if kind == errors.OmniFundTimeout.__name__:
        return errors.OmniFundTimeout(what, retry_after=seconds)
    return errors.OmniFundUnavailable(what, retry_after=seconds, sent=False)
