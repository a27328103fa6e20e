"""`make bench` works, and what it counts is exact. No time is looked at here."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.servers import REPOSITORY

SIGN_IN, PAGE, SAME_PAGE, API_PAGE, LANDING = OPERATIONS = (
    "sign-in (login, callback, page)",
    "signed-in page",
    "the same page, bare",
    "page with an API call",
    "landing page for a stranger",
)


@dataclass(frozen=True)
class Run:
    """What a run has printed, and what it has written."""

    printed: str
    data: Any


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The smallest run there is."""
    file = tmp_path_factory.mktemp("bench") / "measured.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--smallest"),
            *("--peers", "app", "floor", "passport-safe", "--json", str(file)),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Run(done.stdout, json.loads(file.read_text()))


def test_the_tables_have_their_rows(run: Run) -> None:
    firsts = {line.split("|")[1].strip() for line in run.printed.splitlines() if "|" in line}
    assert firsts >= {"operation", *OPERATIONS, "peer", "app", "floor", "question"}


def test_what_was_not_measured_is_said(run: Run) -> None:
    (row,) = (
        line for line in run.printed.splitlines() if "app / textbook" in line and SIGN_IN in line
    )
    assert [cell.strip() for cell in row.split("|")][2:6] == [
        "–",
        "at most 0.12",
        "–",
        "not measured",
    ]


def test_nothing_fails_at_a_tokens_expiry(run: Run) -> None:
    failed = {
        each["question"].rpartition(" ")[2]: (each["value"], each["verdict"])
        for each in run.data["answers"]
        if each["question"].startswith("Failed")
    }
    assert failed == {"app": (0, "met"), "passport-safe": (0, "–")}


@pytest.mark.parametrize(
    ("peer", "operation", "commands", "round_trips"),
    [
        ("app", SIGN_IN, 12, 3),
        ("app", PAGE, 2, 1),
        ("app", API_PAGE, 2, 1),
        ("app", LANDING, 0, 0),
        ("floor", PAGE, 1, 1),
        ("floor", SAME_PAGE, 1, 1),
    ],
)
def test_each_operation_is_counted_exactly(
    run: Run, peer: str, operation: str, commands: int, round_trips: int
) -> None:
    (cost,) = run.data["costs"]["rounds"][peer][operation]
    assert cost["cpu_ms"] > 0
    assert (cost["commands"], cost["round_trips"], cost["handshakes"]) == (commands, round_trips, 0)
