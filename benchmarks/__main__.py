"""``make bench``: measure the app beside its peers and print tables. ``--help`` says what else."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks import costs, crowds, flat, kinds, report
from benchmarks.peers import (
    PEERS,
    PYTHON_PEERS,
    THREADS,
    Provider,
    install_python,
    provider,
)

_INNER: Final = Path(__file__).with_name("test_inner.py")


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for and print it; return 0."""
    options = _options(arguments)
    if options.inner:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", str(_INNER)]
        ).returncode
    with provider() as running:
        section: Callable[[Provider, argparse.Namespace], Result] = _standard
        if options.crowd:
            section = _crowd
        elif options.flat:
            section = _flat
        elif options.kinds:
            section = _kinds
        text, data = section(running, options)
    data["machine"] = report.machine()
    print(f"{text}\n\nMeasured on {data['machine']}.")
    if options.json:
        options.json.write_text(json.dumps(data, indent=1))
    return 0


Result = tuple[str, dict[str, Any]]


def _standard(running: Provider, options: argparse.Namespace) -> Result:
    effort = costs.STANDARD
    if options.quick or options.smallest:
        effort = costs.QUICK if options.quick else costs.SMALLEST
    names = list(options.peers)
    others = [""]
    if options.python:
        _say(f"an environment of {options.python} ...")
        version = install_python(options.python)
        names += [f"{name} {version}" for name in names if name in PYTHON_PEERS]
        others.append(f" {version}")
    _say(f"{effort.rounds} rounds with {', '.join(names)} ...")
    measured = costs.measure_costs(running, names, effort)
    refreshing = [name for name in options.peers if name in crowds.REFRESHING]
    rounds = 1 if options.quick or options.smallest else 3
    _say("tokens that expire ...")
    failed = crowds.failures_at_expiry(running, refreshing, rounds)
    found = report.answers(measured, failed, rounds * crowds.AT_EXPIRY, others)
    tables = (
        report.cost_table(measured),
        report.server_table(measured),
        report.answer_table(found),
    )
    data = {"costs": report.costs_as_json(measured), "answers": report.answers_as_json(found)}
    return "\n\n".join(tables), data


def _crowd(running: Provider, options: argparse.Namespace) -> Result:
    names = [name for name in options.peers if name in ("app", "granian", "textbook")]
    rounds = 1 if options.quick else 3
    _say(
        f"{rounds} times {crowds.MERCHANTS} merchants at once, {crowds.WORKERS} workers of "
        f"{THREADS} threads, a token takes {crowds.LATENCY} s ..."
    )
    found = crowds.crowds(running, names, rounds)
    data = {
        name: {
            "sign_ins_a_second": crowd.throughput,
            "median_seconds": crowd.percentile(50),
            "p99_seconds": crowd.percentile(99),
            "failed": crowd.failed,
        }
        for name, crowd in found.items()
    }
    return report.crowd_table(found), data


def _flat(running: Provider, options: argparse.Namespace) -> Result:
    _say(f"{flat.MANY:,} sessions go into Redis ...")
    found = report.flat_answers(flat.page_costs(running, 3 if options.quick else 9))
    return report.answer_table(found), {"answers": report.answers_as_json(found)}


def _kinds(running: Provider, options: argparse.Namespace) -> Result:
    _say(f"one worker of each kind; then {kinds.MERCHANTS} merchants at once ...")
    found = kinds.compare(running, 3 if options.quick else 9)
    data = {
        kind: {"page_cpu_ms": each.page, "sign_in_cpu_ms": each.sign_in}
        for kind, each in found.items()
    }
    return report.kind_table(found), data


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer rounds of fewer operations")
    size.add_argument("--smallest", action="store_true", help="one round: exact counts, no times")
    section = parser.add_mutually_exclusive_group()
    section.add_argument(
        "--crowd", action="store_true", help="500 sign-ins at once at a slow provider"
    )
    section.add_argument("--flat", action="store_true", help="a page with 1,000,000 sessions")
    section.add_argument("--kinds", action="store_true", help="gunicorn's kinds of workers")
    section.add_argument("--inner", action="store_true", help="the hot inner functions")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS, help="only these")
    parser.add_argument(
        "--python",
        type=Path,
        metavar="INTERPRETER",
        help="measure the Python peers with this interpreter too",
    )
    parser.add_argument("--json", type=Path, help="a file for all of it, every round in it")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
