"""Which cards of the lab a visitor has run, and what really happened then.

The facts are taken from the recorder when the request that a card led to has ended. They are kept
in an encrypted cookie, so a reload, a sign-out, and a new sign-in leave them, and nobody can write
some that did not happen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Self

import msgspec
from werkzeug.wrappers import Response

from demo import cookies
from demo.failures import CARDS, Card
from demo.recorder import INCOMING, Exchange, Recorder, Recording
from web.current import omnifund

SECONDS: Final = 30 * 24 * 3600
"""How long a browser keeps the marks."""

MAX_COOKIE_LENGTH: Final = 3000
JUST_NOW_SECONDS: Final = 60
_COOKIE: Final = "omnifund_seen"
# What the app sent OmniFund; the visit to OmniFund before a callback is not the app's request.
_SENT: Final = frozenset({"api", "refresh_token", "authorization_code", "password_grant"})


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """A request that the app sent OmniFund; ``status`` is 0 when no response came."""

    step: str
    status: int

    @property
    def is_good(self) -> bool:
        """Whether OmniFund did what it was asked."""
        return self.status == 200


class Run(msgspec.Struct, frozen=True, array_like=True):
    """What happened when a card was run.

    ``recording``: its recording's ID, or nothing. ``at``: Unix seconds. ``status``: of the response
    to the browser. ``milliseconds`` is negative when nothing was recorded, and so nothing is known.
    """

    card: str
    recording: str
    at: int
    sent: tuple[Sent, ...] = ()
    status: int = 0
    milliseconds: int = -1

    @classmethod
    def of(cls, card: Card, recorder: Recorder | None, id: str, status: int) -> Self:
        """Return what the current request has done; ``id`` names its recording."""
        now = int(omnifund().clock())
        if recorder is None:
            return cls(card.id, "", now)
        exchanges = [message.exchange for message in recorder.messages]
        return cls(card.id, id, now, _sent(exchanges), status, round(recorder.elapsed()))

    @classmethod
    def of_many(cls, card: Card, recordings: Sequence[Recording]) -> Self:
        """Return what several simultaneous requests have done together."""
        timed = [
            (recording.at * 1000 + each.started, each)
            for recording in recordings
            for each in recording.exchanges
        ]
        exchanges = [each for _, each in sorted(timed, key=lambda pair: pair[0])]
        first = min(recording.at for recording in recordings)
        ends = [
            (each.at - first) * 1000 + (each.incoming.ended or each.incoming.started)
            for each in recordings
        ]
        status = max(each.incoming.status or 0 for each in recordings)
        return cls(card.id, "", int(first), _sent(exchanges), status, round(max(ends)))

    @property
    def words(self) -> str:
        """What happened, for example "API 401, 1 refresh, API 200, 41 ms"; or nothing."""
        if self.milliseconds < 0:
            return ""
        counted = Counter(self.sent)
        parts = [_in_words(sent, count) for sent, count in counted.items()]
        if not parts:
            parts = ["nothing sent to OmniFund"]
        if 300 <= self.status < 400:
            parts.append("redirect")
        elif self.status != 200:
            parts.append(f"page {self.status}")
        return ", ".join([*parts, elapsed(self.milliseconds)])

    @property
    def when(self) -> str:
        """How long ago that was: "just now", "5 min ago", or the day."""
        seconds = int(omnifund().clock()) - self.at
        if seconds < JUST_NOW_SECONDS:
            return "just now"
        if seconds < 3600:
            return f"{seconds // 60} min ago"
        if seconds < 24 * 3600:
            return f"{seconds // 3600} h ago"
        day = datetime.fromtimestamp(self.at, UTC)
        return f"on {day:%b} {day.day}"


def load() -> dict[str, Run]:
    """Return the latest run of each card that this visitor has run, by the card's ID."""
    runs = cookies.read_sealed(_COOKIE, list[Run])
    return {run.card: run for run in runs or () if run.card in CARDS}


def keep(response: Response, run: Run) -> None:
    """Mark a card as seen. When there is too much to keep, the oldest facts go; the marks stay."""
    runs = sorted({**load(), run.card: run}.values(), key=lambda each: each.at)
    for index in range(len(runs)):
        if len(value := cookies.as_text(_COOKIE, runs)) <= MAX_COOKIE_LENGTH:
            break
        runs[index] = Run(runs[index].card, "", runs[index].at)
    cookies.write(response, _COOKIE, value, max_age=SECONDS)


def elapsed(milliseconds: float) -> str:
    """Return a duration in the unit that fits it, which no line break separates."""
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.1f}\N{NO-BREAK SPACE}s"
    return f"{milliseconds:.0f}\N{NO-BREAK SPACE}ms"


def _sent(exchanges: Iterable[Exchange]) -> tuple[Sent, ...]:
    found = [each for each in exchanges if each.step in _SENT and each.step not in INCOMING]
    return tuple(Sent(each.step, each.status or 0) for each in found)


def _in_words(sent: Sent, count: int) -> str:
    if sent.step == "refresh_token" and sent.is_good:
        return "1 refresh" if count == 1 else f"{count} refreshes"
    name = {"api": "API", "refresh_token": "refresh"}.get(sent.step, "token endpoint")
    said = str(sent.status) if sent.status else "silent"
    return f"{name} {said}" if count == 1 else f"{count} × {name} {said}"
