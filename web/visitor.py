"""Who is visiting. The only module that touches ``flask.session``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from flask import current_app, g, redirect, request, session, url_for
from flask_wtf.csrf import generate_csrf

from omnifund.attempts import Attempt
from omnifund.events import Event
from omnifund.redis_client import Command
from omnifund.sealing import fingerprint
from omnifund.token import Token
from omnifund.trace import Recording
from omnifund.vault import Record
from web import recording
from web.integration import integration
from web.next_path import safe_next_path
from web.sessions import MerchantSession, SealedRedisSessionInterface

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response


@dataclass(frozen=True, slots=True)
class Connection:
    """A signed-in merchant's connection with OmniFund.

    ``handle`` opens the token's record; ``record`` is what it held when this request looked;
    ``signed_in_at``: Unix seconds.
    """

    handle: str
    record: Record
    signed_in_at: int


def connection() -> Connection | None:
    """Return the visitor's connection, or ``None`` when they are not signed in.

    Costs one round trip to Redis, once in a request, and none without a session cookie. Raises
    ``StoreUnavailable``.
    """
    current = _session()
    current.load()
    if current.sid is None:
        return None
    record = integration().vault.open(current.sid, current.sealed_token)
    return Connection(current.sid, record, current["signed_in_at"]) if record else None


def is_known() -> bool:
    """Whether this request has found a signed-in merchant already; asks nobody."""
    return _session().sid is not None


def sign_in(token: Token, *, attempt: Attempt | None = None, workflow: str) -> None:
    """Begin a session with ``token``: a new id, nothing of an earlier session left.

    One round trip, made now and not at the end of the request, so that a failure is an answer of
    this request. Raises ``StoreUnavailable``.
    """
    parts, sessions = integration(), _sessions()
    sid, now = sessions.new_sid(), int(parts.clock())
    data = {"signed_in_at": now}
    commands = [
        parts.vault.save(sid, token, seconds=sessions.idle_seconds),
        sessions.store_command(sid, data),
    ]
    if attempt is not None:
        commands.append(parts.attempts.finish(attempt, sid))
    next_path = attempt.next_path if attempt else url_for("pages.dashboard")
    commands += recording.sign_in_commands(sid, next_path, sessions.idle_seconds)
    # Whatever session the browser had is dead from here on, also if a thief has its cookie.
    if (earlier := sessions.presented_sid(request)) is not None:
        commands += _remove_commands(earlier)
    parts.store.execute(*commands)
    _session().start(sid, data)
    parts.observe(Event.SIGN_IN_SUCCEEDED, workflow=workflow, session=fingerprint(sid))


def session_key(handle: str) -> str:
    """Return the name of the session's key in Redis."""
    return str(_sessions().remove_command(handle)[1])


def csrf_token() -> str:
    """Return what the visitor's forms carry. Raises ``StoreUnavailable``."""
    current = _session()
    word = current.get("csrf_token")
    return generate_csrf() if word is None else _signed(word)


@lru_cache(maxsize=4096)
def _signed(_word: str) -> str:
    # Flask-WTF signs the word of the current session, which is this one. As nothing depends on when
    # it was signed, once is enough. It remembers for the request what it has signed; the session
    # may have changed since.
    g.pop("csrf_token", None)
    return str(generate_csrf())


def resume(handle: str) -> None:
    """Give the browser the session that its own sign-in attempt has led to already."""
    _session().start(handle, {})


def keep(page: Recording) -> None:
    """Keep what this page has said to OmniFund in the visitor's session, if they have one.

    Raises ``StoreUnavailable``.
    """
    sid = _session().sid
    if sid is not None:
        integration().store.execute(recording.page_command(sid, page))


def sign_out(event: Event = Event.SIGNED_OUT, **facts: Any) -> None:
    """End the session in Redis and in the browser. Raises ``StoreUnavailable``."""
    parts, sessions = integration(), _sessions()
    sid = sessions.presented_sid(request)
    if sid is not None:
        parts.store.execute(*_remove_commands(sid))
        parts.observe(event, session=fingerprint(sid), **facts)
    _session().end()


def _remove_commands(sid: str) -> list[Command]:
    return [
        _sessions().remove_command(sid),
        integration().vault.forget(sid),
        *recording.forget_commands(sid),
    ]


def signed_in_only(view: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the visitor's ``Connection`` to the view, or send them to sign in and come back."""

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        current = connection()
        return to_sign_in() if current is None else view(current, *args, **kwargs)

    return wrapper


def to_sign_in() -> Response:
    """Redirect to the sign-in, from which the visitor comes back to where they are now."""
    here = request.full_path.rstrip("?") if request.method == "GET" else ""
    next_path = safe_next_path(here) or url_for("pages.dashboard")
    # url_for would escape the slashes too, and people read this URL.
    return redirect(f"{url_for('sign_in.login')}?next={quote(next_path, safe='/')}")


def _session() -> MerchantSession:
    return cast(MerchantSession, cast(Any, session)._get_current_object())


def _sessions() -> SealedRedisSessionInterface:
    return cast(SealedRedisSessionInterface, current_app.session_interface)
