"""What was said: one request's share of the OAuth conversation, masked before it is kept.

Off by default, and then next to free. A host that wants to see the conversation makes a
``Recording`` for each of its requests (``begin``, ``end``); whatever is said to OmniFund and
checked in between ends up in it, together with the places in the code that did it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

from omnifund.masking import Masker, short

ROOT: Final = Path(__file__).resolve().parent.parent
"""Where the project's own code lies; nothing outside is ever named in a recording."""

MAX_EXCHANGES: Final = 8
MAX_FRAMES: Final = 4

# Code that only passes things on explains nothing.
_SILENT: Final = frozenset({"omnifund/http.py", "omnifund/trace.py"})


class Check(Enum):
    """What is made sure of on the way, and the rule behind it."""

    STATE_FRESH = ("state is new: 256 random bits", "RFC 6749 §10.10")
    CHALLENGE_SENT = ("the code challenge goes along, method S256", "RFC 7636 §4.3")
    NEXT_IS_LOCAL = ("the page to return to is one of this app", "RFC 9700 §4.11")
    STATE_MATCHED = ("state is one that this browser was given", "RFC 6749 §10.12")
    ATTEMPT_IN_TIME = ("the attempt is at most ten minutes old", "RFC 9700 §2.1")
    ATTEMPT_UNUSED = ("the attempt had not been used; now it has", "RFC 6749 §10.5")
    ATTEMPT_FINISHED = ("the sign-in is finished already; the code goes nowhere", "RFC 6749 §10.5")
    NOTHING_REPEATED = ("no parameter occurs twice", "RFC 6749 §3.1")
    ISSUER = ("iss names this OmniFund", "RFC 9207 §2.4")
    ALLOWED = ("OmniFund said yes: a code, and no error", "RFC 6749 §4.1.2")
    REDIRECT_URI_SENT = ("redirect_uri is sent again, byte for byte", "RFC 6749 §4.1.3")
    VERIFIER_SENT = ("the code verifier goes along", "RFC 7636 §4.5")
    CREDENTIALS_IN_BODY = ("the client's credentials are in the body only", "RFC 6749 §2.3.1")
    COMPLETE = ("the answer is whole, in time and not too large", "RFC 9112 §8")
    STATUS = ("the status fits the body", "RFC 6749 §5.1, §5.2")
    JSON = ("the content type is JSON, the body a JSON object", "RFC 6749 §5.1")
    ACCESS_TOKEN = ("the access token has the right form", "RFC 6749 appendix A.12")
    TOKEN_TYPE = ("the token type is Bearer", "RFC 6749 §7.1")
    EXPIRY = ("the lifetime is a number of seconds", "RFC 6749 §5.1")
    SCOPE = ("the scope is a text, or left out", "RFC 6749 §5.1")
    SAVED_ONCE = ("the new tokens took the place of exactly the old ones", "RFC 9700 §4.14")
    NEW_SESSION = ("a new session id; an earlier session is dead", "RFC 9700 §2.1")
    OWN_ORIGIN = ("the token goes to OmniFund's own address only", "RFC 6750 §5.3")
    API_STATUS = ("the API answered 200", "RFC 9110 §15.3.1")

    def __init__(self, text: str, clause: str) -> None:
        self.text = text
        self.clause = clause


@dataclass(frozen=True, slots=True)
class Frame:
    """A place in the project's own code; ``file`` is relative to its root."""

    file: str
    line: int
    function: str

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Self:
        """Return where ``function`` begins."""
        code = function.__code__
        return cls(_own_file(code.co_filename) or "", code.co_firstlineno, code.co_name)


@dataclass(slots=True)
class Exchange:
    """A request and its answer, masked.

    ``step`` says what it is for. ``fields``: the parameters of the query or of the body.
    ``begun`` and ``ended`` are milliseconds since the recording began.
    """

    step: str
    method: str
    url: str
    fields: dict[str, str]
    headers: dict[str, str]
    begun: float
    frames: list[Frame]
    status: int | None = None
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer_fields: dict[str, str] = field(default_factory=dict)
    body: str = ""
    ended: float | None = None
    checks: dict[str, Frame] = field(default_factory=dict)
    problem: str = ""


