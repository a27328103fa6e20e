"""Sessions in Redis: Flask-Session's interface, made safe, lazy and cheap.

What is different from the library's own: the key in Redis is a fingerprint of the session id and
the value is sealed with a key derived from it, so Redis alone opens nothing; nothing is unpickled;
a request that does not touch the session costs no round trip, another costs one, which reads the
session and its token and moves their expiry (``GETEX``); only a changed session is written, and
only where it still exists, so a slow request cannot undo a sign-out.

Before somebody has signed in there is nothing about them in Redis at all: the little that a visitor
needs (the CSRF token of the password form) travels in a sealed cookie.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from collections.abc import Callable
from typing import Any, Final, Self

from flask import Flask, Request, Response
from flask_session.base import ServerSideSession, ServerSideSessionInterface
from flask_session.redis import RedisSessionInterface

from omnifund.errors import StoreUnavailable
from omnifund.events import Event
from omnifund.redis_client import Command
from omnifund.sealing import Unreadable, fingerprint
from web import recording
from web.cookies import cookie_name, delete_cookie, set_cookie
from web.integration import Integration

VISITOR_SECONDS: Final = 3600
"""How long the cookie of a visitor who has not signed in is good."""

# Where Flask-WTF looks for it.
_CSRF: Final = "csrf_token"

_SESSION_ID: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class MerchantSession(ServerSideSession):
    """A session that is read from Redis when somebody first looks into it.

    ``sid``: the session id while there is a stored session, else ``None``. ``sealed_token``: what
    Redis holds under the token's key; it comes with the same round trip.
    """

    def __init__(self, load: Callable[[Self], None]) -> None:
        super().__init__()
        self.sid: str | None = None
        self.sealed_token: bytes | None = None
        self.is_started = False
        self.is_ended = False
        self._load: Callable[[Self], None] | None = load
        self._failure: StoreUnavailable | None = None

    def load(self) -> None:
        """Read the session, once. Raises ``StoreUnavailable``, and then always at once."""
        if self._failure is not None:
            raise self._failure
        if self._load is not None:
            load, self._load = self._load, None
            try:
                load(self)
            except StoreUnavailable as error:
                self._failure = error
                raise
            self.modified = False
        self.accessed = True

    def start(self, sid: str, data: dict[str, Any]) -> None:
        """Become the session ``sid``, which has just been stored."""
        self._load = None
        dict.clear(self)
        dict.update(self, data)
        dict.setdefault(self, _CSRF, csrf_token_of(sid))
        self.sid, self.is_started, self.is_ended, self.modified = sid, True, False, False

    def end(self) -> None:
        """Become nobody's session, which has just been removed from the store."""
        self._load = None
        dict.clear(self)
        self.sid, self.sealed_token = None, None
        self.is_started, self.is_ended, self.modified = False, True, False


def _loading(name: str) -> Callable[..., Any]:
    inherited = getattr(ServerSideSession, name)

    @functools.wraps(inherited)
    def method(self: MerchantSession, *args: Any, **kwargs: Any) -> Any:
        self.load()
        return inherited(self, *args, **kwargs)

    return method


# A dict has no single place through which everything passes, so each way in loads first.
for _name in (
    *("__getitem__", "__setitem__", "__delitem__", "__contains__", "__iter__", "__len__"),
    *("__bool__", "__eq__", "get", "pop", "popitem", "setdefault", "update", "clear"),
    *("keys", "values", "items", "copy"),
):
    setattr(MerchantSession, _name, _loading(_name))


