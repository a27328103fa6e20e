"""Which cards of the lab a visitor has run, and what was really seen: told by the recordings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from werkzeug.wrappers import Response

from demo import cookies
from demo.conversation import STEPS
from demo.failures import CARDS, Card
from demo.recorder import Exchange, Recording

_COOKIE: Final = "omnifund_seen"
_SECONDS: Final = 24 * 3600
_ENTRY: Final = re.compile(r"(\w+)\.([\w-]{0,64})")
_NAMES: Final = {
    "authorization_code": "token request",
    "password_grant": "token request",
    "refresh_token": "refresh",
    "api": "API",
}


class Event(NamedTuple):
    """A request of the app's and its response, in a word or two."""

    text: str
    is_good: bool


class Evidence(NamedTuple):
    """What a recording shows. ``milliseconds``: of the whole request of the browser."""

    id: str
    events: tuple[Event, ...]
    milliseconds: float


def cards() -> dict[str, str]:
    """Return the visitor's cards in the order in which they ran, each with its recording's ID."""
    found = (_ENTRY.fullmatch(entry) for entry in cookies.read(_COOKIE).split("~"))
    return {each[1]: each[2] for each in found if each and each[1] in CARDS}


def add(response: Response, card: Card, recording_id: str) -> None:
    """Remember that ``card`` has run."""
    kept = {name: value for name, value in cards().items() if name != card.id}
    entries = {**kept, card.id: recording_id}
    value = "~".join(f"{name}.{recording}" for name, recording in entries.items())
    cookies.write(response, _COOKIE, value, max_age=_SECONDS)


def card_of(recording_id: str) -> Card | None:
    """Return the card that led to a recording, if one did."""
    return next((CARDS[card] for card, found in cards().items() if found == recording_id), None)


def following(card: Card) -> Card | None:
    """Return the next card that the visitor has not run yet."""
    order = list(CARDS.values())
    start = order.index(card) + 1
    done = cards()
    return next((each for each in order[start:] + order[:start] if each.id not in done), None)


def evidence(recordings: Iterable[Recording]) -> dict[str, Evidence]:
    """Return, by card, what the visitor's recordings show of it."""
    cards_of = {recording: card for card, recording in cards().items()}
    return {cards_of[each.id]: _evidence(each) for each in recordings if each.id in cards_of}


def _evidence(recording: Recording) -> Evidence:
    sent = [each for each in recording.exchanges if STEPS[each.step].sender == "app"]
    incoming = recording.incoming
    events = [_event(each) for each in sent]
    events.append(Event(f"page {incoming.status}", incoming.status in (200, 303)))
    return Evidence(recording.id, tuple(events), max(0.0, (incoming.ended or 0) - incoming.started))


def _event(exchange: Exchange) -> Event:
    outcome = "no response" if exchange.status is None else str(exchange.status)
    error = exchange.response_fields.get("error", "")
    text = f"{_NAMES.get(exchange.step, exchange.step)} {outcome} {error}".strip()
    return Event(text, exchange.status == 200 and not exchange.problem)
