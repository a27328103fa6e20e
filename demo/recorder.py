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
from flask import g, has_request_context

from demo import rules
from demo.masking import Masker, query_of
from demo.rules import Outcome
from omnifund.errors import OmniFundError
from omnifund.http import HTTPClient, Response
from web.logging import log

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

Problem = tuple[str, str]
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def harmless(function: Callable[Parameters, Result]) -> Callable[Parameters, Result | None]:
    """Keep a failure of ``function`` from the page: it returns ``None`` then, and logs why."""

    @functools.wraps(function)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result | None:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - no page may depend on what only teaches
            log.error("demo:recording:failed", exc_info=error)
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
        """Return where ``function`` begins."""
        code = inspect.unwrap(function).__code__
        return cls(_own_file(code.co_filename) or "", code.co_firstlineno, code.co_name)


class Exchange(msgspec.Struct):
    """A request and its response.

    ``step`` says what it is for. ``fields``: the parameters of the query or of the body; ``body``
    describes the response's. ``started`` and ``ended`` are milliseconds since the recording began.
    ``checks``: each rule's name, and what came of it.
    """

    step: str
    method: str
    url: str
    fields: dict[str, str]
    headers: dict[str, str]
    started: float
    frames: list[Frame]
    status: int | None
    response_headers: dict[str, str]
    response_fields: dict[str, str]
    body: str
    ended: float | None
    checks: dict[str, Outcome]
    problem: str


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
    def incoming(self) -> Exchange | None:
        """The browser's request that the recording is about."""
        return next((each for each in self.exchanges if each.step in INCOMING), None)


# --- what is collected: as it is -------------------------------------------------------------


@dataclass(slots=True)
class Message:
    """A request and its response, with all their secrets.

    ``stopped_in``: the functions through which the error that ended it was raised, from the
    outermost to the innermost; ``problem``: its class and its message.
    """

    step: str
    method: str
    url: str
    headers: Mapping[str, str]
    fields: Sequence[tuple[str, Any]]
    frames: list[Frame]
    started: float
    status: int | None = None
    response_headers: Mapping[str, str] = field(default_factory=dict)
    response_fields: Sequence[tuple[str, Any]] = ()
    body: bytes | None = None
    ended: float | None = None
    stopped_in: tuple[CodeType, ...] = ()
    problem: Problem = ("", "")

    def masked(self, masker: Masker) -> Exchange:
        """Return what may be kept."""
        fields = masker.fields(self.fields)
        location = query_of(self.response_headers.get("Location", ""))
        returned = masker.fields([*location, *self.response_fields])
        note = ""
        if self.body is not None:
            note, members = masker.body(self.response_headers, self.body)
            returned |= members
        return Exchange(
            step=self.step,
            method=self.method,
            url=self.url,
            fields=fields,
            headers=masker.headers(self.headers),
            started=self.started,
            frames=self.frames,
            status=self.status,
            response_headers=masker.headers(self.response_headers),
            response_fields=returned,
            body=note,
            ended=self.ended,
            checks=rules.outcomes(self.step, fields | returned, self.stopped_in, self.status),
            problem=_in_words(self.problem, masker),
        )


