"""Jinja: what every template may use, addresses of static files, money, moments, durations."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Flask, Response, request
from jinja2 import StrictUndefined
from markupsafe import Markup

from config import Settings
from web import auth
from web.current import omnifund

CLOCK_TOLERANCE_SECONDS: Final = 60
"""How far this machine's clock and OmniFund's may be apart before pages say so."""

NOTHING: Final = "–"
"""What stands where OmniFund sent no value."""


def init_app(app: Flask, settings: Settings) -> None:
    """Set up Jinja, the context of every page, the navigation and the static files.

    ``app.extensions["navigation"]`` lists each page that the header links to: its endpoint, its
    label, and for pages to learn from the blueprints that belong to it. Other packages add theirs.
    """
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(money=money, moment=moment, duration=duration)
    navigation: list[tuple[str, str, tuple[str, ...]]] = [
        ("pages.dashboard", "Dashboard", ()),
        ("pages.customers", "Customers", ()),
        ("pages.transactions", "Transactions", ()),
    ]
    app.extensions["navigation"] = navigation
    app.jinja_env.globals.update(
        # `local` with another base URL is no emulator, and pages must not say so.
        environment="other"
        if settings.is_local and not settings.has_local_omnifund
        else settings.omnifund_environment,
        omnifund_host=urlsplit(settings.omnifund_base_url).netloc,
        password_grant=settings.password_grant,
        navigation=navigation,
        # Places that another package fills, by name, each with slots/<name>.html.
        slots=frozenset(),
    )

    @app.context_processor
    def page_context() -> dict[str, Any]:
        # Only what is known already: an error page must not wait for a Redis that has just failed.
        ahead = omnifund().http.clock_ahead or 0.0
        is_wrong = abs(ahead) > CLOCK_TOLERANCE_SECONDS
        return {"signed_in": auth.is_signed_in(), "clock_ahead": ahead if is_wrong else None}

    _serve_static_files(app)


def _serve_static_files(app: Flask) -> None:
    """Add the content's hash to the URLs of static files, so that browsers may keep the files.

    Flask's documentation describes ``url_defaults`` for this. Blueprints' files are included.
    """

    def digest(endpoint: str, values: dict[str, Any]) -> str | None:
        owner, _, name = endpoint.rpartition(".")
        folder = str(app.blueprints.get(owner, app).static_folder)
        return _digests(folder).get(values["filename"]) if name == "static" else None

    @app.url_defaults
    def add_digest(endpoint: str, values: dict[str, Any]) -> None:
        if found := digest(endpoint, values):
            values["v"] = found

    @app.after_request
    def set_lifetime(response: Response) -> Response:
        found = digest(request.endpoint or "", request.view_args or {})
        if found == request.args.get("v", "") and response.status_code in (200, 206, 304):
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response

    @app.get("/favicon.ico")
    def favicon() -> Response:
        """The icon, where browsers look for it when a page names none, as JSON does not."""
        return app.send_static_file("favicon.ico")


@cache
def _digests(folder: str) -> dict[str, str]:
    """Return the hash of each file's content; "" for a font, whose version is in its name."""
    return {
        path.relative_to(folder).as_posix(): ""
        if path.suffix == ".woff2"
        else hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


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
    return Markup('<time datetime="{0}T{1}Z" title="{0} {1} UTC">{2}</time>').format(
        day, time, f"{utc:%b} {utc.day}, {utc.year}, {time[:5]} UTC"
    )


def duration(seconds: float) -> str:
    """Return a length of time in its largest unit, for example ``59 minutes``."""
    units = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
    name, size = next((unit for unit in units if seconds >= unit[1]), units[-1])
    count = max(0, int(seconds // size))
    return f"{count} {name}" if count == 1 else f"{count} {name}s"
