"""What one operation costs each peer: rounds in which every peer does every operation in turn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from benchmarks.browser import Browser, Door
from benchmarks.meters import Cost, measure, resident_bytes
from benchmarks.peers import Peer, Provider, peer
from omnifund.authorization import CLOCK_SKEW_SECONDS, PENDING_SECONDS

SIGN_IN: Final = "sign-in (login, callback, page)"
PAGE: Final = "signed-in page"
SAME_PAGE: Final = "the same page, bare"
API_PAGE: Final = "page with an API call"
LANDING: Final = "landing page for a stranger"

_DOES: Final[Mapping[str, tuple[str, ...]]] = {
    "app": (SIGN_IN, PAGE, API_PAGE, LANDING),
    "granian": (SIGN_IN, PAGE, API_PAGE, LANDING),
    "textbook": (SIGN_IN, PAGE, API_PAGE, LANDING),
    "floor": (PAGE, SAME_PAGE),
    "passport": (SIGN_IN, PAGE, API_PAGE, LANDING),
    "passport-safe": (SIGN_IN, PAGE, API_PAGE, LANDING),
}
_PATHS: Final = {PAGE: "/dashboard", SAME_PAGE: "/same-page", API_PAGE: "/customers"}
_OPERATIONS: Final = (SIGN_IN, PAGE, SAME_PAGE, API_PAGE, LANDING)


@dataclass(frozen=True)
class Effort:
    """How much is measured. ``sign_ins`` and ``pages``: how many in a round.

    ``heavy``: how many of the textbook's operations that make a TLS connection; each takes so much
    CPU that few of them say as much as many of the others.
    """

    rounds: int
    sign_ins: int
    pages: int
    heavy: int
    warm_up: int
    starts: int

    def count(self, kind: str, operation: str) -> int:
        """Return how often such a peer does an operation in one round."""
        if kind == "textbook" and operation in (SIGN_IN, API_PAGE):
            return self.heavy
        return self.sign_ins if operation == SIGN_IN else self.pages


STANDARD: Final = Effort(rounds=9, sign_ins=100, pages=200, heavy=40, warm_up=20, starts=3)
QUICK: Final = Effort(rounds=3, sign_ins=20, pages=40, heavy=5, warm_up=4, starts=1)
SMALLEST: Final = Effort(rounds=1, sign_ins=4, pages=8, heavy=2, warm_up=2, starts=1)


@dataclass
class Costs:
    """What was measured, by peer and operation: one ``Cost`` for each round.

    ``session_bytes``: of Redis for each signed-in session, all keys together; ``sign_in_bytes``:
    with what makes its sign-in single-use, for as long as an authorization request is valid.
    ``resident_bytes``: RSS of the serving process after all of it. ``starts``: seconds to the first
    answer.
    """

    by_round: dict[tuple[str, str], list[Cost]] = field(default_factory=dict)
    session_bytes: dict[str, float] = field(default_factory=dict)
    sign_in_bytes: dict[str, float] = field(default_factory=dict)
    resident_bytes: dict[str, int] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)

    def ratios(self, operation: str, name: str, other: str, theirs: str = "") -> list[float]:
        """Return CPU of ``name`` by CPU of ``other``, round by round.

        ``theirs``: the other's operation, if it is another one. Empty when either was not measured.
        """
        pairs = zip(
            self.by_round.get((name, operation), []),
            self.by_round.get((other, theirs or operation), []),
            strict=False,
        )
        return [mine.cpu_ms / yours.cpu_ms for mine, yours in pairs]

    def middle(self, name: str, operation: str) -> Cost | None:
        """Return the median cost, or ``None`` when it was not measured."""
        costs = self.by_round.get((name, operation))
        if not costs:
            return None
        return Cost(
            cpu_ms=median(cost.cpu_ms for cost in costs),
            commands=median(cost.commands for cost in costs),
            round_trips=median(cost.round_trips for cost in costs),
            handshakes=median(cost.handshakes for cost in costs),
        )


def measure_costs(provider: Provider, names: Iterable[str], effort: Effort) -> Costs:
    """Start the peers, measure, and stop them."""
    result = Costs()
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(peer(name, provider)) for name in names]
        for each in peers:
            result.starts[each.name] = [each.started_in]
            warm_up(each, effort.warm_up)
        for _ in range(effort.rounds):
            for operation in _OPERATIONS:
                for each in (each for each in peers if operation in _DOES[each.kind]):
                    count = effort.count(each.kind, operation)
                    cost = measure_one(each, operation, count)
                    result.by_round.setdefault((each.name, operation), []).append(cost)
        for each in peers:
            result.resident_bytes[each.name] = resident_bytes(each.pids)
            # Every sign-in of the rounds is a session, and each page's round has one of its own.
            if sessions := _sessions(each.kind, effort):
                result.sign_in_bytes[each.name] = each.store.stored_bytes() / sessions
                lasting = each.store.stored_bytes(beyond=PENDING_SECONDS + CLOCK_SKEW_SECONDS)
                result.session_bytes[each.name] = lasting / sessions
    for name in names:
        for _ in range(effort.starts - 1):
            with peer(name, provider) as again:
                result.starts[name].append(again.started_in)
    return result


def _sessions(kind: str, effort: Effort) -> int:
    if SIGN_IN not in _DOES[kind]:
        return 0
    pages = sum(operation in _PATHS for operation in _DOES[kind])
    return effort.rounds * (effort.count(kind, SIGN_IN) + pages)


def warm_up(each: Peer, times: int) -> None:
    """Make every connection, compile every template, fill every cache; then forget the sessions."""
    # V8 goes on compiling for hundreds of requests; it is measured at its best.
    times = times * 25 if each.kind.startswith("passport") else times
    for operation in _DOES[each.kind]:
        with _ready(each, operation) as act:
            for _ in range(times):
                act()
    each.valkey.flush()


def measure_one(each: Peer, operation: str, count: int) -> Cost:
    """Return what an operation costs a peer, on average of ``count``."""
    with _ready(each, operation) as act:
        return measure(each.pids, each.store, each.provider.control, count, act)


@contextlib.contextmanager
def _ready(each: Peer, operation: str) -> Iterator[Callable[[], object]]:
    """Do what comes before the operation and is not measured; yield the operation itself."""
    # A connection of its own: the last one has been closed while others had their turn.
    with each.door() as server, Door(each.provider.plain_port) as plain:
        browser = each.browser(server, plain)
        if operation == SIGN_IN:
            yield lambda: each.browser(server, plain).sign_in()
        elif operation == LANDING:
            yield lambda: each.browser(server, plain).page("/")
        else:
            if SIGN_IN in _DOES[each.kind]:
                browser.sign_in()
            yield _opening(browser, _PATHS[operation])


def _opening(browser: Browser, path: str) -> Callable[[], object]:
    return lambda: browser.page(path)
