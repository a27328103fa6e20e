"""Flask-Session's server-side sessions in Redis, made safe (docs/adr/0007-flask-session-extended).

Its three storage hooks are implemented here: keys are fingerprints of session IDs, values are
encrypted, and nothing is unpickled. ``open_session`` and ``save_session`` are extended for visitors
who have not signed in, of whom Redis stores nothing, and for a Redis that fails, which is
remembered until a page needs the session.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, cast

from flask import Flask, Request, Response, current_app, request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from flask_session.base import ServerSideSession, ServerSideSessionInterface

from config import DEFAULT_APP_PORT, Settings
from omnifund.client import OmniFund
from omnifund.connections import StoredToken
from omnifund.encryption import fingerprint
from omnifund.errors import ReauthorizationRequired, StoreUnavailable
from omnifund.events import Event
from omnifund.redis_client import Command
from omnifund.token_store import RedisTokenStore
from web import logging
from web.current import store as redis_store

NO_SESSION: Final = ("/static/", "/favicon.ico", "/healthz", "/readyz", "/metrics")
"""Paths, or beginnings of paths, whose responses depend on no session."""

VISITOR_SECONDS: Final = 3600
"""How long the cookie of a visitor who has not signed in is valid."""

_TOKEN: Final = "_token"  # carries the token from the storage hook to open_session
_SESSION_ID: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class MerchantSession(ServerSideSession):
    """The session of a signed-in merchant, or of a visitor who has not signed in.

    ``is_stored``: whether Redis has it; only then is the visitor signed in. ``token``: the stored
    token, from the same round trip. ``is_new``, ``is_ended``: whether this response starts or ends
    it. ``failure``: why it could not be read, or saved.
    """

    is_stored: bool = False
    token: StoredToken | None = None
    is_new: bool = False
    is_ended: bool = False
    failure: StoreUnavailable | None = None

    def start(self, sid: str) -> None:
        """The session ID is new, and any earlier session is invalid (RFC 9700 §2.1)."""
        dict.clear(self)
        self.sid, self.is_new, self.is_stored = sid, True, False

    def end(self) -> None:
        """Become the session of a visitor who is not signed in any more.

        The cookie stays, because another tab may have replaced it; ``/logout`` deletes it.
        """
        dict.clear(self)
        self.token, self.is_stored = None, False


class _VisitorSessions(SecureCookieSessionInterface):
    """Flask's own sessions, in a signed cookie with a name of its own."""

    def __init__(self, cookie_name: str) -> None:
        self._cookie_name = cookie_name

    def get_cookie_name(self, app: Flask) -> str:
        return self._cookie_name


