"""A recording, laid out for reading: the picture's arrows, the messages, the source lines.

The purpose of each step is in one table here; everything else comes from the recording, from the
rules, and from the files that are running.
"""

from __future__ import annotations

import ast
import functools
import linecache
import re
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from markupsafe import Markup, escape

from demo import recorder, rules
from demo.masking import HIDDEN
from demo.progress import elapsed
from demo.recorder import INCOMING, Exchange, Frame, Recording
from demo.rules import Outcome, Rule

MAX_LINES: Final = 16

KINDS_OF_MARKS: Final = 12
_MARK: Final = re.compile(r"#([0-9a-f]{2})[0-9a-f]{6}\b")


class Step(msgspec.Struct, frozen=True):
    """What the inspector says about a request: who sends it to whom, what for, by which clause."""

    sender: str
    receiver: str
    title: str
    purpose: str
    clause: str


STEPS: Final = msgspec.toml.decode(
    Path(__file__).with_name("steps.toml").read_bytes(), type=dict[str, Step]
)


# --- what a template needs -----------------------------------------------------------------------


class Arrow(NamedTuple):
    """A request or a response in the picture; a click on it leads to ``anchor``.

    ``stay``: how long the browser was at OmniFund, on the message that ended it.
    """

    number: int
    anchor: str
    sender: str
    receiver: str
    label: str
    time: str
    stay: str
    is_response: bool
    is_missing: bool


class Source(NamedTuple):
    """A place in the code with the lines around it, each with its number."""

    place: Frame
    lines: tuple[tuple[int, str], ...]


class Check(NamedTuple):
    """A rule, what came of it, and the function that applies it."""

    rule: Rule
    outcome: Outcome
    source: Source


class Message(NamedTuple):
    """A request and its response, with everything there is to say about them."""

    anchor: str
    arrows: list[Arrow]
    step: Step
    exchange: Exchange
    milliseconds: float | None
    checks: list[Check]
    sources: list[Source]
    commands: list[tuple[str, str]]


class Conversation(NamedTuple):
    """A recording, laid out."""

    recording: Recording
    title: str
    at: datetime
    arrows: list[Arrow]
    messages: list[Message]


def lay_out(chosen: Recording) -> Conversation:
    """Return ``chosen`` as the template shows it."""
    arrows = list(_arrows(chosen.exchanges))
    messages = [_message(index, each, arrows) for index, each in enumerate(chosen.exchanges)]
    return Conversation(chosen, title(chosen), moment(chosen), arrows, messages)


def as_json(chosen: Recording) -> dict[str, Any]:
    """Return ``chosen`` as it is downloaded, with the rules in words."""
    facts: dict[str, Any] = msgspec.to_builtins(chosen)
    for exchange, kept in zip(facts["exchanges"], chosen.exchanges, strict=True):
        exchange["checks"] = [
            {**rule._asdict(), "outcome": outcome} for rule, outcome in _outcomes(kept.checks)
        ]
    return facts


def title(chosen: Recording) -> str:
    """Return what the recording is about, in a word or two."""
    incoming = chosen.incoming
    if incoming.step == "page":
        query = "&".join(f"{name}={value}" for name, value in incoming.fields.items())
        return f"{incoming.method} {incoming.url}{'?' if query else ''}{query}"
    names = {"callback": "Sign-in", "password": "Password sign-in", "refresh": "Refresh"}
    return names.get(incoming.step, "Sign-in, repeated")


SIGN_INS: Final = ("callback", "password")
"""Steps that are a sign-in."""


class Entry(NamedTuple):
    """A recording in the list of recordings. ``seconds``: how long ago it began."""

    id: str
    title: str
    seconds: float
    problem: str


def listed(recordings: Iterable[Recording], now: float) -> list[list[Entry]]:
    """Return recordings of the same title together, sign-ins first, the latest of each first.

    ``recordings``: the latest first. ``now``: Unix seconds.
    """
    groups: dict[tuple[bool, str], list[Entry]] = {}
    for each in recordings:
        entry = Entry(each.id, title(each), max(0.0, now - each.at), each.problem)
        key = (each.incoming.step not in SIGN_INS, entry.title.partition("?")[0])
        groups.setdefault(key, []).append(entry)
    return [groups[key] for key in sorted(groups, key=lambda key: key[0])]


def moment(chosen: Recording) -> datetime:
    """Return when the recording began."""
    return datetime.fromtimestamp(chosen.at, UTC)


