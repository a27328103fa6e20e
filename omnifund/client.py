"""The client: signing merchants in through OmniFund, or connecting them, and reading their data.

``create_authorization_request`` before the redirect to OmniFund, ``handle_callback`` after it,
``disconnect`` at the end. The callback returns a *connection ID* to pass to ``api``. A host
application without users of its own keeps it in the browser's session. A host application that has
users passes the user's ID as ``owner``, and that is the connection ID. Cookies come in as a mapping
and go out as arguments of ``set_cookie``, which are the same in Flask, Django, and Starlette.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from omnifund import authorization, errors
from omnifund.api import API
from omnifund.authorization import AuthorizationCode, AuthorizationRequest, PendingRequests
from omnifund.connections import Connections, Resealed, StoredToken
from omnifund.encryption import Cipher, fingerprint
from omnifund.events import Event, OnEvent, ignore
from omnifund.http import HTTPClient
from omnifund.oauth import OAuthClient
from omnifund.refresh import (
    KEEP_ALIVE_SECONDS,
    MAX_REQUEST_SECONDS,
    KeptAlive,
    TokenRefresher,
)
from omnifund.token import Token
from omnifund.token_store import TokenStore

# How long a connection lasts at most, if the host application does not say otherwise.
SIGN_IN_SECONDS: Final = 12 * 3600
MIN_SECRET_KEY_LENGTH: Final = 32

# Which event a failed sign-in is, by the first line that fits.
_FAILURES: Final[tuple[tuple[type[errors.OmniFundError], Event], ...]] = (
    (errors.InvalidState, Event.SIGN_IN_INVALID),
    (errors.AccessDenied, Event.SIGN_IN_DENIED),
    (errors.AuthorizationErrorResponse, Event.SIGN_IN_REFUSED),
    (errors.OmniFundError, Event.SIGN_IN_FAILED),
)

Cookie = dict[str, Any]
"""Arguments of ``set_cookie``. With a ``max_age`` of 0 the browser deletes the cookie."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """An authorization request that has started: set ``cookies``, and redirect to ``url``."""

    request: AuthorizationRequest
    url: str = field(repr=False)
    cookies: list[Cookie] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignIn:
    """A completed sign-in.

    ``connection_id`` opens the tokens: give the browser a session with a new ID, keep it in there,
    and nowhere else. ``next``: the path to redirect to. ``is_new`` is false when the same callback
    came again, by Reload or Back.
    """

    connection_id: str = field(repr=False)
    next: str
    is_new: bool = True


Also = Callable[[str], Sequence[Any]]
"""Returns what else to store with the new connection, whose ID it is given.

