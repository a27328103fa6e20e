"""The lists in a browser: rows on a phone, one search field, filters as chips."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from local_omnifund import data
from local_omnifund.data import Book
from tests.browser.steps import allow, follow, start_sign_in
from tests.support.stack import Stack

# The labels from top to bottom, and in a line from left to right. A line is 20 pixels or more.
AS_SEEN = """cells => cells
  .map(cell => [cell.getBoundingClientRect(), cell.dataset.label])
  .sort(([a], [b]) => Math.abs(a.bottom - b.bottom) < 10 ? a.left - b.left : a.bottom - b.bottom)
  .map(([, label]) => label)"""

CUT_OFF = """elements => elements
  .filter(each => getComputedStyle(each).textOverflow === "ellipsis"
    || each.scrollWidth > each.clientWidth).map(each => each.innerText)"""

# How many lines each piece of text takes.
LINES = """cells => cells.flatMap(cell => [...cell.childNodes]
  .filter(node => node.nodeType === Node.TEXT_NODE && node.data.trim())
  .map(node => {
    const range = document.createRange();
    range.selectNodeContents(node);
    return range.getClientRects().length;
  }))"""


@pytest.fixture
def phone(browser: Browser, stack: Stack) -> Iterator[Page]:
    """A phone whose merchant has signed in."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    start_sign_in(page, stack)
    allow(page)
    yield page
    context.close()


@pytest.mark.parametrize(
    ("path", "cells"),
    [
        ("/customers", ["Location", "Contact", "Reference", "Payment methods"]),
        ("/transactions", ["Amount", "Status", "Date", "Reference"]),
    ],
)
def test_a_row_on_a_phone_is_low_and_has_what_matters(
    phone: Page, stack: Stack, path: str, cells: list[str]
) -> None:
    """L13"""
    phone.goto(stack.url + path)
    rows = phone.locator("tbody tr")
    heights = rows.evaluate_all("rows => rows.map(row => row.getBoundingClientRect().height)")
    assert len(heights) == 30
    assert max(heights) <= 88
    shown = rows.first.locator("td:visible")
    assert shown.evaluate_all(AS_SEEN) == cells


@pytest.mark.parametrize("width", [320, 390])
@pytest.mark.expects_console_errors
def test_nothing_of_a_row_is_cut_off(phone: Page, stack: Stack, width: int) -> None:
    """An address or a bank's name of any length is there to be read."""
    phone.set_viewport_size({"width": width, "height": 844})
    for page in (1, 2):
        phone.goto(f"{stack.url}/customers?page={page}")
        cells = phone.locator("tbody :is(td, th):visible")
        assert cells.evaluate_all(CUT_OFF) == []
    # Each party of an error's picture is a word in one line.
    phone.goto(f"{stack.url}/no-such-page")
    assert phone.locator(".sides span").last.evaluate_all(LINES) == [1]


# What leaves its list, and what is set in a column of a letter or two.
SQUEEZED = """cells => cells.flatMap(cell => [cell, ...cell.children]).filter(each => {
  const {left, right, width} = each.getBoundingClientRect();
  const edge = each.closest(".table").getBoundingClientRect();
  return width && (left < edge.left - 1 || right > edge.right + 1
    || each.matches("th, td") && width < 48 && each.innerText.length > 8);
}).map(each => each.innerText)"""


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("long", ["Wolfeschlegelsteinhausen" * 3, "as long as it gets, " * 5])
def test_a_text_of_any_length_leaves_room_for_the_others(
    browser: Browser, stack: Stack, monkeypatch: pytest.MonkeyPatch, width: int, long: str
) -> None:
    """Names, places, references, and a status come from OmniFund as its users have typed them."""
    book = data._book

    def of(username: str, today: int) -> Book:
        usual = book(username, today)
        names = ("firstName", "lastName", "company", "city", "customerRef")
        return Book(
            tuple(record | dict.fromkeys(names, long) for record in usual.customers[:3]),
            tuple(record | {"referenceId": long, "status": long} for record in usual.processed[:3]),
            (),
        )

    monkeypatch.setattr(data, "_book", of)
    context = browser.new_context(viewport={"width": width, "height": 844})
    page = context.new_page()
    start_sign_in(page, stack)
    allow(page)
    for path in ("/customers", "/transactions"):
        page.goto(stack.url + path)
        cells = page.locator("tbody :is(td, th):visible")
        expect(cells.filter(has_text=long.strip()).first).to_be_visible()
        assert cells.evaluate_all(SQUEEZED) == []
    context.close()


