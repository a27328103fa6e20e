"""Records what one request of the browser leads to: the messages, and the code that sent them.

A message stays in memory as it is until the request has ended, and is masked then: a server may
repeat a secret before the message in which it can be recognized as one.
"""

from __future__ import annotations

import functools
import inspect
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any, Final, ParamSpec, Self, TypeVar
from urllib.parse import parse_qsl

import msgspec
import structlog
from flask import g, has_request_context

from demo import rules, wire
from demo.masking import Masker, query_of
from demo.rules import Outcome
from omnifund.errors import OmniFundError
from omnifund.http import HTTPClient, Response

ROOT: Final = Path(__file__).resolve().parent.parent
"""Where the project's code is; no file outside is ever named in a recording."""

MAX_EXCHANGES: Final = 8
MAX_FRAMES: Final = 4

INCOMING: Final = frozenset({"callback", "repeated_callback", "password", "page", "refresh"})
"""The steps in which the browser sends a request to this app."""

_GRANTS: Final = {
    "authorization_code": "authorization_code",
    "password": "password_grant",
    "refresh_token": "refresh_token",
}

log: Any = structlog.get_logger("omnifund")

Problem = tuple[str, str]
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def harmless(function: Callable[Parameters, Result]) -> Callable[Parameters, Result | None]:
    """Keep a failure of ``function`` from the page: it returns ``None`` then, and logs why."""

    @functools.wraps(function)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result | None:
        try:
            return function(*args, **kwargs)
        except Exception:
            log.exception("demo:recording:failed")
            # The tests run with warnings as errors, so that no failure is missed there.
            warnings.warn("the demo's recorder failed", RuntimeWarning, stacklevel=2)
            return None

    return wrapper


# --- what is kept: masked --------------------------------------------------------------------


class Frame(msgspec.Struct, frozen=True):
    """A line of the project's code; ``file`` is relative to its root."""

    file: str
    line: int
    function: str

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Self:
        """Return the line of ``function`` that decides what it does."""
        code = inspect.unwrap(function).__code__
        return cls(_own_file(code.co_filename) or "", rules.deciding_line(function), code.co_name)


class Exchange(msgspec.Struct):
    """A request and its response.

    ``step`` says what it is for. ``fields``: the parameters of the query or of the body; ``body``
    describes the response's. ``started`` and ``ended`` are milliseconds since the recording began.
    ``checks``: each rule's name, and what came of it.
    """

    step: str
    method: str
    url: str
    frames: list[Frame]
    started: float
    ended: float | None = None
    fields: dict[str, str] = {}
    headers: dict[str, str] = {}
    status: int | None = None
    response_headers: dict[str, str] = {}
    response_fields: dict[str, str] = {}
    body: str = ""
    checks: dict[str, Outcome] = {}
    problem: str = ""


class Recording(msgspec.Struct):
    """What one request of the browser led to.

    ``id``: the request's ID, as in the log. ``at``: Unix seconds. ``changed``: for a refresh, the
    hashes of each token before and after.
    """

    id: str
    at: float
    problem: str
    changed: dict[str, tuple[str, str]]
    exchanges: list[Exchange]

    @property
    def incoming(self) -> Exchange:
        """The browser's request that the recording is about."""
        return next(each for each in self.exchanges if each.step in INCOMING)


# --- what is collected: as it is -------------------------------------------------------------


@dataclass(slots=True)
class Message:
    """An exchange with all its secrets.

    ``stopped_in``: the functions through which the error that ended it was raised, from the
    outermost to the innermost; ``problem``: its class and its message.
    """

    exchange: Exchange
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Sequence[tuple[str, Any]] = ()
    response_headers: Mapping[str, str] = field(default_factory=dict)
    response_fields: Sequence[tuple[str, Any]] = ()
    body: bytes | None = None
    stopped_in: tuple[CodeType, ...] = ()
    problem: Problem = ("", "")

    def mask(self, masker: Masker) -> Exchange:
        """Write into the exchange what may be kept; return it."""
        kept = self.exchange
        is_incoming = kept.step in INCOMING
        responds_itself = is_incoming or kept.step == "login"
        kept.headers = masker.headers(self.headers, is_own=not is_incoming)
        kept.fields = masker.fields(self.fields, is_own=not is_incoming)
        kept.response_headers = masker.headers(self.response_headers, is_own=responds_itself)
        location = query_of(self.response_headers.get("Location", ""))
        returned = [*location, *self.response_fields]
        kept.response_fields = masker.fields(returned, is_own=responds_itself)
        if self.body is not None:
            kept.body, members = masker.body(self.response_headers, self.body)
            kept.response_fields |= members
        names = kept.fields | kept.response_fields
        kept.checks = rules.outcomes(kept.step, names, self.stopped_in, kept.status)
        kept.problem = _in_words(self.problem, masker)
        return kept


