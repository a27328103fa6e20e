"""What every template may use: which OmniFund is meant, who is visiting, where static files are."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Flask, request, url_for
from jinja2 import StrictUndefined
from markupsafe import Markup

from config import Settings
from web import auth, static_files
from web.current import omnifund

CLOCK_TOLERANCE_SECONDS: Final = 60
"""How far this machine's clock and OmniFund's may be apart before pages say so."""


def init_app(app: Flask, settings: Settings) -> None:
    """Set up Jinja and the context of every page."""
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    context: dict[str, Any] = {
        "environment": settings.omnifund_environment,
        "omnifund_host": urlsplit(settings.omnifund_base_url).netloc,
        "password_grant": settings.password_grant,
        "static_url": static_files.init_app(app),
    }

    app.jinja_env.globals["url_for"] = _remembering_url_for()
    pages = app.extensions.setdefault(
        "navigation",
        [
            ("pages.dashboard", "Dashboard"),
            ("pages.customers", "Customers"),
            ("pages.transactions", "Transactions"),
        ],
    )

    @lru_cache(maxsize=256)
    def bar(_mounted_at: str, endpoint: str | None, signed_in: bool) -> Markup:
        # The same for everybody, so it is made once for each page and not for each visit.
        template = app.jinja_env.get_template("_bar.html")
        return Markup(  # noqa: S704 - Jinja has escaped it
            template.render(**context, pages=pages, endpoint=endpoint, signed_in=signed_in)
        )

    @app.context_processor
    def page_context() -> dict[str, Any]:
        # Only what is known already: an error page must not ask a Redis that has just failed.
        signed_in = auth.is_signed_in()
        return {
            **context,
            "bar": bar(request.environ.get("SCRIPT_NAME", ""), request.endpoint, signed_in),
            "signed_in": signed_in,
            "clock_ahead": _clock_ahead(),
        }


def _remembering_url_for() -> Callable[..., str]:
    """Return Flask's ``url_for``, with the addresses that need no values built only once."""

    @lru_cache(maxsize=1024)
    def build(_mounted_at: str, endpoint: str) -> str:
        return url_for(endpoint)

    def remembering_url_for(endpoint: str, **values: Any) -> str:
        if values:
            return url_for(endpoint, **values)
        # Behind a proxy that mounts the app below a path, the address begins with that path.
        return build(request.environ.get("SCRIPT_NAME", ""), endpoint)

    return remembering_url_for


def _clock_ahead() -> float | None:
    """Return by how many seconds this machine's clock is wrong, if that is worth a word."""
    ahead = omnifund().http.clock_ahead
    return ahead if ahead is not None and abs(ahead) > CLOCK_TOLERANCE_SECONDS else None
