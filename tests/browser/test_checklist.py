"""The failure lab's checklist, as a person sees it in a real Chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from demo.failures import CARDS
from tests.browser.steps import follow
from tests.browser.test_lab import connect, press
from tests.support.stack import Stack, running_stack

MAX_ROW = 96
"""Pixels."""

HIGHEST = "Math.max(...[...document.querySelectorAll('.check')].map(e => e.offsetHeight))"


@pytest.fixture(params=[True, False], ids=["with scripts", "without scripts"])
def page(request: pytest.FixtureRequest, browser: Browser, stack: Stack) -> Iterator[Page]:
    assert stack  # It outlives the page.
    context = browser.new_context(java_script_enabled=request.param)
    yield context.new_page()
    context.close()


def test_marks_and_evidence_come_and_stay(page: Page, stack: Stack) -> None:
    """L10 and L9"""
    connect(page, stack)
    expect(page.get_by_text("0 of 23 seen")).to_be_visible()
    press(page, "api_403")
    page.get_by_role("link", name="Back to the lab").click()
    for _ in range(2):
        expect(page.get_by_text("1 of 23 seen")).to_be_visible()
        expect(page.locator("#api_403")).to_contain_text("Seen just now: API 403, page 403,")
        expect(page.locator("#api_403 svg")).to_be_visible()
        page.reload()
    page.locator("#api_403").get_by_role("link", name="Recording").click()
    page.get_by_role("link", name="Back to The API returns 403").click()
    expect(page.locator("#api_403")).to_be_in_viewport()
    expect(page.locator("#api_403 h3")).to_be_in_viewport()


def test_the_next_failure_is_one_click_away(page: Page, stack: Stack) -> None:
    """L9"""
    connect(page, stack)
    press(page, "api_403")
    follow(page.get_by_role("link", name="Next failure"))
    expect(page.get_by_role("heading", level=1)).to_have_text(CARDS["api_500"].title)
    follow(page.get_by_role("button", name="Break the API"))
    follow(page.get_by_role("link", name="Next failure"))
    expect(page.get_by_role("heading", level=1)).to_have_text(CARDS["api_odd_json"].title)


@pytest.mark.parametrize("width", [900, 1024, 1280, 1920])
def test_a_row_is_low_before_and_after_it_has_run(
    browser: Browser, redis_url: str, tmp_path: Path, width: int
) -> None:
    """L10"""
    os.mkfifo(tmp_path / "control")
    context = browser.new_context(viewport={"width": width, "height": 800})
    with running_stack(redis_url, demo_control=tmp_path / "control") as stack:
        _measure(context.new_page(), stack)
    context.close()


def _measure(page: Page, stack: Stack) -> None:
    connect(page, stack)
    expect(page.locator(".check")).to_have_count(len(CARDS))
    assert 40 < page.evaluate(HIGHEST) <= MAX_ROW
    for card in ("access_token_expired", "api_500"):
        page.goto(f"{stack.url}/lab")
        press(page, card)
    page.goto(f"{stack.url}/lab")
    expect(page.locator(".check")).to_have_count(len(CARDS))
    expect(page.locator("#access_token_expired .evidence")).to_be_visible()
    expect(page.get_by_role("button", name="Stop Redis")).to_be_visible()
    assert 40 < page.evaluate(HIGHEST) <= MAX_ROW


def test_the_groups_heading_stays_in_sight(page: Page, stack: Stack) -> None:
    """L10"""
    page.goto(f"{stack.url}/lab")
    page.set_viewport_size({"width": 1280, "height": 500})
    heading = page.get_by_role("heading", name="Exchanging the code")
    expect(heading).not_to_be_in_viewport()
    page.locator("#token_redirect").scroll_into_view_if_needed()
    expect(heading).to_be_in_viewport()
    expect(page.get_by_role("heading", name="Returning from OmniFund")).not_to_be_in_viewport()


def test_a_jump_to_a_card_is_not_covered_by_the_heading(page: Page, stack: Stack) -> None:
    """L10"""
    page.set_viewport_size({"width": 390, "height": 700})
    page.goto(f"{stack.url}/lab#token_drip")
    title = page.locator("#token_drip h3")
    expect(title).to_be_in_viewport()
    box, bar = title.bounding_box(), page.locator(".checks-heading").nth(1).bounding_box()
    assert box is not None
    assert bar is not None
    assert bar["y"] + bar["height"] <= box["y"]
