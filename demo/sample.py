"""A recorded sign-in for visitors who have none of their own yet."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from demo import rules
from demo.recorder import Recording

PATH: Final = Path(__file__).with_suffix(".json")


@functools.cache
def load() -> Recording:
    """Return a sign-in at Local OmniFund, as ``make screenshots`` has recorded it.

    The source lines are left out, as they would be those of that day; the checks are today's.
    """
    recording = msgspec.json.decode(PATH.read_bytes(), type=Recording)
    for exchange in recording.exchanges:
        names = exchange.fields | exchange.response_fields
        exchange.checks = rules.outcomes(exchange.step, names, (), exchange.status)
    return recording


def dump(exchanges: Iterable[dict[str, Any]], **about: Any) -> bytes:
    """Return what ``load`` reads, of a recording in the inspector's download."""
    kept = [{**each, "frames": [], "checks": {}} for each in exchanges]
    recording = msgspec.convert({**about, "exchanges": kept}, type=Recording)
    return msgspec.json.format(msgspec.json.encode(recording), indent=1) + b"\n"
