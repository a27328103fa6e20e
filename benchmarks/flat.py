"""Whether a page costs the same however many merchants are signed in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.browser import Door
from benchmarks.meters import cpu_seconds
from benchmarks.peers import Peer, Provider, peer
from omnifund.encryption import fingerprint

FEW: Final = 100
MANY: Final = 1_000_000

_PAGES: Final = 300
_AT_ONCE: Final = 2000


@dataclass(frozen=True)
class Flatness:
    """CPU milliseconds of a page, round by round, with ``FEW`` and with ``MANY`` sessions.

    ``memory``: Redis's bytes with ``MANY``, as it counts them itself (``used_memory``).
    """

    few: list[float]
    many: list[float]
    memory: int


def page_costs(provider: Provider, rounds: int) -> Flatness:
    """Measure two servers of the app, each with a Redis of its own, in turns."""
    with peer("app", provider) as small, peer("app", provider) as large:
        _fill(small, FEW)
        _fill(large, MANY)
        for each in (small, large):
            _pages(each)
        turns = [(_pages(small), _pages(large)) for _ in range(rounds)]
        with large.valkey.client() as client:
            memory: Any = client.info("memory")
    return Flatness([few for few, _ in turns], [many for _, many in turns], memory["used_memory"])


def _fill(each: Peer, sessions: int) -> None:
    """Put copies of a real session into Redis: the same kinds of keys, values of the same size."""
    with each.door() as server, Door(each.provider.plain_port) as plain:
        each.browser(server, plain).sign_in()
    with each.valkey.client() as client:
        names: Any = client.keys("*")
        pattern = [(name.decode(), client.strlen(name), client.ttl(name)) for name in names]
        for start in range(0, sessions, _AT_ONCE):
            pipeline = client.pipeline(transaction=False)
            for number in range(start, min(start + _AT_ONCE, sessions)):
                for name, size, seconds in pattern:
                    pipeline.set(_copied(name, number), os.urandom(size), ex=seconds)
            pipeline.execute()


def _copied(name: str, number: int) -> str:
    """Return a key's name with another fingerprint in it, in the same place."""
    print_ = fingerprint(str(number))
    if "{" in name:
        before, _, rest = name.partition("{")
        return f"{before}{{{print_}}}{rest.partition('}')[2]}"
    return f"{name.rpartition(':')[0]}:{print_}"


def _pages(each: Peer) -> float:
    with each.door() as server, Door(each.provider.plain_port) as plain:
        browser = each.browser(server, plain)
        browser.sign_in()
        before = cpu_seconds(each.pids)
        for _ in range(_PAGES):
            browser.page("/dashboard")
        return (cpu_seconds(each.pids) - before) * 1000 / _PAGES