class Recorder:
    """Collects the messages of one request of the browser."""

    def __init__(self, id: str, at: float, masker: Masker) -> None:
        """``id``: the request's; ``at``: Unix seconds; ``masker`` may know some secrets already."""
        self.at = at
        self.messages: list[Message] = []
        self._id = id
        self._masker = masker
        self._problem: Problem = ("", "")
        self._tokens: dict[str, str | None] = {}
        self._refreshed: Message | None = None
        self._began = time.perf_counter()

    def add(
        self,
        step: str,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        fields: Sequence[tuple[str, Any]],
        frames: list[Frame],
    ) -> Message:
        """Note a request. ``url`` has no query: its parameters are in ``fields``."""
        message = Message(step, method, url, headers, fields, frames, self._milliseconds())
        if len(self.messages) < MAX_EXCHANGES:
            self.messages.append(message)
        return message

    def responded(
        self, message: Message, status: int, headers: Mapping[str, str], body: bytes | None = None
    ) -> None:
        """Note the response to ``message``."""
        message.status, message.response_headers, message.body = status, headers, body
        message.ended = self._milliseconds()

    def has_tokens(self, access_token: str, refresh_token: str | None) -> None:
        """Note the tokens of the session at the beginning of the request."""
        self._tokens = {"access_token": access_token, "refresh_token": refresh_token}
        self._masker.learn(access_token, refresh_token)

    def refreshed(self) -> None:
        """Note that the latest request was a refresh, and succeeded."""
        self._refreshed = self.messages[-1]

    def superseded(self) -> None:
        """Note that the tokens of the latest request were not stored: newer ones are."""
        self.messages[-1].stopped_in = rules.SUPERSEDED

    def failed(self, error: Exception, *, page: bool = True) -> None:
        """Note what ended an exchange, and unless ``page`` is false, the browser's request too."""
        stopped_in = rules.functions_of(error)
        # The messages of other errors may contain anything.
        text = str(error) if isinstance(error, OmniFundError) else ""
        problem = (type(error).__name__, text)
        stopped = self.messages[
            rules.stopped_step([each.step for each in self.messages], stopped_in)
        ]
        # The first report is the one from where it happened.
        if not stopped.stopped_in:
            stopped.stopped_in, stopped.problem = stopped_in, problem
        if page:
            self._problem = problem
            for each in self.messages:
                if each.step in INCOMING:
                    each.stopped_in = stopped_in

    def finish(self) -> Recording:
        """Return what may be kept."""
        for each in self.messages:
            each.masked(self._masker)  # only to learn every secret first
        exchanges = [each.masked(self._masker) for each in self.messages]
        return Recording(
            id=self._id,
            at=self.at,
            problem=_in_words(self._problem, self._masker),
            changed=self._changed(),
            exchanges=exchanges,
        )

    def _changed(self) -> dict[str, tuple[str, str]]:
        if self._refreshed is None:
            return {}
        after = self._refreshed.masked(self._masker).response_fields
        before = {name: self._masker.mark(token) for name, token in self._tokens.items() if token}
        # RFC 6749 §6: without a new refresh token the old one stays valid.
        return {name: (mark, after.get(name) or mark) for name, mark in before.items()}

    def _milliseconds(self) -> float:
        return round((time.perf_counter() - self._began) * 1000, 1)


def current() -> Recorder | None:
    """Return the recorder of the current request, if it is recorded."""
    recorder: Recorder | None = g.get("recorder") if has_request_context() else None
    return recorder


class RecordingHTTPClient(HTTPClient):
    """An HTTP client whose messages are recorded, if the current request is."""

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | str | None = None,
        max_bytes: int,
    ) -> Response:
        """Send as ``HTTPClient`` does."""
        message = _sent(method, self.base_url + path, headers, body)
        response = super().send(method, path, headers=headers, body=body, max_bytes=max_bytes)
        _received(message, response)
        return response


@harmless
def _sent(
    method: str, url: str, headers: Mapping[str, str], body: bytes | str | None
) -> Message | None:
    if (recorder := current()) is None:
        return None
    form = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
    url, _, query = url.partition("?")
    fields = parse_qsl(query, keep_blank_values=True) + parse_qsl(form, keep_blank_values=True)
    step = _GRANTS.get(dict(fields).get("grant_type", ""), "api")
    return recorder.add(step, method, url, headers=headers, fields=fields, frames=_frames())


@harmless
def _received(message: Message | None, response: Response) -> None:
    if message is not None and (recorder := current()) is not None:
        recorder.responded(message, response.status, response.headers, response.body)


def _in_words(problem: Problem, masker: Masker) -> str:
    kind, message = problem
    return f"{kind}: {masker.text(message)}" if message else kind


# --- where in the code -----------------------------------------------------------------------


def _frames() -> list[Frame]:
    """Return the innermost lines of the project's code that led here."""
    found = [
        Frame(file, line, frame.f_code.co_name)
        for frame, line in traceback.walk_stack(sys._getframe(1))
        if (file := _own_file(frame.f_code.co_filename)) is not None
        and not file.startswith(("demo/", "omnifund/http.py"))
    ]
    return found[:MAX_FRAMES]


def _own_file(filename: str) -> str | None:
    """Return the path below the project's root, unless it is a library's."""
    if not filename.startswith(f"{ROOT}/") or "site-packages" in filename:
        return None
    return filename.removeprefix(f"{ROOT}/")
