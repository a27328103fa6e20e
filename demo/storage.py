"""Where recordings are kept: encrypted, bounded, and only for the visitor they belong to.

Those of a session are in Redis beside it: its sign-in and the latest pages that sent OmniFund a
request. A failed sign-in has no session; its recording is in an encrypted cookie of the browser
that failed, so that failures take no memory of the server's.
"""

from __future__ import annotations

from typing import Final

from werkzeug.wrappers import Response

from demo import cookies
from demo.recorder import Recording
from omnifund.encryption import fingerprint
from omnifund.redis_client import Command
from web import sessions
from web.current import omnifund, store

MAX_RECORDINGS: Final = 30
"""How many recordings a session keeps: its sign-in and the latest pages."""

FAILED_SECONDS: Final = 600
"""How long a browser keeps its last failed sign-in."""

_TRIED: Final = "omnifund:rights:list"
RIGHTS: Final[tuple[Command, ...]] = (
    ("DEL", _TRIED),
    ("LPUSH", _TRIED, 1),
    ("EXPIRE", _TRIED, 10),
    ("RPUSH", _TRIED, 1),
    ("RPOP", _TRIED),
    ("LTRIM", _TRIED, 0, 0),
    ("LRANGE", _TRIED, 0, -1),
    ("PEXPIRE", _TRIED, 10),
    ("DEL", _TRIED),
)
"""Tries the commands that recordings need, beside those of the app."""

MAX_COOKIE_LENGTH: Final = 3000
_COOKIE: Final = "omnifund_trace"

# Nothing is kept without the session, so a page that is in progress during a sign-out brings
# nothing back. The list ends with the sign-in, which stays when the oldest pages are dropped.
_KEEP: Final = """
local left = redis.call('PTTL', KEYS[2])
if left <= 0 then return end
if redis.call(ARGV[1], KEYS[1], ARGV[2]) > tonumber(ARGV[3]) then
  local sign_in = redis.call('RPOP', KEYS[1])
  redis.call('LTRIM', KEYS[1], 0, ARGV[3] - 2)
  redis.call('RPUSH', KEYS[1], sign_in)
end
redis.call('PEXPIRE', KEYS[1], left)
"""


def key(session_fingerprint: str) -> str:
    """Return the name of the key that holds a session's recordings; see ``fingerprint``."""
    return f"omnifund:{{{session_fingerprint}}}:trace"


def keep(sid: str, recording: Recording, *, sign_in: bool, replaced: str | None) -> None:
    """Keep a recording as long as the session ``sid``, if there still is one.

    ``sign_in``: whether it tells how the session began. ``replaced``: the session that it replaced,
    whose recordings are deleted. Raises ``StoreUnavailable``.
    """
    name = key(fingerprint(sid))
    sealed = cookies.seal(recording, secret=sid, name=name)
    keys = (name, sessions.current().key(sid))
    how = "RPUSH" if sign_in else "LPUSH"
    commands: list[Command] = [("EVAL", _KEEP, 2, *keys, how, sealed, MAX_RECORDINGS)]
    if replaced is not None:
        commands.append(("DEL", key(fingerprint(replaced))))
    store().execute(*commands)


def delete(session_fingerprint: str) -> None:
    """Delete every recording of a session. Raises ``StoreUnavailable``."""
    store().execute(("DEL", key(session_fingerprint)))


def load(sid: str) -> list[Recording]:
    """Return the session's recordings, the latest first and the sign-in last."""
    name = key(fingerprint(sid))
    (stored,) = store().execute(("LRANGE", name, 0, -1))
    found = (cookies.unseal(each, Recording, secret=sid, name=name) for each in stored)
    return [recording for recording in found if recording is not None]


# --- in the browser ----------------------------------------------------------------------------


def keep_in_browser(recording: Recording, response: Response) -> None:
    """Give the browser the recording of its failed sign-in, encrypted."""
    value = cookies.as_text(_COOKIE, recording)
    if len(value) > MAX_COOKIE_LENGTH:
        for exchange in recording.exchanges:
            exchange.frames, exchange.headers, exchange.response_headers = [], {}, {}
        value = cookies.as_text(_COOKIE, recording)
    if len(value) <= MAX_COOKIE_LENGTH:
        cookies.write(response, _COOKIE, value, max_age=FAILED_SECONDS)


def failed_sign_in() -> Recording | None:
    """Return the browser's last failed sign-in, if it was within ``FAILED_SECONDS``."""
    recording = cookies.read_sealed(_COOKIE, Recording)
    if recording is None or omnifund().clock() > recording.at + FAILED_SECONDS:
        return None
    return recording


def delete_in_browser(response: Response) -> None:
    """Have the browser delete its last failed sign-in."""
    cookies.delete(response, _COOKIE)
