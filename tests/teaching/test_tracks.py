"""The picture of five tabs: drawn from the recordings of what the five requests really did."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from demo import tracks
from demo.recorder import Exchange, Recording
from tests.support.browsing import Page
from tests.support.merchant import Merchant
from tests.support.slow_refresh import SlowRefresh
from tests.support.stack import running_stack


@pytest.fixture
def slow_refresh(monkeypatch: pytest.MonkeyPatch) -> SlowRefresh:
    return SlowRefresh(monkeypatch)


@pytest.fixture
def merchant(redis_url: str) -> Iterator[Merchant]:
    with running_stack(redis_url, fault_pace=0.1) as stack:
        merchant = Merchant(stack)
        merchant.sign_in()
        yield merchant


def open_tabs(
    merchant: Merchant, slow_refresh: SlowRefresh, numbers: range = range(1, 6)
) -> list[Page]:
    """Open the links of the page at the same moment, as five tabs do."""
    slow_refresh.race(len(numbers))

    def visit(number: int) -> Page:
        with merchant.copy() as tab:
            return tab.get(f"/customers?page={number}")

    with ThreadPoolExecutor(len(numbers)) as pool:
        return list(pool.map(visit, numbers))


def race(merchant: Merchant, slow_refresh: SlowRefresh) -> str:
    """Press the card's button, open the tabs, and return the URL of the picture."""
    picture = str(merchant.press("/lab", "/lab/five_tabs").headers["Location"])
    assert all(page.status_code == 200 for page in open_tabs(merchant, slow_refresh))
    return picture


def rects(page: Page) -> list[str]:
    """The kinds of all stretches of the tracks, from the first to the last tab."""
    return re.findall(r'<rect class="(\w+)"', page.text)


def test_one_track_refreshes_and_four_wait(merchant: Merchant, slow_refresh: SlowRefresh) -> None:
    """L18: without scripts; five green ends."""
    page = merchant.get(race(merchant, slow_refresh))
    kinds = rects(page)
    assert kinds.count("refresh") == 1
    assert kinds.count("wait") == 4
    assert kinds.count("data") == 5
    assert page.text.count('<circle class="good"') == 5
    assert "1 of 5 tabs refreshed, 4 waited, 5 returned your customers." in page.text
    assert len(set(re.findall(r"/inspector\?show=([0-9a-f]+)", page.text))) == 5


def test_the_race_is_evidence_of_its_card(merchant: Merchant, slow_refresh: SlowRefresh) -> None:
    """L18 and L9"""
    picture = race(merchant, slow_refresh)
    assert "<b>0 of 23</b>" in merchant.get("/lab").text
    merchant.get(picture)
    row = merchant.get("/lab").text.split('id="five_tabs"')[1].split("</li>")[0]
    assert re.search(r"5 × API 401, 1 refresh, 5 × API 200, [\d.]+\sm?s", row)
    link = re.search(r'href="(/lab/five-tabs\?since=\d+)"', row)
    assert link is not None
    assert len(rects(merchant.get(link[1]))) == len(rects(merchant.get(picture)))


def test_run_again_is_another_race(merchant: Merchant, slow_refresh: SlowRefresh) -> None:
    """L18"""
    first = merchant.get(race(merchant, slow_refresh))
    assert "Run again" in first.text
    merchant.at.clock.advance(100)
    second = merchant.press(first.url, "/lab/five_tabs").headers["Location"]
    # Nothing is drawn of a race that has only just been started.
    assert rects(merchant.get(second)) == []
    open_tabs(merchant, slow_refresh)
    assert rects(merchant.get(second)).count("refresh") == 1
    assert _recordings_of(merchant.get(second)).isdisjoint(_recordings_of(first))


def test_a_race_is_drawn_while_tabs_are_missing_and_counts_later(
    merchant: Merchant, slow_refresh: SlowRefresh
) -> None:
    """L18: a person without scripts opens one tab after the other."""
    picture = merchant.press("/lab", "/lab/five_tabs").headers["Location"]
    open_tabs(merchant, slow_refresh, range(1, 3))
    page = merchant.get(picture).text
    assert "1 of 2 tabs refreshed" in page
    assert "data-run" in page
    assert "<b>0 of 23</b>" in merchant.get("/lab").text


@pytest.mark.parametrize(
    "query", ["", "?since=", "?since=x", "?since=nan", "?since=inf", "?since=-1"]
)
def test_without_a_race_nothing_is_drawn_and_none_is_run(merchant: Merchant, query: str) -> None:
    """L18"""
    merchant.get("/customers?page=1")
    page = merchant.get(f"/lab/five-tabs{query}")
    assert page.status_code == 200
    assert "What really happened" not in page.text


def test_a_tab_that_fails_has_a_red_end(merchant: Merchant, slow_refresh: SlowRefresh) -> None:
    """L18"""
    picture = merchant.press("/lab", "/lab/five_tabs").headers["Location"]
    faults = f"{merchant.at.omnifund_url}/faults"
    assert merchant.post(faults, {"id": "api_500", "scope": "all"}).status_code == 201
    statuses = [page.status_code for page in open_tabs(merchant, slow_refresh)]
    page = merchant.get(picture).text
    assert statuses.count(503) == page.count('<circle class="bad"') == 1
    assert "4 returned your customers." in page


def tab(number: str, at: float, *parts: tuple[str, float, float, int]) -> Recording:
    """A tab's page of half a second; its parts are step, start, end, and status."""
    page = Exchange("page", "GET", "/customers", [], 0.0, 500.0, {"page": number}, status=200)
    calls = [
        Exchange(step, "GET", "/", [], start, end, status=status)
        for step, start, end, status in parts
    ]
    return Recording(number, at, "", {}, [page, *calls])


def test_the_tracks_share_one_time() -> None:
    """L18: a tab that began later begins further to the right."""
    parts = ("api", 0.0, 100.0, 401), ("api", 200.0, 500.0, 200)
    drawn = tracks.draw([tab("1", 1000.0, *parts), tab("2", 1000.5, *parts)])
    assert drawn is not None
    assert drawn.took == "1.0\N{NO-BREAK SPACE}s"
    middle = (tracks.LEFT + tracks.RIGHT) / 2
    first, second = drawn.tracks
    assert [part.kind for part in first.parts] == ["rejected", "wait", "data"]
    assert first.end == second.parts[0].x == middle
    assert second.end == tracks.RIGHT
    assert [label for _, label in drawn.ticks][:2] == [
        "0\N{NO-BREAK SPACE}ms",
        "100\N{NO-BREAK SPACE}ms",
    ]
    assert tracks.draw([]) is None


def test_the_tab_that_refreshes_waits_for_no_other_however_busy_the_machine_is() -> None:
    """L18"""
    rejected, refresh = ("api", 100.0, 110.0, 401), ("refresh_token", 200.0, 300.0, 200)
    drawn = tracks.draw([tab("1", 1000.0, rejected, refresh, ("api", 400.0, 410.0, 200))])
    assert drawn is not None
    assert [part.kind for part in drawn.tracks[0].parts] == ["rejected", "refresh", "data"]


def _recordings_of(page: Page) -> set[str]:
    return set(re.findall(r"/inspector\?show=([0-9a-f]+)", page.text))
