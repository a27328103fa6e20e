"""Where recordings are kept: sealed, bounded, and only for the visitor's own eyes.

What belongs to a session lies in Redis beside it, sealed with the session id: its sign-in and the
latest pages that have said something to OmniFund. A failed sign-in has no session; its recording
travels in a sealed cookie of the browser that failed, so that failures cost the server nothing.

Nothing here happens unless ``FLOW_INSPECTOR`` is on.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

from flask import Request, g, request
from werkzeug.wrappers import Response

from omnifund import trace
from omnifund.attempts import Attempt
from omnifund.gateway import Gateway
from omnifund.redis_client import Command
from omnifund.sealing import Unreadable, fingerprint
from omnifund.trace import Check, Exchange, Frame, Recording
from web.cookies import cookie_name, delete_cookie, set_cookie
from web.integration import Integration, integration

MAX_RECORDINGS: Final = 30
"""How many recordings a session keeps: its sign-in and the latest pages."""

FAILED_SECONDS: Final = 600
"""How long a browser keeps its last failed sign-in."""

MAX_COOKIE_CHARACTERS: Final = 3000
_MAX_BYTES: Final = 256 * 1024
INCOMING: Final = frozenset({"callback", "password", "page", "refresh"})
"""The steps that a browser takes and this app answers while the recording is made."""


# --- what happened before this request, and what it will answer ------------------------------


def retell_start(attempt: Attempt, login: Callable[..., Any]) -> None:
    """Put ``/login`` and the visit to OmniFund before the callback.

    Neither left a record: a start costs the server nothing, and what happens at OmniFund is not
    for this app to see. The attempt says all that there is to say.
    """
    recording = trace.current()
    if recording is None:
        return
    gateway = integration().gateway
    url = gateway.authorization_url(attempt)
    callback = recording.exchanges.pop()
    frames = [Frame.of(Gateway.authorization_url), Frame.of(login)]
    began = round((attempt.started_at - recording.at) * 1000, 1)
    path = f"/login?next={quote(attempt.next_path, safe='/')}"
    start = recording.add("login", "GET", path, frames=frames)
    recording.answer(start, 302, {"Location": url})
    start.begun = start.ended = began
    checks = [Check.STATE_FRESH, Check.NEXT_IS_LOCAL]
    checks += [Check.CHALLENGE_SENT] if attempt.code_verifier else []
    start.checks = {check.name: frames[0] for check in checks}
    visit = recording.add("authorize", "GET", url, frames=[])
    visit.begun, visit.ended, visit.status = began, 0.0, 302
    visit.answer_fields = dict(callback.fields)
    recording.exchanges.append(callback)


def sign_in_commands(sid: str, next_path: str, seconds: int) -> list[Command]:
    """Return what keeps this request's recording as the sign-in of the session ``sid``.

    The answer to the browser does not exist yet, but what it will say is known.
    """
    recording = trace.current()
    if recording is None:
        return []
    parts = integration()
    if (incoming := incoming_exchange(recording)) is not None:
        recording.answer(incoming, 303, {"Location": next_path})
        cookie = cookie_name(parts.settings, "omnifund_session")
        incoming.answer_headers["Set-Cookie"] = f"{cookie}=••••••••; HttpOnly; SameSite=Lax; Path=/"
        incoming.checks[Check.NEW_SESSION.name] = Frame.of(sign_in_commands)
    g.recording_kept = True
    sealed = _seal(parts, recording, secret=sid, name=key(sid))
    return [("RPUSH", key(sid), sealed), ("EXPIRE", key(sid), seconds)]


def is_worth_keeping(recording: Recording) -> bool:
    """Whether there is more to tell than that a page was asked for."""
    if request.blueprint == "sign_in":
        # A callback without a problem that is not kept yet: one that came a second time.
        return bool(recording.problem) or request.endpoint == "sign_in.callback"
    return any(exchange.step == "omnifund" for exchange in recording.exchanges)


def incoming_exchange(recording: Recording) -> Exchange | None:
    """Return the browser's request that the recording is about."""
    return next((each for each in recording.exchanges if each.step in INCOMING), None)


# --- in Redis ----------------------------------------------------------------------------------

