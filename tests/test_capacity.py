"""The arithmetic of docs/capacity.md, done again."""

from __future__ import annotations

import math
import re

import pytest

from tests.support.servers import REPOSITORY

TEXT = (REPOSITORY / "docs" / "capacity.md").read_text()


def figure(name: str) -> float:
    found = re.search(rf"^\| {re.escape(name)} \| ([\d.]+)", TEXT, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def rows(columns: int) -> dict[int, list[str]]:
    """The rows of the table with so many columns, by sign-ins per second."""
    found = {}
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == columns and re.fullmatch(r"[\d,]+", cells[0]):
            found[int(cells[0].replace(",", ""))] = cells[1:]
    assert sorted(found) == [1, 100, 10_000]
    return found


PAGES = figure("pages with an API call per sign-in")
MILLISECONDS = figure("CPU of a sign-in (login, callback, page)") + PAGES * figure(
    "CPU of a page with an API call"
)
COMMANDS = figure("Redis commands of a sign-in") + PAGES * figure("Redis commands of a page")
WAITING = (1 + PAGES) * figure("OmniFund's time for a token or a page of the API")
BUSY = figure("busy at most") / 100
SESSION_SECONDS = figure("a session lives, since its last page,")
CORES = MILLISECONDS / 1000 / BUSY
THREADS = WAITING / BUSY


def test_the_cost_of_one_sign_in() -> None:
    for result in (f"{MILLISECONDS:.1f} ms", f"{COMMANDS:.0f} commands", f"{WAITING:.1f} thread"):
        assert f"= **{result}" in TEXT


@pytest.mark.parametrize("rate", [1, 100, 10_000])
def test_the_machines_suffice(rate: int) -> None:
    """Also when one of them has failed."""
    needed = [
        *(rate * CORES, rate * THREADS, rate * COMMANDS, rate * SESSION_SECONDS),
        rate * SESSION_SECONDS * figure("Redis memory of a session") / 1e9,
    ]
    told = [float(re.sub(r"[^\d.]", "", cell)) for cell in rows(6)[rate]]
    assert told == pytest.approx(needed, rel=0.05)
    servers, workers, _redis = rows(4)[rate]
    count, cores = map(int, re.findall(r"\d+", servers)[:2])
    processes, threads = map(int, re.findall(r"\d+", workers))
    assert (count - 1) * cores >= math.floor(needed[0])
    assert (count - 1) * processes * threads >= needed[1] * BUSY
    assert processes * threads * count >= needed[1]
