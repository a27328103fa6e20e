"""Five simultaneous requests as five tracks over time, from what was recorded of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

from demo.progress import elapsed
from demo.recorder import INCOMING, Recording

TABS: Final = ("1", "2", "3", "4", "5")
"""Each opens another page of the customers, so that its recording can be told from the others."""

RACE_SECONDS: Final = 60
"""A visit later than that has nothing to do with the race."""

LEFT: Final = 64
RIGHT: Final = 676
TOP: Final = 12
ROW: Final = 34
_NARROWEST: Final = 4.0

Kind = Literal["rejected", "refresh", "wait", "data"]


class Part(NamedTuple):
    """A stretch of a track, in units of the picture."""

    kind: Kind
    x: float
    width: float


class Track(NamedTuple):
    """What one tab did. ``seconds`` counts from its own start, ``end`` is in the picture."""

    tab: str
    recording: str
    parts: list[Part]
    y: int
    end: float
    took: str
    has_succeeded: bool
    has_refreshed: bool
    has_waited: bool


class Race(NamedTuple):
    """All tracks, and the time that they share: ``ticks`` are positions with their label."""

    tracks: list[Track]
    took: str
    ticks: list[tuple[float, str]]

    @property
    def height(self) -> int:
        """The picture's height."""
        return height(len(self.tracks))

    def count(self, fact: Literal["has_succeeded", "has_refreshed", "has_waited"]) -> int:
        """Return how many tabs did so."""
        return sum(getattr(track, fact) for track in self.tracks)


def height(tracks: int) -> int:
    """Return the height of a picture of that many tracks."""
    return TOP + ROW * tracks + 24


def of_race(recordings: Sequence[Recording], since: float) -> list[Recording]:
    """Return the first recording of each tab after ``since`` (Unix seconds)."""
    found: dict[str, Recording] = {}
    for recording in sorted(recordings, key=lambda each: each.at):
        tab = recording.incoming.fields.get("page", "")
        is_near = since <= recording.at < since + RACE_SECONDS
        if is_near and tab in TABS and recording.incoming.url.endswith("/customers"):
            found.setdefault(tab, recording)
    return [found[tab] for tab in TABS if tab in found]


def draw(recordings: Sequence[Recording]) -> Race | None:
    """Return the picture of what ``of_race`` found, if it found anything."""
    if not recordings:
        return None
    began = min(recording.at for recording in recordings)
    whole = max(_offset(each, began) + _end(each) for each in recordings)
    scale = (RIGHT - LEFT) / max(whole, 1.0)
    tracks = [
        _track(recording, number, _offset(recording, began), scale)
        for number, recording in enumerate(recordings)
    ]
    step = 1000 if whole >= 1500 else 100 if whole >= 150 else 10
    ticks = [(LEFT + at * scale, elapsed(at)) for at in range(0, int(whole) + 1, step)]
    return Race(tracks, elapsed(whole), [(round(x, 1), label) for x, label in ticks])


def _track(recording: Recording, number: int, offset: float, scale: float) -> Track:
    parts = [
        Part(
            kind,
            round(LEFT + (offset + start) * scale, 1),
            round(max(_NARROWEST, (end - start) * scale), 1),
        )
        for kind, start, end in _stretches(recording)
    ]
    kinds = {part.kind for part in parts}
    return Track(
        tab=recording.incoming.fields["page"],
        recording=recording.id,
        parts=parts,
        y=TOP + ROW * number,
        end=round(LEFT + (offset + _end(recording)) * scale, 1),
        took=elapsed(_end(recording)),
        has_succeeded=recording.incoming.status == 200,
        has_refreshed="refresh" in kinds,
        has_waited="wait" in kinds,
    )


def _stretches(recording: Recording) -> Iterator[tuple[Kind, float, float]]:
    """Yield what the tab did from when to when, in milliseconds since its start."""
    last: tuple[Kind, float] | None = None
    for each in recording.exchanges:
        if each.step in INCOMING:
            continue
        kind: Kind = "data" if each.status == 200 else "rejected"
        if each.step == "refresh_token":
            kind = "refresh"
        # Its token was rejected and its next is accepted: another tab has refreshed in between.
        if last is not None and (last[0], kind) == ("rejected", "data"):
            yield "wait", last[1], each.started
        ended = each.started if each.ended is None else each.ended
        yield kind, each.started, ended
        last = kind, ended


def _offset(recording: Recording, began: float) -> float:
    return (recording.at - began) * 1000


def _end(recording: Recording) -> float:
    incoming = recording.incoming
    return incoming.started if incoming.ended is None else incoming.ended