Redis commands (as tuples), which are no transaction: if one fails, the others stay. Or SQL
statements, which run in the same transaction.
"""


@dataclass(eq=False)
class OmniFund:
    """One application's client of OmniFund. Creating it opens no connection.

    ``store``: a ``RedisTokenStore`` or ``SQLTokenStore``. ``secret_keys``: at least 32 characters
    each; the first one encrypts, the others only decrypt. ``http_client``: sends to ``base_url``,
    if the default timeouts do not fit. ``leeway``: seconds before expiry from which a token is
    refreshed. ``sign_in_seconds``: how long a connection lasts at most; ``None``: as long as
    ``keep_alive`` is called. ``default_next``: where a sign-in leads that requested no page of this
    app; ``never_next``: paths where none leads, such as ``/login``. ``clock`` returns Unix seconds.
    Raises ``ValueError``.
    """

    store: TokenStore
    _: KW_ONLY
    base_url: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    secret_keys: Sequence[str] = field(repr=False)
    http_client: HTTPClient | None = None
    pkce: bool = True
    leeway: float = 60
    sign_in_seconds: int | None = SIGN_IN_SECONDS
    default_next: str = "/"
    never_next: Collection[str] = ()
    clock: Callable[[], float] = time.time
    on_event: OnEvent = ignore

    def __post_init__(self) -> None:
        if min(map(len, self.secret_keys), default=0) < MIN_SECRET_KEY_LENGTH:
            raise ValueError(f"a secret key has {MIN_SECRET_KEY_LENGTH} characters or more")
        if not (self.client_id and self.client_secret and urlsplit(self.redirect_uri).netloc):
            raise ValueError("client_id, client_secret, and an absolute redirect_uri are required")
        if self.sign_in_seconds is not None and self.sign_in_seconds < 1:
            raise ValueError("sign_in_seconds is at least 1, or None")
        if not all(path.startswith("/") for path in self.never_next):
            raise ValueError("never_next is a collection of paths, which begin with a slash")
        shared: dict[str, Any] = {"clock": self.clock, "on_event": self.on_event}
        self.secure_cookies = urlsplit(self.redirect_uri).scheme == "https"
        self.cipher = Cipher(self.secret_keys)
        self.http = self.http_client or HTTPClient(self.base_url, clock=self.clock)
        if self.http.base_url != self.base_url.rstrip("/"):
            raise ValueError("the http_client sends to another base URL")
        self.oauth = OAuthClient(
            self.http,
            client_id=self.client_id,
            client_secret=self.client_secret,
            redirect_uri=self.redirect_uri,
            **shared,
        )
        tag = fingerprint(f"{self.secret_keys[0]} {self.client_id} {self.client_secret}")[:8]
        lasting = self.sign_in_seconds is None
        self.tokens = Connections(self.store, self.cipher, lasting, tag, self.on_event)
        timeout = self.http.total_timeout
        if timeout > MAX_REQUEST_SECONDS:
            raise ValueError(f"a request may take {MAX_REQUEST_SECONDS:.0f} seconds at most")
        self.refresher = TokenRefresher(
            self.oauth, self.tokens, leeway=self.leeway, request_timeout=timeout, **shared
        )
        self.api = API(self.http, self.refresher, **shared)
        # Browsers take a cookie with this prefix only over https and from this very host.
        prefix = ("__Host-" if self.secure_cookies else "") + "omnifund_attempt_"
        self._pending = PendingRequests(self.cipher, self.store, cookie_prefix=prefix)

    def create_authorization_request(
        self, cookies: Mapping[str, str], next: str | None = None, *, owner: str | None = None
    ) -> Redirect:
        """Start a sign-in; sends nothing (manual, step 2; RFC 6749 §4.1.1).

        ``cookies``: the browser's. ``next``: where to go afterwards, from anywhere: it is checked
        here. ``owner``: the ID of the host application's own signed-in user, if it has users: 1 to
        255 printable characters, else raises ``ValueError``.
        """
        request = AuthorizationRequest(
            state=authorization.new_state(),
            code_verifier=authorization.new_code_verifier() if self.pkce else "",
            next=self.safe_next(next) or self.default_next,
            started_at=self.clock(),
            owner=authorization.usable_owner(owner),
        )
        name, value = self._pending.cookie(request)
        self.on_event(Event.SIGN_IN_STARTED)
        return Redirect(
            request,
            self.oauth.authorization_url(request),
            # Without a max_age it ends with the browser; its content expires sooner.
            [*self.surplus_cookies(cookies, room_for=1), self._cookie(name, value, None)],
        )

    def handle_callback(
        self,
        query_string: str | bytes,
        cookies: Mapping[str, str],
        *,
        current: str | None = None,
        owner: str | None = None,
        also: Also = lambda _connection_id: (),
    ) -> SignIn:
        """Complete a sign-in: match, claim, exchange, store (manual, steps 4 and 5).

        ``query_string``: as the browser sent it. ``current``: the connection ID in the browser's
        session, if it has one; a new sign-in replaces it, a repeated callback keeps it. ``also``:
        what to store in the same round trip. ``owner``: as for ``create_authorization_request``;
        the new connection replaces that owner's, and the browser's session needs no change. Raises
        any of ``omnifund.errors`` but ``ReauthorizationRequired``.
        """
        with self._reporting("authorization_code", current):
            parameters = authorization.parse_query(query_string)
            request = self._pending.find(parameters, cookies, now=self.clock(), owner=owner)
            code = self._read(parameters, request)
            if (done := self._pending.claim(request, code)) is not None:
                return self._repeated(done, current)
            connection_id = owner or secrets.token_urlsafe(32)
            try:
                replaced = self.tokens.save(
                    connection_id,
                    self._exchange(code),
                    seconds=self.sign_in_seconds,
                    completes=self._pending.completion(request, connection_id),
                    # An owner has one connection: two callbacks at once leave no other behind.
                    swap=None if owner else self._pending.swap(cookies, connection_id),
                    also=also(connection_id),
                )
            except BaseException:
                self._pending.fail(request)
                raise
        earlier = self._pending.swapped(cookies, replaced)
        self._finish("authorization_code", connection_id, current, earlier)
        return SignIn(connection_id, request.next)

    def sign_in_with_password(
        self,
        username: str,
        password: str,
        next: str | None = None,
        *,
        current: str | None = None,
        owner: str | None = None,
        also: Also = lambda _connection_id: (),
    ) -> SignIn:
        """Sign in with the merchant's own credentials (manual, password; RFC 6749 §4.3).

        For programs that cannot receive a redirect. Parameters as for ``handle_callback``. Raises
        ``InvalidGrant`` when OmniFund rejects the username and password.
        """
        connection_id = authorization.usable_owner(owner) or secrets.token_urlsafe(32)
        with self._reporting("password", current):
            token = self.oauth.password(username, password)
            seconds = self.sign_in_seconds
            self.tokens.save(connection_id, token, seconds=seconds, also=also(connection_id))
        self._finish("password", connection_id, current)
        return SignIn(connection_id, self.safe_next(next) or self.default_next)

    def safe_next(self, value: str | None) -> str | None:
        """Return ``value`` if a sign-in may lead there, else ``None``."""
        never = (*self.never_next, urlsplit(self.redirect_uri).path)
        return authorization.safe_next(value, never=never)

    def surplus_cookies(self, cookies: Mapping[str, str], *, room_for: int = 0) -> list[Cookie]:
        """Return what makes the browser delete its oldest pending requests, beyond the limit.

        Sign-ins that start at the same time don't see each other's cookies, so any response may
        have to clean up.
        """
        names = self._pending.surplus(cookies, room_for=room_for)
        return [self._cookie(name, "", 0) for name in names]

    def valid_token(self, connection_id: str, stored: StoredToken | None = None) -> StoredToken:
        """Return a token that OmniFund should accept now; see ``TokenRefresher.valid_token``."""
        return self.refresher.valid_token(connection_id, stored)

    def renew(self, connection_id: str, stored: StoredToken | None = None) -> StoredToken:
        """Replace the tokens now (manual, "Refreshing an Access Token"; RFC 6749 §6).

        Raises what ``TokenRefresher.refresh`` raises.
        """
        return self.refresher.refresh(connection_id, stored or self.tokens.load(connection_id))

    def keep_alive(self, seconds: int = KEEP_ALIVE_SECONDS) -> Iterator[KeptAlive]:
        """Refresh every connection whose tokens are ``seconds`` old or older.

        OmniFund's refresh tokens end after 14 days. For connections without an end of their own;
        call it once a day, on as many machines at once as you like. See
        ``TokenRefresher.keep_alive``.
        """
        return self.refresher.keep_alive(int(self.clock()) - seconds)

    def reseal(self) -> Resealed:
        """Encrypt all connections without an end with the newest secret key."""
        return self.tokens.reseal()

    def disconnect(self, connection_id: str) -> None:
        """Delete the tokens. Raises ``StoreUnavailable``.

        They stay valid at OmniFund until they expire: it has no revocation endpoint.
        """
        self.tokens.delete(connection_id)

    def _read(
        self, parameters: authorization.Parameters, request: AuthorizationRequest
    ) -> AuthorizationCode | errors.OmniFundError:
        """Return the code, or why there is none: the state is used up in both cases."""
        try:
            issuer = self.http.base_url
            return authorization.read_authorization_response(parameters, request, issuer=issuer)
        except errors.OmniFundError as refusal:
            return refusal

    def _exchange(self, code: AuthorizationCode | errors.OmniFundError) -> Token:
        if isinstance(code, errors.OmniFundError):
            raise code
        return self.oauth.exchange_code(code)

    def _repeated(self, connection_id: str, current: str | None) -> SignIn:
        """The sign-in is already complete; the code is not sent again (RFC 6749 §10.5)."""
        if current is not None:
            with suppress(errors.ReauthorizationRequired):
                self.tokens.load(current)
                connection_id = current
        self.on_event(Event.SIGN_IN_REPEATED)
        return SignIn(connection_id, self.default_next, is_new=False)

    def _finish(self, flow: str, connection_id: str, *replaced: str | None) -> None:
        """Report the sign-in, and delete the connections that it replaces."""
        session = fingerprint(connection_id)
        self.on_event(Event.SIGN_IN_SUCCEEDED, workflow=flow, session=session)
        for old in {*replaced} - {None, connection_id}:
            # The new sign-in stands even if this fails: the old record has a lifetime of its own.
            with suppress(errors.StoreUnavailable):
                self.disconnect(str(old))

    @contextmanager
    def _reporting(self, flow: str, current: str | None) -> Iterator[None]:
        """Report why a sign-in fails."""
        try:
            yield
        except errors.OmniFundError as error:
            event = next(event for kind, event in _FAILURES if isinstance(error, kind))
            facts = {"session": fingerprint(current)} if current else {}
            self.on_event(event, workflow=flow, reason=type(error).__name__, **facts)
            raise

    def _cookie(self, name: str, value: str, max_age: int | None) -> Cookie:
        flags = {"path": "/", "secure": self.secure_cookies, "httponly": True, "samesite": "lax"}
        return {"key": name, "value": value, "max_age": max_age, **flags}
