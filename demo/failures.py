"""The failure lab's cards; ``failures.toml`` has their texts."""

from __future__ import annotations

from collections.abc import Container
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec


class Way(Enum):
    """How a failure is caused."""

    SIGN_IN = "sign_in"  # start a sign-in that fails at OmniFund
    FORGED = "forged"  # return with a state that no sign-in has
    PAGE = "page"  # open a page whose request fails at OmniFund
    TABS = "tabs"  # open five pages simultaneously while the token expires
    REPLAYED = "replayed"  # return with a callback that has been used
    STORE = "store"  # stop Redis for a few seconds


class Card(msgspec.Struct, frozen=True):
    """One failure."""

    id: str
    title: str
    verb: str
    stands_for: str
    naive: str
    ours: str
    proof: str
    way: Way
    faults: tuple[str, ...] = ()
    cost: str = ""

    @property
    def needs_session(self) -> bool:
        """Whether the visitor has to be signed in first."""
        return self.way not in (Way.SIGN_IN, Way.FORGED)

    @property
    def is_recorded(self) -> bool:
        """Whether the page that follows has one recording."""
        # Without Redis OmniFund is sent nothing; the five tabs have a recording each.
        return self.way not in (Way.STORE, Way.TABS)


class Group(msgspec.Struct, frozen=True):
    """Cards that belong together."""

    title: str
    introduction: str
    cards: tuple[Card, ...]

    @property
    def needs_session(self) -> bool:
        """Whether every card needs a visitor who is signed in."""
        return all(card.needs_session for card in self.cards)


class _Texts(msgspec.Struct, frozen=True):
    groups: tuple[Group, ...]
    first_five: tuple[str, ...]


_texts: Final = msgspec.toml.decode(Path(__file__).with_suffix(".toml").read_bytes(), type=_Texts)
GROUPS: Final = _texts.groups
CARDS: Final = {card.id: card for group in GROUPS for card in group.cards}
FIRST_FIVE: Final = tuple(CARDS[card_id] for card_id in _texts.first_five)


def after(card: Card, seen: Container[str]) -> Card:
    """Return the next card that is not in ``seen``; when all are, the one that follows."""
    cards = list(CARDS.values())
    here = cards.index(card) + 1
    others = [*cards[here:], *cards[: here - 1]]
    return next((each for each in others if each.id not in seen), others[0])