def marks(text: str) -> Markup:
    """Return ``text`` with each hash as a chip whose color and shape come from the hash."""

    def chip(found: re.Match[str]) -> str:
        return f'<span class="mark mark-{int(found[1], 16) % KINDS_OF_MARKS}">{found[0]}</span>'

    return Markup(_MARK.sub(chip, str(escape(text))))  # noqa: S704 - escaped before


def _arrows(exchanges: list[Exchange]) -> Iterator[Arrow]:
    """Yield the messages in order: a response to the browser comes after all it waited for."""
    began = exchanges[0].started if exchanges else 0.0
    for number, (index, exchange, is_response) in enumerate(_in_order(exchanges), 1):
        step = STEPS[exchange.step]
        ends = (step.sender, step.receiver)
        sender, receiver = reversed(ends) if is_response else ends
        at = exchange.ended if is_response else exchange.started
        stay = ""
        # Retold, not measured; only the end of the visit to OmniFund was seen.
        if exchange.step in ("login", "authorize"):
            if exchange.step == "authorize" and is_response and at is not None:
                stay = elapsed(at - exchange.started)
            at = None
        yield Arrow(
            number=number,
            anchor=f"m{index + 1}",
            sender=sender,
            receiver=receiver,
            label=_label(exchange, is_response=is_response),
            time="" if at is None else elapsed(at - began),
            stay=stay,
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


def _label(exchange: Exchange, *, is_response: bool) -> str:
    if not is_response:
        return f"{exchange.method} /{exchange.url.rpartition('/')[2]}"
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


def _message(index: int, exchange: Exchange, arrows: list[Arrow]) -> Message:
    anchor, ended = f"m{index + 1}", exchange.ended
    # The start is reconstructed, not measured.
    is_measured = ended is not None and exchange.step != "login"
    return Message(
        anchor=anchor,
        arrows=[arrow for arrow in arrows if arrow.anchor == anchor],
        step=STEPS[exchange.step],
        exchange=exchange,
        milliseconds=max(0.0, (ended or 0.0) - exchange.started) if is_measured else None,
        checks=list(checks(exchange.checks)),
        sources=[source(frame) for frame in exchange.frames],
        commands=list(_commands(exchange)),
    )


def checks(outcomes: Mapping[str, Outcome]) -> Iterator[Check]:
    """Yield the rules that ``outcomes`` names, with their source."""
    for rule, outcome in _outcomes(outcomes):
        yield Check(rule, outcome, source(Frame(rule.file, rule.line, rule.function)))


def _outcomes(outcomes: Mapping[str, Outcome]) -> Iterator[tuple[Rule, Outcome]]:
    for name, outcome in outcomes.items():
        # Another version of the app, on another server, may have rules of its own.
        if (function := rules.RULES.get(name)) is not None:
            yield rules.describe(function), outcome


def source(frame: Frame) -> Source:
    """Return the function that a line belongs to, without its docstring: 16 lines at most."""
    path = str(recorder.ROOT / frame.file)
    linecache.checkcache(path)
    lines = linecache.getlines(path)
    numbers = lines_of_function("".join(lines), frame.line)
    here = numbers.index(frame.line) if frame.line in numbers else 0
    first = max(0, min(here - MAX_LINES // 2, len(numbers) - MAX_LINES))
    shown = numbers[first : first + MAX_LINES]
    # Every line begins where the outermost one does.
    text = textwrap.dedent("".join(lines[number - 1] for number in shown)).splitlines()
    return Source(frame, tuple(zip(shown, text, strict=True)))


def function_named(text: str, name: str) -> ast.FunctionDef:
    """Return the function of that name in the module ``text``."""
    return next(function for function in _functions(text) if function.name == name)


@functools.lru_cache(maxsize=64)  # A page shows the same few files again and again.
def _functions(text: str) -> list[ast.FunctionDef]:
    nodes = ast.walk(rules.parse(text))
    return [node for node in nodes if isinstance(node, ast.FunctionDef)]


def lines_of_function(text: str, line: int) -> list[int]:
    """Return the lines of the innermost function around ``line``, without its docstring."""
    around = [each for each in _functions(text) if each.lineno <= line <= (each.end_lineno or 0)]
    if not around:
        return [line]
    function = max(around, key=lambda node: node.lineno)
    numbers = set(range(function.lineno, (function.end_lineno or line) + 1))
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        numbers -= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1)) - {line}
    return sorted(numbers)


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
