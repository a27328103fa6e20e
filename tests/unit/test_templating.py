"""Money, moments and durations as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from web.templating import duration, moment, money


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Decimal("1234.5"), "$1,234.50"),
        (Decimal(0), "$0.00"),
        (Decimal("-5"), "−$5.00"),
        (None, "–"),
    ],
)
def test_money_is_in_dollars_and_cents(amount: Decimal | None, text: str) -> None:
    assert money(amount) == text


def test_a_moment_shows_utc_and_keeps_the_exact_value() -> None:
    noon_in_denver = datetime(2026, 1, 5, 12, 3, 4, tzinfo=timezone(timedelta(hours=-7)))
    expected = (
        '<time datetime="2026-01-05T19:03:04Z" title="2026-01-05 19:03:04 UTC">'
        "Jan 5, 2026, 19:03 UTC</time>"
    )
    assert moment(noon_in_denver) == expected
    assert moment(noon_in_denver.astimezone(UTC)) == expected
    assert moment(None) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 seconds"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "1 minute"),
        (3599, "59 minutes"),
        (3600, "1 hour"),
        (43200, "12 hours"),
        (172_800, "2 days"),
    ],
)
def test_a_duration_is_told_in_its_largest_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
