"""Jinja filters: money, moments and durations as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from flask import Flask
from markupsafe import Markup

_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)

NOTHING: Final = "–"
"""What stands where OmniFund said nothing."""


def register(app: Flask) -> None:
    """Make the filters known to the app's templates."""
    app.jinja_env.filters.update(money=money, moment=moment, duration=duration)


def money(amount: Decimal | None) -> str:
    """Return US dollars, for example ``$1,234.50``."""
    if amount is None:
        return NOTHING
    sign = "−" if amount < 0 else ""
    return f"{sign}${abs(amount):,.2f}"


def moment(value: datetime | None) -> str | Markup:
    """Return a ``<time>`` in UTC; ``value`` knows its time zone. Scripts show the visitor's own."""
    if value is None:
        return NOTHING
    utc = value.astimezone(UTC).replace(microsecond=0, tzinfo=None)
    day, _, time = utc.isoformat().partition("T")
    # Nothing in it needs escaping, and Markup.format costs ten times as much.
    return Markup(  # noqa: S704 - numbers and fixed words only
        f'<time datetime="{day}T{time}Z" title="{day} {time} UTC">'
        f"{_MONTHS[utc.month - 1]} {utc.day}, {utc.year}, {time[:5]} UTC</time>"
    )


def duration(seconds: float) -> str:
    """Return a length of time in its largest unit, for example ``59 minutes``."""
    for name, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}" if count == 1 else f"{count} {name}s"
    count = max(0, int(seconds))
    return f"{count} second" if count == 1 else f"{count} seconds"
