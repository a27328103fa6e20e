"""A recording, laid out for reading: the picture's arrows, the messages, the source lines.

What is said about a step (its purpose, the rule behind it) stands here in one table; everything
else comes from the recording, and the source lines from the files that are running.
"""

from __future__ import annotations

import linecache
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from omnifund.masking import HIDDEN
from omnifund.trace import Check, Exchange, Frame, Recording
from web.recording import INCOMING, incoming_exchange

from omnifund import trace

LANES: Final = {"browser": 58, "app": 192, "omnifund": 326}
"""Where each party's lane runs in the picture, in the picture's own units."""

_FIRST_ARROW: Final = 84
_BETWEEN_ARROWS: Final = 46
_LINES_BEFORE: Final = 2
_LINES_AFTER: Final = 3


class Step(NamedTuple):
    """What the inspector says about a message: who sends it to whom, what for, by which rule."""

    sender: str
    receiver: str
    title: str
    purpose: str
    clause: str


STEPS: Final = {
    "login": Step(
        "browser",
        "app",
        "You start a sign-in",
        "The app generates a state and a code verifier, stores the verifier in an encrypted cookie "
        "bound to that state, and redirects your browser to OmniFund.",
        "RFC 6749 §4.1.1",
    ),
    "authorize": Step(
        "browser",
        "omnifund",
        "You sign in at OmniFund and choose Allow or Deny",
        "This happens between your browser and OmniFund. The app sees neither your password nor "
        "the page; it learns only the result.",
        "RFC 6749 §4.1.1, §4.1.2",
    ),
    "callback": Step(
        "browser",
        "app",
        "OmniFund sends you back",
        "The response arrives through your browser, so anyone could have forged it. The app uses "
        "none of it until the state matches.",
        "RFC 6749 §4.1.2, §10.12",
    ),
    "password": Step(
        "browser",
        "app",
        "You give the app your password",
        "Password grant: the app sees the password and forwards it immediately.",
        "RFC 6749 §4.3",
    ),
    "page": Step(
        "browser",
        "app",
        "You open a page",
        "The session cookie identifies you; the page needs data from OmniFund.",
        "RFC 6265 §5.4",
    ),
    "refresh": Step(
        "browser",
        "app",
        "You request new tokens",
        "The app also does this automatically when an access token is about to expire.",
        "RFC 6749 §6",
    ),
    "authorization_code": Step(
        "app",
        "omnifund",
        "The app exchanges the code for tokens",
        "Server to server: only the app knows the client secret and the code verifier, so a stolen "
        "code is useless.",
        "RFC 6749 §4.1.3, RFC 7636 §4.5",
    ),
    "password_grant": Step(
        "app",
        "omnifund",
        "The app exchanges the password for tokens",
        "It's sent once and never stored.",
        "RFC 6749 §4.3.2",
    ),
    "refresh_token": Step(
        "app",
        "omnifund",
        "The app refreshes the tokens",
        "OmniFund replaces both tokens; the old refresh token no longer works.",
        "RFC 6749 §6",
    ),
    "api": Step(
        "app",
        "omnifund",
        "The app reads your data",
        "With the access token as a Bearer token, to OmniFund's origin only.",
        "RFC 6750 §2.1",
    ),
}


# --- what a template needs -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrow:
    """One message of the picture. ``y`` and ``x`` are the picture's own units."""

    number: int
    anchor: str
    sender: str
    label: str
    time: str
    y: int
    from_x: int
    to_x: int
    is_answer: bool
    is_missing: bool


@dataclass(frozen=True, slots=True)
class Source:
    """A place in the code with the lines around it, each with its number."""

    place: Frame
    lines: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A request and its answer, with everything that there is to say about them."""

    anchor: str
    arrows: tuple[Arrow, ...]
    step: Step
    exchange: Exchange
    milliseconds: float | None
    checks: tuple[tuple[Check, Frame], ...]
    sources: tuple[Source, ...]
    commands: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A recording, laid out."""

    id: str
    title: str
    at: datetime
    problem: str
    changed: dict[str, tuple[str, str]]
    arrows: tuple[Arrow, ...]
    height: int
    messages: tuple[Message, ...]


def lay_out(chosen: Recording) -> Conversation:
    """Return ``chosen`` as the template shows it."""
    arrows = tuple(_arrows(chosen.exchanges))
    return Conversation(
        id=chosen.id,
        title=title(chosen),
        at=moment(chosen),
        problem=chosen.problem,
        changed=chosen.changed,
        arrows=arrows,
        height=_FIRST_ARROW + len(arrows) * _BETWEEN_ARROWS,
        messages=tuple(
            _message(index, exchange, arrows) for index, exchange in enumerate(chosen.exchanges)
        ),
    )


def title(chosen: Recording) -> str:
    """Return what the recording is about, in a word or two."""
    incoming = incoming_exchange(chosen)
    if incoming is None:
        return "Recording"
    if incoming.step == "page":
        return f"{incoming.method} {incoming.url}"
    if Check.ATTEMPT_FINISHED.name in incoming.checks:
        return "Sign-in, repeated"
    names = {"callback": "Sign-in", "password": "Password sign-in", "refresh": "Refresh"}
    return names[incoming.step]


