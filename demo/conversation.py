"""A recording, laid out for reading: the picture's arrows, the messages, the source lines.

The purpose of each step is in one table here; everything else comes from the recording, from the
rules, and from the files that are running.
"""

from __future__ import annotations

import linecache
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from demo import recorder, rules
from demo.masking import HIDDEN
from demo.recorder import INCOMING, Exchange, Frame, Recording
from demo.rules import Outcome, Rule

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
    "repeated_callback": Step(
        "browser",
        "app",
        "Your browser sends the same callback again",
        "By Reload, Back, or a double click. The code has been used, so the app sends OmniFund "
        "nothing and leads you to the session that this sign-in started.",
        "RFC 6749 §4.1.2, §10.5",
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
    is_response: bool
    is_missing: bool


@dataclass(frozen=True, slots=True)
class Source:
    """A line of the code with the lines around it, each with its number."""

    place: Frame
    lines: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Check:
    """A rule, what came of it, and the code that applies it."""

    rule: Rule
    outcome: Outcome
    source: Source


@dataclass(frozen=True, slots=True)
class Message:
    """A request and its response, with everything there is to say about them."""

    anchor: str
    arrows: tuple[Arrow, ...]
    step: Step
    exchange: Exchange
    milliseconds: float | None
    checks: tuple[Check, ...]
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


def as_json(chosen: Recording) -> dict[str, Any]:
    """Return ``chosen`` as it is downloaded, with the rules in words."""
    facts: dict[str, Any] = msgspec.to_builtins(chosen)
    for exchange, kept in zip(facts["exchanges"], chosen.exchanges, strict=True):
        exchange["checks"] = [
            {
                **{name: getattr(rule, name) for name in ("text", "clause", "file", "line")},
                "function": rule.function,
                "outcome": outcome,
            }
            for rule, outcome in _rules(kept)
        ]
    return facts


def title(chosen: Recording) -> str:
    """Return what the recording is about, in a word or two."""
    incoming = chosen.incoming
    if incoming is None:
        return "Recording"
    if incoming.step == "page":
        query = "&".join(f"{name}={value}" for name, value in incoming.fields.items())
        return f"{incoming.method} {incoming.url}" + (f"?{query}" if query else "")
    names = {"callback": "Sign-in", "password": "Password sign-in", "refresh": "Refresh"}
    return names.get(incoming.step, "Sign-in, repeated")


def moment(chosen: Recording) -> datetime:
    """Return when the recording began."""
    return datetime.fromtimestamp(chosen.at, UTC)


def _arrows(exchanges: list[Exchange]) -> Iterator[Arrow]:
    """Yield the messages in order: a response to the browser comes after all it waited for."""
    began = exchanges[0].started if exchanges else 0.0
    for count, (index, exchange, is_response) in enumerate(_in_order(exchanges)):
        step = STEPS[exchange.step]
        ends = (step.sender, step.receiver)
        from_lane, to_lane = reversed(ends) if is_response else ends
        at = exchange.ended if is_response else exchange.started
        yield Arrow(
            number=count + 1,
            anchor=_anchor(index),
            sender=from_lane,
            label=_response_label(exchange) if is_response else _request_label(exchange),
            time="" if at is None else _elapsed(at - began),
            y=_FIRST_ARROW + count * _BETWEEN_ARROWS,
            from_x=LANES[from_lane],
            to_x=LANES[to_lane],
            is_response=is_response,
            is_missing=is_response and exchange.status is None,
        )


def _in_order(exchanges: list[Exchange]) -> Iterator[tuple[int, Exchange, bool]]:
    """Yield each exchange's index, the exchange, and whether its response is meant."""
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


def _response_label(exchange: Exchange) -> str:
    if exchange.status is None:
        return "no response"
    for name, label in (
        ("access_token", "tokens"),
        ("error", "error"),
        ("code", "code, state"),
        ("hydra:member", "your data"),
        ("state", "to OmniFund"),
    ):
        if name in exchange.response_fields:
            return f"{exchange.status} {label}"
    location = exchange.response_headers.get("Location", "")
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
        step=STEPS[exchange.step],
        exchange=exchange,
        # The start is reconstructed, not measured.
        milliseconds=None
        if ended is None or exchange.step == "login"
        else max(0.0, ended - exchange.started),
        checks=tuple(
            Check(rule, outcome, _source_of_rule(rule)) for rule, outcome in _rules(exchange)
        ),
        sources=tuple(map(_source, exchange.frames)),
        commands=tuple(_commands(exchange)),
    )


def _rules(exchange: Exchange) -> Iterator[tuple[Rule, Outcome]]:
    for name, outcome in exchange.checks.items():
        # Another version of the app, on another server, may have rules of its own.
        if (function := rules.RULES.get(name)) is not None:
            yield rules.describe(function), outcome


def _source_of_rule(rule: Rule) -> Source:
    place = Frame(rule.file, rule.line, rule.function)
    return Source(place, tuple(enumerate(rule.source, rule.line)))


def _source(frame: Frame) -> Source:
    path = str(recorder.ROOT / frame.file)
    linecache.checkcache(path)
    lines = linecache.getlines(path)
    first = max(1, frame.line - _LINES_BEFORE)
    last = min(len(lines), frame.line + _LINES_AFTER)
    return Source(
        frame, tuple((number, lines[number - 1].rstrip()) for number in range(first, last + 1))
    )


# --- commands to copy --------------------------------------------------------------------------


def _commands(exchange: Exchange) -> Iterator[tuple[str, str]]:
    """Yield commands that send the same request, with the secrets from the environment."""
    if STEPS[exchange.step].sender != "app":
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