def test_at_768_pixels_there_is_a_table_and_dates_have_room(browser: Browser, stack: Stack) -> None:
    """L13"""
    context = browser.new_context(viewport={"width": 768, "height": 900})
    page = context.new_page()
    start_sign_in(page, stack)
    allow(page)
    page.goto(f"{stack.url}/transactions")
    expect(page.get_by_role("columnheader", name="Customer")).to_be_visible()
    page.get_by_text("More filters").click()
    box = page.get_by_label("From").bounding_box()
    assert box is not None
    assert box["width"] >= 9.5 * 16
    page.goto(f"{stack.url}/customers")
    # An address breaks before its "@" and nowhere else.
    lines = page.locator("td[data-label=Contact]").evaluate_all(LINES)
    assert len(lines) == 60
    assert set(lines) == {1}
    context.close()


def test_one_field_is_shown_and_filters_in_use_are_chips(phone: Page, stack: Stack) -> None:
    """L13: the folded fields open when one of them is used, and a chip takes its filter away."""
    phone.goto(f"{stack.url}/customers")
    expect(phone.get_by_role("textbox")).to_have_count(1)
    phone.get_by_text("More filters").click()
    phone.get_by_label("Company").fill("a")
    phone.get_by_label("Last name").fill("e")
    follow(phone.get_by_role("button", name="Search"))
    expect(phone.get_by_role("textbox")).to_have_count(6)
    follow(phone.get_by_role("link", name="Remove the filter Company: a"))
    assert "company" not in phone.url
    assert "lastName=e" in phone.url
    expect(phone.get_by_role("textbox")).to_have_count(1)
    phone.get_by_role("link", name="Clear").click()
    expect(phone).to_have_url(f"{stack.url}/customers")


def test_the_pager_is_above_the_list_too(phone: Page, stack: Stack) -> None:
    """L13"""
    phone.goto(f"{stack.url}/customers")
    phone.get_by_role("navigation", name="above it").get_by_role("link", name="Next").click()
    expect(phone).to_have_url(f"{stack.url}/customers?page=2")
    expect(phone.get_by_role("navigation", name="Pages of this list")).to_have_count(2)


@pytest.mark.expects_console_errors
@pytest.mark.parametrize(
    ("path", "label", "good"),
    [
        ("/customers?lastName=a&id=abc", "ID", "as a whole number"),
        ("/transactions?referenceId=a&amount=a%20lot", "Amount", "such as 49.00"),
        ("/transactions?customer=Maya", "Customer ID", "as a whole number"),
    ],
)
def test_a_search_that_omnifund_rejects_says_which_field_to_change(
    phone: Page, stack: Stack, path: str, label: str, good: str
) -> None:
    """The field has the focus and the error; the others are valid, and the title says it."""
    phone.goto(stack.url + path)
    field = phone.get_by_label(label, exact=True)
    expect(field).to_be_focused()
    expect(field).to_have_accessible_description(re.compile(good))
    expect(phone.locator("[aria-invalid]")).to_have_count(1)
    expect(phone.get_by_role("alert")).to_contain_text(good)
    expect(phone).to_have_title(re.compile("^Error: "))


def test_a_date_that_cannot_be_searched_for_is_not_sent(phone: Page, stack: Stack) -> None:
    """Somebody who types a year too quickly sends 0026, which would find everything."""
    phone.goto(f"{stack.url}/transactions?to=2026-11-01")
    phone.get_by_label("To (UTC)").fill("0026-11-01")
    phone.get_by_role("button", name="Search").click()
    expect(phone).to_have_url(f"{stack.url}/transactions?to=2026-11-01")


def test_a_card_is_read_out_with_the_name_of_its_brand(phone: Page, stack: Stack) -> None:
    phone.goto(f"{stack.url}/customers")
    methods = phone.get_by_role("cell").filter(has=phone.locator(".account"))
    text = " ".join(methods.all_text_contents())
    for name in ("Visa", "Mastercard", "American Express", "Discover"):
        assert name in text
