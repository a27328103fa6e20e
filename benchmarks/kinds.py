"""The app under gunicorn's kinds of workers: what a page costs, and what a crowd gets."""

from __future__ import annotations

import contextlib
from statistics import median
from typing import Final, NamedTuple

from benchmarks.costs import PAGE, SIGN_IN, measure_one, warm_up
from benchmarks.crowds import LATENCY, Crowd, crowd
from benchmarks.peers import Provider, peer

KINDS: Final[dict[str, tuple[str, ...]]] = {
    "sync": ("-k", "sync", "--threads", "1"),
    "gthread, 4 threads": ("-k", "gthread", "--threads", "4"),
    "gthread, 16 threads": ("-k", "gthread", "--threads", "16"),
    "gthread, 32 threads": ("-k", "gthread", "--threads", "32"),
    "gthread, 64 threads": ("-k", "gthread", "--threads", "64"),
    "gthread, 96 threads": ("-k", "gthread", "--threads", "96"),
}
MERCHANTS: Final = 100
_PAGES: Final = 150
_SIGN_INS: Final = 50


class Found(NamedTuple):
    """One kind: CPU milliseconds (medians of the rounds), and how ``MERCHANTS`` at once fared."""

    page: float
    sign_in: float
    crowd: Crowd


def compare(provider: Provider, rounds: int) -> dict[str, Found]:
    """Measure one worker of each kind, in turns."""
    costs: dict[tuple[str, str], list[float]] = {}
    crowds: dict[str, Crowd] = {}
    with contextlib.ExitStack() as stack:
        peers = {
            kind: stack.enter_context(peer("app", provider, arguments=arguments))
            for kind, arguments in KINDS.items()
        }
        for each in peers.values():
            warm_up(each, 20)
        for _ in range(rounds):
            for operation, count in ((PAGE, _PAGES), (SIGN_IN, _SIGN_INS)):
                for kind, each in peers.items():
                    cost = measure_one(each, operation, count)
                    costs.setdefault((kind, operation), []).append(cost.cpu_ms)
        provider.control.set(latency=LATENCY)
        for kind, each in peers.items():
            crowds[kind] = crowd(each, MERCHANTS)
        provider.control.set()
    return {
        kind: Found(median(costs[kind, PAGE]), median(costs[kind, SIGN_IN]), crowds[kind])
        for kind in KINDS
    }