class SealedRedisSessionInterface(RedisSessionInterface):
    """Opens and saves ``MerchantSession``s."""

    session_class = MerchantSession

    def __init__(self, app: Flask, parts: Integration) -> None:
        # Not RedisSessionInterface's: it turns away clients that are not exactly redis.Redis.
        ServerSideSessionInterface.__init__(self, app, key_prefix="omnifund:", sid_length=32)
        self._parts = parts
        self._cookie = cookie_name(parts.settings, "omnifund_session")
        self._visitor_cookie = cookie_name(parts.settings, "omnifund_visitor")
        self._lifetime = parts.settings.session_lifetime_seconds
        self.idle_seconds = min(parts.settings.session_idle_seconds, self._lifetime)

    # --- commands, for the sign-in and the sign-out ------------------------------------------

    def new_sid(self) -> str:
        """Return a fresh session id: 256 random bits."""
        return str(self._generate_sid(self.sid_length))

    def presented_sid(self, request: Request) -> str | None:
        """Return the session id that the browser sent, if it has the form of one."""
        sid = request.cookies.get(self._cookie, "")
        return sid if _SESSION_ID.fullmatch(sid) else None

    def store_command(self, sid: str, data: dict[str, Any], *, only_if: str = "") -> Command:
        """Return the command that stores a session; ``only_if`` ``"XX"``: where it still exists."""
        key = self._get_store_id(sid)
        stored = {name: value for name, value in data.items() if name != _CSRF}
        sealed = self._parts.keyring.seal(_encode(stored), secret=sid, name=key)
        command: Command = ("SET", key, sealed, "EX", self.idle_seconds)
        return (*command, only_if) if only_if else command

    def remove_command(self, sid: str) -> Command:
        """Return the command that removes a session."""
        return ("DEL", self._get_store_id(sid))

    # --- Flask's interface -------------------------------------------------------------------

    def open_session(self, app: Flask, request: Request) -> MerchantSession:
        """Return the session of this request; nothing is read yet."""
        return self.session_class(lambda session: self._read(session, request))

    def save_session(self, app: Flask, session: MerchantSession, response: Response) -> None:
        """Send the cookie that the session needs, and write the session if it has changed."""
        if session.is_ended:
            delete_cookie(response, self._parts.settings, self._cookie)
        elif session.is_started and session.sid is not None:
            set_cookie(response, self._parts.settings, self._cookie, session.sid)
        elif session.modified and session.sid is not None:
            self._parts.store.execute(self.store_command(session.sid, dict(session), only_if="XX"))
        elif session.modified:
            self._save_visitor(session, response)

    def _get_store_id(self, sid: str) -> str:
        # The same hash tag as the token's key, so that both are on one node of a Cluster.
        return f"{self.key_prefix}{{{fingerprint(sid)}}}:session"

    # --- reading -----------------------------------------------------------------------------

    def _read(self, session: MerchantSession, request: Request) -> None:
        sid = self.presented_sid(request)
        data = self._read_stored(session, sid) if sid else None
        dict.update(session, self._read_visitor(request) if data is None else data)

    def _read_stored(self, session: MerchantSession, sid: str) -> dict[str, Any] | None:
        """Return the stored session's data, or ``None`` when ``sid`` is no live session."""
        key, idle = self._get_store_id(sid), self.idle_seconds
        sealed, sealed_token, *_ = self._parts.store.execute(
            ("GETEX", key, "EX", idle),
            ("GETEX", self._parts.vault.key(sid), "EX", idle),
            *recording.expire_commands(sid, idle),
        )
        if sealed is None:
            return None
        try:
            data = _decode(self._parts.keyring.open(sealed, secret=sid, name=key))
        except (Unreadable, ValueError):
            self._parts.observe(Event.RECORD_UNREADABLE, record="session", session=fingerprint(sid))
            return None
        # The absolute limit lies inside the sealed record: activity cannot move it.
        if self._parts.clock() >= data["signed_in_at"] + self._lifetime:
            self._parts.store.execute(
                self.remove_command(sid),
                self._parts.vault.forget(sid),
                *recording.forget_commands(sid),
            )
            self._parts.observe(Event.SESSION_EXPIRED, session=fingerprint(sid))
            return None
        data.setdefault(_CSRF, csrf_token_of(sid))
        session.sid, session.sealed_token = sid, sealed_token
        return data

    # --- visitors who have not signed in -----------------------------------------------------

    def _read_visitor(self, request: Request) -> dict[str, Any]:
        try:
            sealed = base64.b64decode(
                request.cookies.get(self._visitor_cookie, ""), altchars=b"-_", validate=True
            )
            facts = _decode(self._parts.keyring.open(sealed, secret="", name="visitor"))
            made_at, data = facts["made_at"], dict(facts["data"])
        except (Unreadable, binascii.Error, ValueError, KeyError):
            return {}
        return data if self._parts.clock() < made_at + VISITOR_SECONDS else {}

    def _save_visitor(self, session: MerchantSession, response: Response) -> None:
        facts = {"made_at": self._parts.clock(), "data": dict(session)}
        sealed = self._parts.keyring.seal(_encode(facts), secret="", name="visitor")
        value = base64.urlsafe_b64encode(sealed).decode()
        set_cookie(
            response, self._parts.settings, self._visitor_cookie, value, max_age=VISITOR_SECONDS
        )


def csrf_token_of(sid: str) -> str:
    """Return the session's CSRF token: 128 bits that follow from its id and lead nobody back.

    So it need not be stored, and the first form of a session needs no second write.
    """
    return fingerprint(f"csrf {sid}")


def _encode(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def _decode(encoded: bytes) -> dict[str, Any]:
    data = json.loads(encoded)
    if not isinstance(data, dict):
        raise ValueError("not a session")
    return data