class Recorder:
    """Collects the messages of one request of the browser."""

    def __init__(self, id: str, at: float, masker: Masker, tokens: Mapping[str, str]) -> None:
        """``id``: the request's; ``at``: Unix seconds; ``tokens``: the session's, by name."""
        self.at = at
        self.messages: list[Message] = []
        self._id = id
        self._masker = masker
        self._problem: Problem = ("", "")
        self._tokens = {name: masker.mark(token) for name, token in tokens.items() if token}
        self._refresh: Exchange | None = None
        self._began = time.perf_counter()

    def add(self, step: str, method: str, url: str, frames: list[Frame], **request: Any) -> Message:
        """Note a request. ``url`` has no query: ``request`` has the ``fields`` and ``headers``."""
        exchange = Exchange(step, method, url, frames, started=self.elapsed())
        message = Message(exchange, **request)
        if len(self.messages) < MAX_EXCHANGES:
            self.messages.append(message)
        return message

    def responded(
        self, message: Message, status: int, headers: Mapping[str, str], body: bytes | None = None
    ) -> None:
        """Note the response to ``message``."""
        message.response_headers, message.body = headers, body
        message.exchange.status, message.exchange.ended = status, self.elapsed()

    def refreshed(self) -> None:
        """Note that the latest request was a refresh, and succeeded."""
        self._refresh = self.messages[-1].exchange

    def superseded(self) -> None:
        """Note that the tokens of the latest request were not stored: newer ones are."""
        self.messages[-1].stopped_in = rules.SUPERSEDED

    def failed(self, error: Exception, *, page: bool = True) -> None:
        """Note what ended an exchange, and unless ``page`` is false, the browser's request too."""
        stopped_in = rules.functions_of(error)
        # The messages of other errors may contain anything.
        problem = (type(error).__name__, str(error) if isinstance(error, OmniFundError) else "")
        steps = [message.exchange.step for message in self.messages]
        stopped = self.messages[rules.stopped_step(steps, stopped_in)]
        # The first report is the one from where it happened.
        if not stopped.stopped_in:
            stopped.stopped_in, stopped.problem = stopped_in, problem
        if page:
            self._problem = problem
            self.incoming.stopped_in = stopped_in

    @property
    def incoming(self) -> Message:
        """The browser's request."""
        return next(each for each in self.messages if each.exchange.step in INCOMING)

    def finish(self) -> Recording:
        """Return what may be kept."""
        for message in self.messages:
            message.mask(self._masker)  # only to learn every secret first
        exchanges = [message.mask(self._masker) for message in self.messages]
        problem = _in_words(self._problem, self._masker)
        return Recording(self._id, self.at, problem, self._changed(), exchanges)

    def _changed(self) -> dict[str, tuple[str, str]]:
        if self._refresh is None:
            return {}
        after = self._refresh.response_fields
        # RFC 6749 §6: without a new refresh token the old one stays valid.
        return {name: (before, after.get(name) or before) for name, before in self._tokens.items()}

    def elapsed(self) -> float:
        """Return the milliseconds since the recording began."""
        return round((time.perf_counter() - self._began) * 1000, 1)


def current() -> Recorder | None:
    """Return the recorder of the current request, if it is recorded."""
    recorder: Recorder | None = g.get("recorder") if has_request_context() else None
    return recorder


def _in_words(problem: Problem, masker: Masker) -> str:
    kind, message = problem
    return f"{kind}: {masker.text(message)}" if message else kind


class RecordingHTTPClient(HTTPClient):
    """An HTTP client that records its messages, if the current request is recorded."""

    def send(self, method: str, path: str, **request: Any) -> Response:
        """Send as ``HTTPClient`` does."""
        message = _sent(method, self.base_url + path, **request)
        wire.sent(method, path, request.get("body"))
        try:
            response = super().send(method, path, **request)
        except OmniFundError:
            wire.gave_up()
            raise
        wire.received(response.status, response.body)
        _received(message, response)
        return response


@harmless
def _sent(
    method: str, url: str, *, headers: Mapping[str, str], body: Any = None, **_limits: Any
) -> Message | None:
    if (recorder := current()) is None:
        return None
    form = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
    url, query = (*url.split("?", 1), "")[:2]
    fields = parse_qsl(f"{query}&{form}", keep_blank_values=True)
    step = _GRANTS.get(dict(fields).get("grant_type", ""), "api")
    return recorder.add(step, method, url, _frames(), headers=headers, fields=fields)


@harmless
def _received(message: Message | None, response: Response) -> None:
    if message is not None and (recorder := current()) is not None:
        recorder.responded(message, response.status, response.headers, response.body)


# --- where in the code -----------------------------------------------------------------------


def _frames() -> list[Frame]:
    """Return the innermost line of the project's code that led here, and where it was called."""
    found: list[Frame] = []
    for frame, line in traceback.walk_stack(sys._getframe(1)):
        file, function = _own_file(frame.f_code.co_filename), frame.f_code.co_name
        # Helpers on the way only pass things on.
        is_telling = not (found and function.startswith("_"))
        if file and not file.startswith(("demo/", "omnifund/http.py")) and is_telling:
            found.append(Frame(file, line, function))
    return found[:MAX_FRAMES]


def _own_file(filename: str) -> str | None:
    """Return the path below the project's root, unless it is a library's."""
    if not filename.startswith(f"{ROOT}/") or "site-packages" in filename:
        return None
    return filename.removeprefix(f"{ROOT}/")