# The list begins with the sign-in, and ends with it: without it nothing is kept, so a page that is
# still being made while somebody signs out brings nothing back. What is too much is forgotten
# before the sign-in is.
_KEEP: Final = """
if redis.call('LPUSHX', KEYS[1], ARGV[1]) <= tonumber(ARGV[2]) then return end
local sign_in = redis.call('RPOP', KEYS[1])
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 2)
redis.call('RPUSH', KEYS[1], sign_in)
"""


def key(sid: str) -> str:
    """Return the name of the key that holds the recordings of the session ``sid``."""
    return f"omnifund:{{{fingerprint(sid)}}}:trace"


def page_command(sid: str, recording: Recording) -> Command:
    """Return what keeps a page's recording in the session ``sid``, forgetting the oldest page."""
    sealed = _seal(integration(), recording, secret=sid, name=key(sid))
    return ("EVAL", _KEEP, 1, key(sid), sealed, MAX_RECORDINGS)


def expire_commands(sid: str, seconds: int) -> list[Command]:
    """Return what keeps the recordings as long as the session."""
    return [("EXPIRE", key(sid), seconds)] if integration().settings.flow_inspector else []


def forget_commands(sid: str) -> list[Command]:
    """Return what removes every recording of the session ``sid``."""
    return [("DEL", key(sid))] if integration().settings.flow_inspector else []


def load(sid: str) -> list[Recording]:
    """Return the session's recordings, the latest first and the sign-in last."""
    parts = integration()
    (stored,) = parts.store.execute(("LRANGE", key(sid), 0, -1))
    found = (_open(parts, sealed, secret=sid, name=key(sid)) for sealed in stored)
    return [recording for recording in found if recording is not None]


# --- in the browser ----------------------------------------------------------------------------


def keep_in_browser(recording: Recording, response: Response) -> None:
    """Give the browser the recording of its failed sign-in, sealed."""
    parts = integration()
    value = _cookie_value(parts, recording)
    if len(value) > MAX_COOKIE_CHARACTERS:
        for exchange in recording.exchanges:
            exchange.frames, exchange.headers, exchange.answer_headers = [], {}, {}
        value = _cookie_value(parts, recording)
    if len(value) <= MAX_COOKIE_CHARACTERS:
        set_cookie(response, parts.settings, _cookie(parts), value, max_age=FAILED_SECONDS)


def failed_sign_in(request: Request) -> Recording | None:
    """Return the browser's last failed sign-in, if it was within ``FAILED_SECONDS``."""
    parts = integration()
    try:
        sealed = base64.b64decode(
            request.cookies.get(_cookie(parts), ""), altchars=b"-_", validate=True
        )
    except (binascii.Error, ValueError):
        return None
    recording = _open(parts, sealed, secret="", name="trace")
    if recording is None or parts.clock() > recording.at + FAILED_SECONDS:
        return None
    return recording


def forget_in_browser(response: Response) -> None:
    """Have the browser forget its last failed sign-in."""
    parts = integration()
    if parts.settings.flow_inspector:
        delete_cookie(response, parts.settings, _cookie(parts))


def _cookie(parts: Integration) -> str:
    return cookie_name(parts.settings, "omnifund_trace")


def _cookie_value(parts: Integration, recording: Recording) -> str:
    sealed = _seal(parts, recording, secret="", name="trace")
    return base64.urlsafe_b64encode(sealed).decode()


# --- sealing -----------------------------------------------------------------------------------


def _seal(parts: Integration, recording: Recording, *, secret: str, name: str) -> bytes:
    text = json.dumps(recording.as_dict(), separators=(",", ":")).encode()
    return parts.keyring.seal(zlib.compress(text, 9), secret=secret, name=name)


def _open(parts: Integration, sealed: bytes, *, secret: str, name: str) -> Recording | None:
    try:
        packed = parts.keyring.open(sealed, secret=secret, name=name)
        text = zlib.decompressobj().decompress(packed, _MAX_BYTES)
        return Recording.from_dict(json.loads(text))
    except (Unreadable, ValueError, KeyError, TypeError, zlib.error):
        # Of another version of this app, or altered: a recording is never worth an error page.
        return None
