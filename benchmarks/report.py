"""The tables: what was measured, and which targets are met."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from benchmarks import crowds, flat
from benchmarks.costs import API_PAGE, LANDING, PAGE, SAME_PAGE, SIGN_IN, Costs
from benchmarks.crowds import Crowd
from benchmarks.flat import Flatness
from benchmarks.kinds import Found
from benchmarks.peers import PYTHON_PEERS, THREADS


@dataclass(frozen=True)
class Answer:
    """One question with its answer. ``limit``: the most that ``value`` may be, if there is one.

    ``value`` is ``None`` when it was not measured; ``note`` says why, or how it was spread.
    """

    question: str
    value: float | None
    limit: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """``met``, ``not met``, or a dash when there is no telling."""
        if self.value is None or self.limit is None:
            return "–"
        return "met" if round(self.value, 2) <= self.limit else "not met"


# The app's CPU by a peer's. ``granian`` is the app too.
_RATIOS: Final = (
    ("granian", SIGN_IN, "textbook", SIGN_IN, 0.08),
    ("granian", SIGN_IN, "passport", SIGN_IN, 0.9),
    ("granian", SIGN_IN, "passport-safe", SIGN_IN, 0.7),
    ("granian", PAGE, "floor", PAGE, 1.2),
    ("granian", PAGE, "floor", SAME_PAGE, None),
    ("granian", PAGE, "passport-safe", PAGE, 1.0),
    ("granian", API_PAGE, "textbook", API_PAGE, 0.04),
    ("granian", API_PAGE, "passport", API_PAGE, 0.7),
    ("app", SIGN_IN, "textbook", SIGN_IN, 0.12),
    ("app", PAGE, "floor", PAGE, 1.5),
    ("app", PAGE, "floor", SAME_PAGE, None),
)


def answers(
    costs: Costs, failed: dict[str, int], tried: int, versions: Sequence[str] = ("",)
) -> list[Answer]:
    """Answer the questions of the standard part.

    ``tried``: how many requests at expiry. ``versions``: what the names of the Python peers end in,
    for each interpreter.
    """

    def ratio(
        version: str, name: str, operation: str, other: str, theirs: str, limit: float | None
    ) -> Answer:
        against = f"{other}{version}" if other in PYTHON_PEERS else other
        question = f"CPU, {operation}: {name}{version} / {against}"
        if theirs != operation:
            question += f", {theirs}"
        found = costs.ratios(operation, f"{name}{version}", against, theirs)
        if not found:
            return Answer(question, None, limit, "not measured")
        return Answer(question, median(found), limit, f"{min(found):.2f} to {max(found):.2f}")

    def count(what: str, operation: str, limit: float) -> Answer:
        middle = costs.middle("app", operation)
        value = None if middle is None else float(getattr(middle, what))
        return Answer(f"{what.replace('_', ' ').capitalize()}, {operation}", value, limit)

    at_once = f"Failed of {tried} requests, {crowds.AT_EXPIRY} at once at a token's expiry"
    return [
        *(ratio(version, *each) for version in versions for each in _RATIOS),
        count("round_trips", SIGN_IN, 3),
        count("round_trips", PAGE, 1),
        count("round_trips", API_PAGE, 1),
        count("round_trips", LANDING, 0),
        count("handshakes", SIGN_IN, 0),
        count("handshakes", API_PAGE, 0),
        Answer("Bytes of Redis for a session", costs.session_bytes.get("app"), 800),
        *(
            Answer(f"Seconds to the first answer: {name}", median(starts), 0.4)
            for name, starts in costs.starts.items()
            if name.startswith(("app", "granian"))
        ),
        *(
            Answer(f"{at_once}: {name}", each, 0 if name in ("app", "granian") else None)
            for name, each in failed.items()
        ),
    ]


def cost_table(costs: Costs) -> str:
    """Return what every operation cost every peer."""
    rows = []
    for (name, operation), rounds in sorted(
        costs.by_round.items(), key=lambda item: (list(_ORDER).index(item[0][1]), item[0][0])
    ):
        middle = costs.middle(name, operation)
        if middle is None:
            continue
        lowest, highest = min(c.cpu_ms for c in rounds), max(c.cpu_ms for c in rounds)
        rows.append(
            (
                operation,
                name,
                f"{middle.cpu_ms:.2f}",
                f"{lowest:.2f} to {highest:.2f}",
                *(f"{n:.2f}" for n in (middle.commands, middle.round_trips, middle.handshakes)),
            )
        )
    heads = (
        *("operation", "peer", "CPU ms", "lowest to highest"),
        *("Redis commands", "round trips", "TLS handshakes"),
    )
    return table(heads, rows)


_ORDER = (SIGN_IN, PAGE, SAME_PAGE, API_PAGE, LANDING)


def server_table(costs: Costs) -> str:
    """Return what every peer takes while it runs."""
    rows = [
        (
            name,
            f"{median(starts):.2f}",
            f"{costs.resident_bytes[name] / 1e6:.0f}",
            *(
                f"{found[name]:.0f}" if name in found else "–"
                for found in (costs.session_bytes, costs.sign_in_bytes)
            ),
        )
        for name, starts in costs.starts.items()
    ]
    heads = ("peer", "seconds to the first answer", "RSS, MB", "bytes of a session", "at first")
    return table(heads, rows)


def answer_table(found: Iterable[Answer]) -> str:
    """Return the questions with their answers, targets and verdicts."""
    rows = [
        (
            each.question,
            "–" if each.value is None else f"{each.value:.2f}".removesuffix(".00"),
            "–" if each.limit is None else f"at most {each.limit:g}",
            each.verdict,
            each.note,
        )
        for each in found
    ]
    return table(("question", "measured", "target", "verdict", "spread or reason"), rows)


def crowd_table(found: dict[str, Crowd]) -> str:
    """Return how the crowds fared, beside what the threads could do if CPU were free."""
    most = crowds.WORKERS * THREADS / crowds.LATENCY
    rows = [
        (
            name,
            f"{crowd.throughput:.0f} of {most:.0f}",
            f"{crowd.percentile(50):.2f}",
            f"{crowd.percentile(99):.2f}",
            str(crowd.failed),
        )
        for name, crowd in found.items()
    ]
    heads = ("peer", "sign-ins a second, of at most", "median, s", "p99, s", "failed")
    return table(heads, rows)


def kind_table(found: dict[str, Found]) -> str:
    """Return what each kind of worker costs, and what a crowd gets of it."""
    rows = [
        (
            kind,
            f"{each.page:.2f}",
            f"{each.sign_in:.2f}",
            f"{each.crowd.throughput:.0f}",
            f"{each.crowd.percentile(99):.2f}",
            str(each.crowd.failed),
        )
        for kind, each in found.items()
    ]
    heads = (
        *("worker", "CPU ms, page", "CPU ms, sign-in"),
        *("crowd: sign-ins a second", "p99, s", "failed"),
    )
    return table(heads, rows)


def flat_answers(found: Flatness) -> list[Answer]:
    """Answer whether the number of sessions matters."""
    ratios = [after / before for before, after in zip(found.few, found.many, strict=True)]
    return [
        Answer(f"CPU ms, signed-in page, {flat.FEW:,} sessions", median(found.few)),
        Answer(f"CPU ms, signed-in page, {flat.MANY:,} sessions", median(found.many)),
        Answer(f"Redis's memory with {flat.MANY:,} sessions, MB", found.memory / 1e6),
        Answer(
            f"CPU, signed-in page: {flat.MANY:,} sessions / {flat.FEW:,}",
            median(ratios),
            1.1,
            f"{min(ratios):.2f} to {max(ratios):.2f}",
        ),
    ]


def machine() -> str:
    """Return on what this was measured."""
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )


def costs_as_json(costs: Costs) -> dict[str, Any]:
    """Return everything that was measured, for a machine to read."""
    by_peer: dict[str, dict[str, list[dict[str, float]]]] = {}
    for (name, operation), rounds in costs.by_round.items():
        by_peer.setdefault(name, {})[operation] = [asdict(cost) for cost in rounds]
    return {
        "rounds": by_peer,
        "session_bytes": costs.session_bytes,
        "sign_in_bytes": costs.sign_in_bytes,
        "resident_bytes": costs.resident_bytes,
        "seconds_to_first_answer": costs.starts,
    }


def answers_as_json(found: Iterable[Answer]) -> list[dict[str, Any]]:
    """Return questions, answers and verdicts, for a machine to read."""
    return [{**asdict(each), "verdict": each.verdict} for each in found]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table that reads well as plain text too."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| "
        + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )
