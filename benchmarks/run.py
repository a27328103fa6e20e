"""``make bench``: measure the app beside its peers, and print one table.

``ARGS=--quick`` is a look, ``ARGS=--json`` prints JSON; the sections ``costs``, ``expiry``,
``crowd`` and ``flat`` may be named to run them alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.meters import Cost, cpu_seconds, measure, resident_bytes
from benchmarks.peers import Authority, Browser, Peer, install_passport, running

SECTIONS: Final = ("costs", "expiry", "crowd", "flat")


@dataclass(frozen=True)
class Effort:
    """How much is done: rounds, operations in a round, and so on."""

    rounds: int
    operations: int
    warm_up: int
    sessions: int
    crowd: int
    many_sessions: int


FULL: Final = Effort(
    rounds=7, operations=200, warm_up=60, sessions=1000, crowd=500, many_sessions=200_000
)
QUICK: Final = Effort(rounds=1, operations=20, warm_up=5, sessions=50, crowd=20, many_sessions=1000)


@dataclass(frozen=True)
class Row:
    """One line of the table. ``target`` is empty where there is none, ``met`` then ``None``."""

    what: str
    values: dict[str, str]
    target: str = ""
    met: bool | None = None


# --- costs -------------------------------------------------------------------------------------


def costs(authority: Authority, effort: Effort, passport: bool) -> list[Row]:
    """CPU, round trips, handshakes, memory and cold start of each peer, in turns."""
    names = ["app", "textbook", "floor", *(["passport"] if passport else [])]
    with contextlib.ExitStack() as stack:
        peers = {name: stack.enter_context(running(name, authority)) for name in names}
        taken: dict[tuple[str, str], list[Cost]] = {}
        operations = {name: _operations(peer) for name, peer in peers.items()}
        for name in names:
            for operation in operations[name].values():
                for _ in range(effort.warm_up):
                    operation()
        for _ in range(effort.rounds):
            # In turns, so that a noisy moment of the machine strikes all of them.
            for kind in ("sign-in", "page", "API page", "landing"):
                for name in names:
                    if kind in operations[name]:
                        cost = measure(peers[name], operations[name][kind], effort.operations)
                        taken.setdefault((name, kind), []).append(cost)
        middle = {key: _median(found) for key, found in taken.items()}
        sizes = {
            name: measure(peer, lambda peer=peer: peer.browser().sign_in(), effort.sessions)
            for name, peer in peers.items()
            if name != "floor"
        }
        return [
            *_cpu_rows(middle, names),
            *_count_rows(middle, names, sizes),
            _row(
                "resident memory",
                {n: f"{resident_bytes(p) / 2**20:.0f} MB" for n, p in peers.items()},
            ),
            _row(
                "cold start to first answer", {n: f"{p.cold_start:.2f} s" for n, p in peers.items()}
            ),
        ]


def _operations(peer: Peer) -> dict[str, Callable[[], object]]:
    stranger = peer.browser()
    operations: dict[str, Callable[[], object]] = {"landing": lambda: _open(stranger, "/")}
    merchant = peer.browser()
    if peer.name != "floor":
        merchant.sign_in()
        operations["sign-in"] = lambda: peer.browser().sign_in()
        operations["API page"] = lambda: _open(merchant, "/customers")
    else:
        merchant.cookies["session"] = "x"
    operations["page"] = lambda: _open(merchant, "/dashboard")
    return operations


def _open(browser: Browser, path: str) -> None:
    status, _ = browser.get(path)
    if status != 200:
        raise RuntimeError(f"{browser.peer.name} {path}: {status}")


def _median(found: list[Cost]) -> Cost:
    return Cost(
        *(statistics.median(values) for values in zip(*(asdict(each).values() for each in found)))
    )


def _cpu_rows(middle: dict[tuple[str, str], Cost], names: list[str]) -> list[Row]:
    rows = []
    for kind, what in (
        ("sign-in", "CPU of a sign-in (login, callback, page)"),
        ("page", "CPU of a signed-in page"),
        ("API page", "CPU of a page with an API call"),
        ("landing", "CPU of the landing page, for a stranger"),
    ):
        values = {n: f"{middle[n, kind].cpu:.2f} ms" for n in names if (n, kind) in middle}
        rows.append(_row(what, values))

    def ratio(what: str, kind: str, other: str, limit: float) -> Row:
        found = middle["app", kind].cpu / middle[other, kind].cpu
        return Row(what, {"app": f"{found:.3f}"}, f"≤ {limit:g}", found <= limit)

    rows.append(ratio("sign-in ÷ textbook's", "sign-in", "textbook", 0.10))
    if "passport" in names:
        rows.append(ratio("sign-in ÷ Passport's", "sign-in", "passport", 1.0))
    rows.append(ratio("page ÷ the floor", "page", "floor", 1.1))
    rows.append(ratio("API page ÷ textbook's", "API page", "textbook", 0.05))
    return rows


def _count_rows(
    middle: dict[tuple[str, str], Cost], names: list[str], sizes: dict[str, Cost]
) -> list[Row]:
    rows = []
    for kind, what, limit in (
        ("sign-in", "Redis round trips of a sign-in", 3),
        ("page", "Redis round trips of a page", 1),
        ("API page", "Redis round trips of an API page", 2),
        ("landing", "Redis round trips of the landing page", 0),
    ):
        values = {n: f"{middle[n, kind].round_trips:.2f}" for n in names if (n, kind) in middle}
        met = middle["app", kind].round_trips <= limit
        rows.append(Row(what, values, f"≤ {limit}", met))
    commands = {n: f"{middle[n, 'sign-in'].commands:.1f}" for n in names if n != "floor"}
    rows.append(_row("Redis commands of a sign-in", commands))
    handshakes = {n: middle[n, "sign-in"].handshakes for n in names if n != "floor"}
    rows.append(
        Row(
            "TLS handshakes of a sign-in",
            {n: f"{count:.2f}" for n, count in handshakes.items()},
            "0",
            handshakes["app"] == 0,
        )
    )
    size = {n: f"{cost.redis_bytes:.0f}" for n, cost in sizes.items()}
    rows.append(Row("Redis bytes of a session", size, "≤ 700", sizes["app"].redis_bytes <= 700))
    return rows


def _row(what: str, values: dict[str, str]) -> Row:
    return Row(what, values)


# --- fifty requests as the token expires --------------------------------------------------------


def expiry(authority: Authority, effort: Effort, passport: bool) -> list[Row]:
    """Fail of fifty simultaneous requests of one merchant, just when the token has expired."""
    failed = {}
    # Both the app and Authlib refresh a minute before the end: this token lives for a second.
    for name in ("app", "textbook"):
        with running(name, authority, expires_in=61, workers=2) as peer:
            merchant = peer.browser()
            merchant.sign_in()
            time.sleep(2)
            failed[name] = sum(status != 200 for status in _at_once(merchant, "/customers", 50))
    values = {name: f"{count} of 50" for name, count in failed.items()}
    return [Row("requests that fail at expiry", values, "0", failed["app"] == 0)]


def _at_once(merchant: Browser, path: str, count: int) -> list[int]:
    def visit(_number: int) -> int:
        browser = merchant.peer.browser(alone=True)
        browser.cookies = dict(merchant.cookies)
        try:
            return browser.get(path)[0]
        finally:
            browser.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(visit, range(count)))


# --- a crowd -------------------------------------------------------------------------------------


def crowd(authority: Authority, effort: Effort, passport: bool) -> list[Row]:
    """Many merchants signing in at once, with a provider that takes 300 ms for each token."""
    with running("app", authority, delay=0.3, workers=2) as peer:
        cpu = cpu_seconds(peer)

        def visit(_number: int) -> float | None:
            browser = peer.browser(alone=True)
            begun = time.perf_counter()
            try:
                browser.sign_in()
            except (OSError, RuntimeError):
                return None
            finally:
                browser.close()
            return time.perf_counter() - begun

        started = time.perf_counter()
        with ThreadPoolExecutor(effort.crowd) as pool:
            taken = list(pool.map(visit, range(effort.crowd)))
        seconds = time.perf_counter() - started
        cpu = cpu_seconds(peer) - cpu
    good = sorted(each for each in taken if each is not None)
    errors = len(taken) - len(good)
    return [
        Row(f"{effort.crowd} merchants at once: errors", {"app": str(errors)}, "0", errors == 0),
        _row("sign-ins a second (2 workers, 16 threads)", {"app": f"{len(good) / seconds:.0f}"}),
        _row("the slowest of a hundred (p99)", {"app": f"{good[int(len(good) * 0.99)]:.1f} s"}),
        _row("CPU in use meanwhile", {"app": f"{cpu / seconds:.2f} cores"}),
    ]


# --- many sessions -------------------------------------------------------------------------------


def flat(authority: Authority, effort: Effort, passport: bool) -> list[Row]:
    """The same page with few and with many sessions in Redis."""
    with running("app", authority) as peer:
        merchant = peer.browser()
        for _ in range(100):
            merchant = peer.browser()
            merchant.sign_in()

        def page() -> None:
            _open(merchant, "/dashboard")

        few, many = [], []
        measure(peer, page, effort.operations)
        few = [measure(peer, page, effort.operations).cpu for _ in range(effort.rounds)]
        _fill(peer, effort.many_sessions)
        many = [measure(peer, page, effort.operations).cpu for _ in range(effort.rounds)]
    less, more = statistics.median(few), statistics.median(many)
    return [
        _row("CPU of a page with 100 sessions", {"app": f"{less:.2f} ms"}),
        _row(f"CPU of a page with {effort.many_sessions:,} sessions", {"app": f"{more:.2f} ms"}),
    ]


def _fill(peer: Peer, count: int) -> None:
    """Copy sessions as they are: what Redis does does not depend on whether they can be opened."""
    samples = [(key, peer.redis.get(key)) for key in peer.redis.keys("omnifund:{*")[:2]]
    pipeline = peer.redis.pipeline(transaction=False)
    for number in range(count):
        for key, value in samples:
            kind = key.rpartition(b":")[2].decode()
            pipeline.set(f"omnifund:{{copy-{number}}}:{kind}", value, ex=1800)
        if number % 5000 == 4999:
            pipeline.execute()
    pipeline.execute()


# --- the table -----------------------------------------------------------------------------------

RUN: Final[dict[str, Callable[[Authority, Effort, bool], list[Row]]]] = {
    "costs": costs,
    "expiry": expiry,
    "crowd": crowd,
    "flat": flat,
}


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    peers = [
        n for n in ("app", "textbook", "passport", "floor") if any(n in r.values for r in rows)
    ]
    lines = [["", *peers, "target", ""]]
    for row in rows:
        verdict = {True: "met", False: "NOT MET", None: ""}[row.met]
        lines.append([row.what, *(row.values.get(n, "") for n in peers), row.target, verdict])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * max(3, width) for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
        for line in lines
    )


def main(arguments: list[str]) -> int:
    """Measure and print; return 0."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--without-node", action="store_true", help="leave Passport out")
    chosen = parser.parse_args(arguments)
    problem = "it was not wanted" if chosen.without_node else install_passport()
    if problem:
        print(f"Passport is not measured: {problem}.", file=sys.stderr)
    effort = QUICK if chosen.quick else FULL
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        authority = Authority.make(Path(folder))
        for section in chosen.sections or SECTIONS:
            rows += RUN[section](authority, effort, problem is None)
    print(_as_json(rows) if chosen.json else table(rows))
    return 0


def _as_json(rows: list[Row]) -> str:
    found: list[dict[str, Any]] = [asdict(row) for row in rows]
    return json.dumps(found, indent=2, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