@dataclass(slots=True)
class Recording:
    """What was said while the host answered one request.

    ``id``: the request's id, as in the log. ``at``: Unix seconds. ``changed``: for a refresh,
    the marks of each token before and after.
    """

    id: str
    at: float
    masker: Masker = field(repr=False)
    exchanges: list[Exchange] = field(default_factory=list)
    changed: dict[str, tuple[str, str]] = field(default_factory=dict)
    problem: str = ""
    _began: float = field(default_factory=time.perf_counter, repr=False)
    _of_next: dict[str, Frame] = field(default_factory=dict, repr=False)

    def add(
        self,
        step: str,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        frames: list[Frame] | None = None,
    ) -> Exchange:
        """Note a request. ``url`` may hold a query; ``body`` is a form."""
        form = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
        address = urlsplit(url)
        exchange = Exchange(
            step=step,
            method=method,
            url=short(address._replace(query="", fragment="").geturl()),
            fields=self.masker.fields(parse_qsl(address.query) + parse_qsl(form)),
            headers=self.masker.headers(headers or {}),
            begun=self._milliseconds(),
            frames=_frames(MAX_FRAMES) if frames is None else frames,
            checks=self._of_next,
        )
        self._of_next = {}
        if len(self.exchanges) < MAX_EXCHANGES:
            self.exchanges.append(exchange)
        return exchange

    def answer(
        self, exchange: Exchange, status: int, headers: Mapping[str, str], body: bytes | None = None
    ) -> None:
        """Note the answer to ``exchange``."""
        exchange.status = status
        exchange.ended = self._milliseconds()
        exchange.answer_headers |= self.masker.headers(headers)
        if body is not None:
            exchange.body, exchange.answer_fields = self.masker.body(headers, body)
        if location := headers.get("Location"):
            exchange.answer_fields |= self.masker.fields(parse_qsl(urlsplit(location).query))

    def checked(self, check: Check, frame: Frame, *, of_next: bool) -> None:
        """Note a check on the exchange that was added last, or will be next."""
        if of_next:
            self._of_next[check.name] = frame
        elif self.exchanges:
            self.exchanges[-1].checks.setdefault(check.name, frame)

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold, and ``from_dict`` can read."""
        return {
            "id": self.id,
            "at": self.at,
            "problem": self.problem,
            "changed": self.changed,
            "exchanges": [asdict(exchange) for exchange in self.exchanges],
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Return the recording that ``as_dict`` was made of."""
        exchanges = [
            Exchange(
                **{
                    **exchange,
                    "frames": [Frame(**frame) for frame in exchange["frames"]],
                    "checks": {name: Frame(**frame) for name, frame in exchange["checks"].items()},
                }
            )
            for exchange in facts["exchanges"]
        ]
        return cls(**{**facts, "exchanges": exchanges}, masker=Masker(""))

    def _milliseconds(self) -> float:
        return round((time.perf_counter() - self._began) * 1000, 1)


# --- the recording of this thread's request --------------------------------------------------

_current: Final[ContextVar[Recording | None]] = ContextVar("omnifund_recording", default=None)


def begin(recording: Recording) -> None:
    """Record in ``recording`` from now on."""
    _current.set(recording)


def end() -> None:
    """Record no longer."""
    _current.set(None)


def current() -> Recording | None:
    """Return the recording that is being made, if any."""
    return _current.get()


def checked(check: Check, *, of_next: bool = False) -> None:
    """Note that the caller has made sure of ``check``, in what was said last or is said next."""
    recording = _current.get()
    if recording is not None:
        recording.checked(check, _frames(1)[0], of_next=of_next)


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Note that a refresh has replaced these secrets."""
    recording = _current.get()
    if recording is not None:
        mark = recording.masker.mark
        recording.changed = {
            name: (mark(before[name]), mark(after[name])) for name in before if name in after
        }


def failed(error: Exception) -> None:
    """Note what ended the conversation. The package's errors hold no secret."""
    recording = _current.get()
    if recording is not None and not recording.problem:
        recording.problem = f"{type(error).__name__}: {error}"
        if recording.exchanges:
            recording.exchanges[-1].problem = recording.problem


# --- where in the code -----------------------------------------------------------------------


def _frames(count: int) -> list[Frame]:
    """Return the innermost ``count`` places of the project's code that led here."""
    found: list[Frame] = []
    frame: Any = sys._getframe(1)
    while frame is not None and len(found) < count:
        file = _own_file(frame.f_code.co_filename)
        if file is not None and file not in _SILENT:
            found.append(Frame(file, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return found or [Frame("", 0, "")]


def _own_file(filename: str) -> str | None:
    """Return the path below the project's root, unless it is a library's."""
    if not filename.startswith(f"{ROOT}/") or "site-packages" in filename:
        return None
    return filename.removeprefix(f"{ROOT}/")
