"""Many merchants at the same moment: at a token's expiry, and at a slow provider."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from benchmarks.browser import Door, WrongAnswer
from benchmarks.peers import Peer, Provider, peer

REFRESHING: Final = ("app", "granian", "textbook", "passport", "passport-safe")
AT_EXPIRY: Final = 50
MERCHANTS: Final = 500
LATENCY: Final = 0.3
WORKERS: Final = 2

_FAILURES: Final = (WrongAnswer, OSError)


def failures_at_expiry(provider: Provider, names: Iterable[str], rounds: int) -> dict[str, int]:
    """Return how many of ``rounds`` times ``AT_EXPIRY`` requests failed, by peer.

    They all come at the same moment, with one session whose access token has just expired.
    """
    failed = dict.fromkeys(names, 0)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(peer(name, provider)) for name in failed]
        for _ in range(rounds):
            for each in peers:
                failed[each.name] += _expire_once(each)
    return failed


def _expire_once(each: Peer) -> int:
    control = each.provider.control
    with each.door() as server, Door(each.provider.plain_port) as plain:
        control.set(expires_in=1)
        owner = each.browser(server, plain)
        owner.connect()
        control.set()
        # The one wait for time to pass: the peers have no clock that could be moved.
        time.sleep(1.1)

    def visit(door: Door) -> None:
        with Door(each.provider.plain_port) as plain:
            browser = each.browser(door, plain)
            browser.cookies = dict(owner.cookies)
            browser.page("/customers")

    return sum(seconds is None for seconds in _at_once(each, AT_EXPIRY, visit))


@dataclass
class Crowd:
    """How a crowd fared: ``seconds`` that each sign-in took, how many failed, how long it took."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    elapsed: float = 0

    def add(self, seconds: list[float | None], elapsed: float) -> None:
        """Add what ``_at_once`` has returned, and how long that took in all."""
        self.elapsed += elapsed
        self.seconds += [each for each in seconds if each is not None]
        self.failed += seconds.count(None)

    @property
    def throughput(self) -> float:
        """Sign-ins in a second."""
        return len(self.seconds) / self.elapsed

    def percentile(self, percent: int) -> float:
        """The time, in seconds, within which so many per cent of the sign-ins were done."""
        ordered = sorted(self.seconds) or [float("nan")]
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def crowds(provider: Provider, names: Iterable[str], rounds: int) -> dict[str, Crowd]:
    """Let ``MERCHANTS`` sign in at the same moment while a token takes ``LATENCY`` seconds.

    Each peer is a gunicorn with ``WORKERS`` workers of ``THREADS`` threads.
    """
    found = {name: Crowd() for name in names}
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(peer(name, provider, workers=WORKERS)) for name in found]
        for each in peers:
            with each.door() as server, Door(provider.plain_port) as plain:
                each.browser(server, plain).sign_in()
        provider.control.set(latency=LATENCY)
        for _ in range(rounds):
            for each in peers:
                crowd(each, MERCHANTS, found[each.name])
        provider.control.set()
    return found


def crowd(each: Peer, merchants: int, into: Crowd | None = None) -> Crowd:
    """Let so many merchants sign in at once; return how they fared, added to ``into``."""
    into = into or Crowd()
    with Door(each.provider.plain_port) as plain:
        started = time.perf_counter()
        times = _at_once(each, merchants, lambda door: each.browser(door, plain).sign_in())
        into.add(times, time.perf_counter() - started)
    return into


def _at_once(each: Peer, count: int, act: Callable[[Door], None]) -> list[float | None]:
    """Do the same so many times at the same moment; return seconds, or ``None`` where it failed."""
    gate = threading.Barrier(count)

    def one(_number: int) -> float | None:
        with each.door() as door:
            gate.wait()
            started = time.perf_counter()
            try:
                act(door)
            except _FAILURES:
                return None
            return time.perf_counter() - started

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
