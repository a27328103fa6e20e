"""Everything put together, and signing in as two calls: where to begin with this package.

``start`` before the redirect to OmniFund, ``finish`` in the callback, ``sign_out`` at the end.
``finish`` returns a *handle*, which the app keeps in the browser's session and ``api`` asks for.
Cookies come in as a mapping and go out as arguments of ``set_cookie``, which are the same in Flask,
Django and Starlette. docs/take-it-with-you.md shows all three.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self, TypedDict

from omnifund.access import Access
from omnifund.api import Api
from omnifund.attempts import ATTEMPT_SECONDS, Attempt, Attempts, Claim
from omnifund.callback import Query, read, state_of
from omnifund.errors import AttemptInvalid
from omnifund.events import Event, Observer, ignore
from omnifund.gateway import Gateway
from omnifund.http import HTTPClient
from omnifund.sealing import Keyring, fingerprint
from omnifund.store import Command, RedisClient, Store
from omnifund.token import Token
from omnifund.vault import Vault

SIGN_IN_SECONDS: Final = 12 * 3600
"""How long a sign-in lasts at most, if the app does not say otherwise."""

MIN_SECRET_KEY_LENGTH: Final = 32


class Cookie(TypedDict):
    """Arguments of ``set_cookie``. With a ``max_age`` of 0 the browser forgets the cookie."""

    key: str
    value: str
    max_age: int
    path: str
    secure: bool
    httponly: bool
    samesite: Literal["lax"]


@dataclass(frozen=True, slots=True)
class Start:
    """A sign-in that has begun: set ``cookies``, and redirect to ``url``."""

    attempt: Attempt
    url: str = field(repr=False)
    cookies: list[Cookie] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in that has ended well. ``handle`` opens the token: a secret of the session's."""

    handle: str = field(repr=False)
    next_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OmniFund:
    """One app's connection with OmniFund: its parts, and the way through them.

    ``clock`` returns Unix seconds.
    """

    clock: Callable[[], float]
    observe: Observer
    keyring: Keyring
    store: Store
    attempts: Attempts
    transport: HTTPClient
    gateway: Gateway
    vault: Vault
    access: Access
    api: Api
    pkce: bool
    secure_cookies: bool
    sign_in_seconds: int

    @classmethod
    def build(
        cls,
        redis: RedisClient,
        *,
        base_url: str,
        client_id: str,
        client_secret: str,
        redirect_uri: str,
        secret_keys: Sequence[str],
        pkce: bool = True,
        leeway: float = 60,
        sign_in_seconds: int = SIGN_IN_SECONDS,
        connect_timeout: float = 3.0,
        read_timeout: float = 10.0,
        ca_bundle: str | None = None,
        clock: Callable[[], float] = time.time,
        observe: Observer = ignore,
        time_redis: Callable[[float], None] = lambda _seconds: None,
        **more: Any,
    ) -> Self:
        """Make every part; connects to nothing yet.

        ``redis``: from ``redis_client.connect``. ``secret_keys``: 32 characters or more each; the
        first seals and opens, the others only open. ``leeway``: seconds before expiry from which a
        token is refreshed. Cookies are for https if ``redirect_uri`` is. ``more``: a subclass's own
        fields. For the others see the parts. Raises ``ValueError``.
        """
        if min(map(len, secret_keys), default=0) < MIN_SECRET_KEY_LENGTH:
            raise ValueError(f"a secret key has {MIN_SECRET_KEY_LENGTH} characters or more")
        secure_cookies = redirect_uri.startswith("https://")
        keyring = Keyring(secret_keys)
        store = Store(redis, observe, time_round_trip=time_redis)
        transport = HTTPClient(
            base_url,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            ca_bundle=ca_bundle,
            clock=clock,
        )
        gateway = Gateway(
            transport,
            client_id=client_id,
            client_secret=client_secret,
            redirect_uri=redirect_uri,
            clock=clock,
            observe=observe,
        )
        vault = Vault(store, keyring, observe)
        access = Access(
            gateway,
            vault,
            leeway=leeway,
            refresh_timeout=transport.total_timeout,
            clock=clock,
            observe=observe,
        )
        return cls(
            clock=clock,
            observe=observe,
            keyring=keyring,
            store=store,
            # Browsers take a cookie of that name only over https and from this very host.
            attempts=Attempts(
                keyring,
                store,
                cookie_prefix=("__Host-" if secure_cookies else "") + "omnifund_attempt_",
            ),
            transport=transport,
            gateway=gateway,
            vault=vault,
            access=access,
            api=Api(transport, access, clock=clock),
            pkce=pkce,
            secure_cookies=secure_cookies,
            sign_in_seconds=sign_in_seconds,
            **more,
        )

    def start(self, cookies: Mapping[str, str], next_path: str = "/") -> Start:
        """Begin a sign-in; asks nobody.

        ``cookies``: the browser's. ``next_path``: where to go afterwards. It is not checked here: a
        path that comes from a query may lead to another site.
        """
        attempt = Attempt.start(next_path, pkce=self.pkce, now=self.clock())
        surplus = [self._cookie(name, "", 0) for name in self.attempts.surplus(cookies)]
        mine = self._cookie(*self.attempts.cookie(attempt), ATTEMPT_SECONDS)
        self.observe(Event.SIGN_IN_STARTED)
        return Start(attempt, self.gateway.authorization_url(attempt), [*surplus, mine])

    def finish(
        self, query: Query, cookies: Mapping[str, str], *, current: str | None = None
    ) -> SignIn:
        """Finish a sign-in, in the callback: match, claim, redeem, save.

        ``query``: all parameters in order, repeated ones included. ``current``: the handle in the
        browser's session, if it has one. A new sign-in takes its place; a callback that comes a
        second time, by Reload or Back, keeps it.

        Give the browser a new session id before the handle is put into its session. Raises any of
        ``omnifund.errors`` but ``SignInRequired``.
        """
        attempt = self.attempts.find(state_of(query), cookies, now=self.clock())
        claim, handle = self.attempts.claim(attempt)
        if claim is Claim.WON:
            try:
                token = self.gateway.redeem(read(query, attempt, issuer=self.gateway.issuer))
            except Exception:
                self.attempts.fail(attempt)
                raise
            handle = _new_handle()
            self._save(handle, token, current, self.attempts.finish(attempt, handle))
            self._note_sign_in(handle, "authorization_code")
        elif handle is None:
            raise AttemptInvalid("the sign-in attempt has been used")
        else:
            if current is not None and self.vault.load(current) is not None:
                handle = current
            self.observe(Event.SIGN_IN_REPEATED)
        return SignIn(handle, attempt.next_path)

    def password(self, username: str, password: str, *, current: str | None = None) -> str:
        """Sign in with the merchant's own credentials; return the handle (manual, password).

        For programs that cannot receive a redirect. Raises ``GrantRejected`` when OmniFund does not
        know the pair, and what ``finish`` raises for its answers.
        """
        token, handle = self.gateway.password(username, password), _new_handle()
        self._save(handle, token, current)
        self._note_sign_in(handle, "password")
        return handle

    def sign_out(self, handle: str) -> None:
        """Delete the token. Raises ``StoreUnavailable``."""
        self.store.execute(self.vault.forget(handle))
        self.observe(Event.SIGNED_OUT, session=fingerprint(handle))

    def _save(self, handle: str, token: Token, current: str | None, *more: Command) -> None:
        """Store ``token`` in the place of what ``current`` opens, in one round trip."""
        commands = [self.vault.save(handle, token, seconds=self.sign_in_seconds), *more]
        if current is not None:
            commands.append(self.vault.forget(current))
        self.store.execute(*commands)

    def _note_sign_in(self, handle: str, workflow: str) -> None:
        self.observe(Event.SIGN_IN_SUCCEEDED, workflow=workflow, session=fingerprint(handle))

    def _cookie(self, name: str, value: str, max_age: int) -> Cookie:
        return {
            "key": name,
            "value": value,
            "max_age": max_age,
            "path": "/",
            "secure": self.secure_cookies,
            "httponly": True,
            "samesite": "lax",
        }


def _new_handle() -> str:
    """Return 256 random bits."""
    return secrets.token_urlsafe(32)