class RedisSessions(ServerSideSessionInterface):
    """Flask's session interface of this app."""

    session_class = MerchantSession

    def __init__(self, app: Flask, settings: Settings, omnifund: OmniFund) -> None:
        # Without a prefix: the hooks get the session ID itself, to decrypt.
        super().__init__(app, key_prefix="", permanent=False, sid_length=32)
        # Browsers take a cookie with this prefix only with Secure, Path=/ and no Domain, so no
        # neighboring host can plant one.
        prefix = "__Host-" if settings.secure_cookies else ""
        # Browsers share the cookies of localhost between ports, and so would two demos.
        has_port = settings.demo_control is not None and settings.app_port != DEFAULT_APP_PORT
        suffix = f"_{settings.app_port}" if has_port else ""
        app.config.update(
            SESSION_COOKIE_NAME=f"{prefix}omnifund_session{suffix}",
            SESSION_COOKIE_SECURE=settings.secure_cookies,
            SESSION_COOKIE_HTTPONLY=True,
            SESSION_COOKIE_SAMESITE="Lax",
            SESSION_COOKIE_PATH="/",
            SESSION_REFRESH_EACH_REQUEST=False,
            PERMANENT_SESSION_LIFETIME=timedelta(seconds=VISITOR_SECONDS),
            SECRET_KEY_FALLBACKS=list(settings.secret_keys[1:]),
        )
        self._omnifund, self._store = omnifund, redis_store(omnifund)
        self._visitors = _VisitorSessions(f"{prefix}omnifund_visitor{suffix}")
        self._lifetime = settings.session_lifetime_seconds
        self.idle_seconds = min(settings.session_idle_seconds, self._lifetime)

    # --- commands, for the round trips of a sign-in and a sign-out -----------------------------

    def presented_id(self) -> str | None:
        """Return the session ID that the browser sent, if it is well-formed."""
        sid = request.cookies.get(self.get_cookie_name(self.app), "")
        return sid if _SESSION_ID.fullmatch(sid) else None

    def key(self, sid: str) -> str:
        """Return the name of the session's key in Redis; its hash tag is the token's."""
        return f"omnifund:{{{fingerprint(sid)}}}:session"

    def store_command(self, sid: str, data: dict[str, Any], *conditions: str) -> Command:
        """Return the command that stores a session; ``"XX"``: only where it still exists."""
        key, packed = self.key(sid), json.dumps(data, separators=(",", ":")).encode()
        sealed = self._omnifund.cipher.seal(packed, secret=sid, name=key)
        return ("SET", key, sealed, "EX", self.idle_seconds, *conditions)

    # --- Flask-Session's storage hooks ---------------------------------------------------------

    def _retrieve_session_data(self, sid: str) -> dict[str, Any] | None:
        """Return the stored session, or ``None`` when ``sid`` is no valid session."""
        if _SESSION_ID.fullmatch(sid) is None:
            return None
        key, token_key = self.key(sid), RedisTokenStore.key(sid)
        sealed, sealed_token = self._store.execute(
            *(("GETEX", each, "EX", self.idle_seconds) for each in (key, token_key))
        )
        if sealed is None:
            return None
        packed = self._omnifund.cipher.read(sealed, secret=sid, name=key)
        try:
            data: dict[str, Any] = json.loads(packed or b"")
            ends_at = data["signed_in_at"] + self._lifetime
        except (ValueError, LookupError, TypeError):
            facts = {"record": "session", "session": fingerprint(sid)}
            self._omnifund.on_event(Event.RECORD_UNREADABLE, **facts)
            return None
        # The absolute lifetime is inside the encrypted record: activity cannot extend it.
        if self._omnifund.clock() >= ends_at:
            self.delete(sid)
            self._omnifund.on_event(Event.SESSION_EXPIRED, session=fingerprint(sid))
            return None
        token = None
        with suppress(ReauthorizationRequired):
            token = self._omnifund.tokens.open(sid, sealed_token)
        return {**data, _TOKEN: token}

    def _upsert_session(
        self, session_lifetime: timedelta, session: ServerSideSession, sid: str
    ) -> None:
        self._store.execute(self.store_command(sid, dict(session), "XX"))

    def delete(self, sid: str) -> None:
        """Delete a session and its tokens, in one round trip. Raises ``StoreUnavailable``."""
        tokens = RedisTokenStore.key(sid), RedisTokenStore.lock_key(sid)
        self._store.execute(("DEL", *tokens, self.key(sid)))

    _delete_session = delete

    # --- Flask's interface ---------------------------------------------------------------------

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        """Return the merchant's session, or the visitor's. Flask calls nothing of ours earlier."""
        logging.begin(request)
        session = MerchantSession()
        if request.path.startswith(NO_SESSION):
            return session
        try:
            session = cast(MerchantSession, super().open_session(app, request))
            if _TOKEN in session:
                session.token, session.is_stored = dict.pop(session, _TOKEN), True
            else:
                dict.update(session, self._visitors.open_session(app, request) or {})
        except StoreUnavailable as failure:
            session.failure = failure
        except Exception as error:  # noqa: BLE001 - without a session, Flask cannot make a page
            logging.log.error("session:read:failed", exc_info=error)
            session.failure = StoreUnavailable("the session could not be read")
        return session

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Set the cookies, and write the session if it has changed."""
        session = cast(MerchantSession, session)
        name, secure = self.get_cookie_name(app), self.get_cookie_secure(app)
        attributes: Any = {"path": "/", "secure": secure, "httponly": True, "samesite": "Lax"}
        visitor_name = self._visitors.get_cookie_name(app)
        if session.is_new:
            response.set_cookie(name, str(session.sid), **attributes)
            if visitor_name in request.cookies:
                response.delete_cookie(visitor_name, **attributes)
        elif session.is_stored and session.failure is None:
            try:
                super().save_session(app, session, response)
            except StoreUnavailable as failure:
                session.failure = failure  # The page that says so does not try again.
                raise
        elif session.failure is None:
            visitor = SecureCookieSession(session)
            visitor.modified = session.modified
            self._visitors.save_session(app, visitor, response)
            if session.is_ended:
                response.delete_cookie(name, **attributes)

    def should_set_cookie(self, app: Flask, session: SessionMixin) -> bool:
        """Only a new session sets the cookie: a late response must not bring an old one back."""
        return False


def current() -> RedisSessions:
    """Return the current app's session interface."""
    return cast(RedisSessions, current_app.session_interface)