def moment(chosen: Recording) -> datetime:
    """Return when the recording began."""
    return datetime.fromtimestamp(chosen.at, UTC)


def _step(exchange: Exchange) -> Step:
    if exchange.step != "omnifund":
        return STEPS[exchange.step]
    grant = exchange.fields.get("grant_type")
    if grant is None:
        return STEPS["api"]
    return STEPS["password_grant" if grant == "password" else grant]


def _arrows(exchanges: list[Exchange]) -> Iterator[Arrow]:
    """Yield the messages in order: an answer to the browser comes after all that it waited for."""
    began = exchanges[0].begun if exchanges else 0.0
    for count, (index, exchange, is_answer) in enumerate(_in_order(exchanges)):
        step = _step(exchange)
        ends = (step.sender, step.receiver)
        from_lane, to_lane = reversed(ends) if is_answer else ends
        at = exchange.ended if is_answer else exchange.begun
        yield Arrow(
            number=count + 1,
            anchor=_anchor(index),
            sender=from_lane,
            label=_answer_label(exchange) if is_answer else _request_label(exchange),
            time="" if at is None else _elapsed(at - began),
            y=_FIRST_ARROW + count * _BETWEEN_ARROWS,
            from_x=LANES[from_lane],
            to_x=LANES[to_lane],
            is_answer=is_answer,
            is_missing=is_answer and exchange.status is None,
        )


def _in_order(exchanges: list[Exchange]) -> Iterator[tuple[int, Exchange, bool]]:
    """Yield each exchange's number, the exchange, and whether its answer is meant."""
    waiting: list[tuple[int, Exchange, bool]] = []
    for index, exchange in enumerate(exchanges):
        yield index, exchange, False
        if exchange.step in INCOMING:
            waiting.append((index, exchange, True))
        else:
            yield index, exchange, True
    yield from waiting


def _anchor(index: int) -> str:
    return f"m{index + 1}"


def _request_label(exchange: Exchange) -> str:
    path = "/" + exchange.url.rpartition("/")[2]
    return f"{exchange.method} {path}"


def _answer_label(exchange: Exchange) -> str:
    if exchange.status is None:
        return "no response"
    fields = exchange.answer_fields
    for name, label in (
        ("access_token", "tokens"),
        ("error", "error"),
        ("code", "code, state"),
        ("hydra:member", "your data"),
        ("state", "to OmniFund"),
    ):
        if name in fields:
            return f"{exchange.status} {label}"
    location = exchange.answer_headers.get("Location", "")
    return f"{exchange.status} {location if location.startswith('/') else ''}".strip()


def _elapsed(milliseconds: float) -> str:
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.1f} s"
    return f"{milliseconds:.0f} ms"


def _message(index: int, exchange: Exchange, arrows: tuple[Arrow, ...]) -> Message:
    anchor = _anchor(index)
    ended = exchange.ended
    return Message(
        anchor=anchor,
        arrows=tuple(arrow for arrow in arrows if arrow.anchor == anchor),
        step=_step(exchange),
        exchange=exchange,
        # The start is retold, not measured.
        milliseconds=None
        if ended is None or exchange.step == "login"
        else max(0.0, ended - exchange.begun),
        checks=tuple((Check[name], frame) for name, frame in exchange.checks.items()),
        sources=tuple(map(_source, exchange.frames)),
        commands=tuple(_commands(exchange)),
    )


def _source(frame: Frame) -> Source:
    path = str(trace.ROOT / frame.file)
    linecache.checkcache(path)
    lines = linecache.getlines(path)
    first = max(1, frame.line - _LINES_BEFORE)
    last = min(len(lines), frame.line + _LINES_AFTER)
    return Source(
        frame, tuple((number, lines[number - 1].rstrip()) for number in range(first, last + 1))
    )


# --- commands to copy --------------------------------------------------------------------------


def _commands(exchange: Exchange) -> Iterator[tuple[str, str]]:
    """Yield how to say the same to OmniFund by hand, secrets taken from the environment."""
    if exchange.step != "omnifund":
        return
    url = shlex.quote(exchange.url)
    if "Authorization" in exchange.headers:
        header = '"Authorization: Bearer $ACCESS_TOKEN"'
        curl, httpie = [f"curl --get {url}", f"--header {header}"], [f"http GET {url}", header]
        between = "=="
    else:
        curl, httpie = [f"curl {url}"], [f"http --form POST {url}"]
        between = "="
    for name, value in exchange.fields.items():
        parameter = _parameter(name, value)
        curl.append(f"--data-urlencode {parameter}")
        httpie.append(parameter.replace("=", between, 1))
    yield "curl", " \\\n  ".join(curl)
    yield "HTTPie", " \\\n  ".join(httpie)


def _parameter(name: str, value: str) -> str:
    if value == HIDDEN or value.startswith("#"):
        variable = "OMNIFUND_CLIENT_SECRET" if name == "client_secret" else name.upper()
        return f'"{name}=${variable}"'
    return shlex.quote(f"{name}={value}")
