"""The floor: a Flask page that reads one value from Redis, and nothing else.

What a page of the app costs beyond ``/dashboard`` is everything that the app does.
``/same-page`` renders the app's own dashboard, made-up values in it: what is beyond that is
sessions, encryption, headers, logs and metrics.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from flask import Flask, render_template
from redis import Redis

from web import templating

_REPOSITORY = Path(__file__).parents[1]


def create_app() -> Flask:
    """Make the app."""
    app = Flask(__name__, template_folder=str(_REPOSITORY / "templates"))
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(
        money=templating.money, moment=templating.moment, duration=templating.duration
    )
    store = Redis.from_url(os.environ["REDIS_URL"])

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    @app.get("/dashboard")
    def dashboard() -> str:
        store.get("session")
        return "<!doctype html><title>Dashboard</title><p>You are signed in."

    @app.get("/same-page")
    def same_page() -> str:
        store.get("session")
        return render_template("dashboard.html", **page)

    for endpoint in (
        *("pages.landing", "pages.dashboard", "pages.customers", "pages.transactions"),
        *("pages.refresh", "auth.logout"),
    ):
        app.add_url_rule(f"/{endpoint}", endpoint, healthz)
    page = _made_up_page()
    return app


def _made_up_page() -> dict[str, Any]:
    now = datetime.now(UTC)
    connection = SimpleNamespace(
        expires_at=now,
        seconds_left=3600,
        lifetime=3600,
        leeway_seconds=60,
        state="fresh",
        scope=None,
        token_type="Bearer",
        access_token_masked="••••••••abcd",
        refresh_token_masked="••••••••abcd",
        refreshable=True,
        signed_in_at=now,
        idle_seconds=1800,
        lifetime_seconds=43_200,
    )
    return {
        "connection": connection,
        "signed_in": True,
        "environment": "production",
        "omnifund_host": "localhost",
        "clock_ahead": None,
        "navigation": [
            (f"pages.{name}", name.title(), ())
            for name in ("dashboard", "customers", "transactions")
        ],
        "slots": frozenset(),
        "csrf_token": lambda: "csrf-token-of-a-session",
    }
