"""The pages a person sees, and ``/session`` for scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flask import Blueprint, flash, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from omnifund import errors
from omnifund.api import Customer, Kind, Page, Transaction
from omnifund.token import Token
from web import auth
from web.auth import Connection, signed_in_only
from web.current import omnifund, settings
from web.security import csrf

blueprint = Blueprint("pages", __name__)

CUSTOMER_FILTERS: Final = ("id", "customerRef", "firstName", "lastName", "company", "email")
TRANSACTION_FILTERS: Final = ("id", "customer", "amount", "referenceId", "from", "to")
MAX_FILTER_LENGTH: Final = 200
MAX_PAGE: Final = 1_000_000

Filters = list[tuple[str, str]]


@blueprint.get("/")
def landing() -> str:
    """What this is, and the way in."""
    auth.connection()
    return render_template("landing.html")


@blueprint.get("/dashboard")
@signed_in_only
def dashboard(connection: Connection) -> str:
    """The connection with OmniFund as it stands."""
    try:
        stored = omnifund().valid_token(connection.id, connection.stored)
    except (errors.Unavailable, errors.InvalidResponse, errors.ClientMisconfigured):
        # This page describes the connection; it can say that the token has expired.
        stored = connection.stored
    return render_template("dashboard.html", connection=_connection_view(connection, stored.token))


@blueprint.get("/customers")
@signed_in_only
def customers(connection: Connection) -> tuple[str, int]:
    """A page of the merchant's customers."""

    def fetch(filters: Filters, page: int) -> Page[Customer]:
        return omnifund().api.customers(connection.id, filters, page=page, stored=connection.stored)

    return _listing("customers.html", CUSTOMER_FILTERS, fetch)


@blueprint.get("/transactions")
@signed_in_only
def transactions(connection: Connection) -> tuple[str, int]:
    """A page of the merchant's processed or scheduled transactions."""
    kind: Kind = "pending" if request.args.get("kind") == "pending" else "history"

    def fetch(filters: Filters, page: int) -> Page[Transaction]:
        return omnifund().api.transactions(
            connection.id, kind, _with_dates(filters), page=page, stored=connection.stored
        )

    return _listing("transactions.html", TRANSACTION_FILTERS, fetch, kind=kind)


@blueprint.post("/token/refresh")
@csrf.exempt
@signed_in_only
def refresh(connection: Connection) -> BaseResponse:
    """Refresh now (manual, "Refreshing an Access Token")."""
    # Here and not before: a visitor who is not signed in has no CSRF token and nothing to lose.
    csrf.protect()
    try:
        omnifund().renew(connection.id, connection.stored)
        flash("refreshed")
    except errors.RefreshRejected:
        flash("not_refreshed")
    return redirect(url_for("pages.dashboard"), code=303)


@blueprint.get("/session")
def session_status() -> BaseResponse:
    """Whether the visitor is signed in, for scripts; never a token."""
    connection = auth.connection()
    if connection is None:
        return jsonify(signed_in=False)
    token = connection.stored.token
    return jsonify(
        signed_in=True,
        expires_at=token.expires_at,
        scope=token.scope,
        token_type=token.token_type,
        refreshable=token.refresh_token is not None,
    )


# --- the dashboard's view of a connection ----------------------------------------------------


def _connection_view(connection: Connection, token: Token) -> dict[str, Any]:
    """Return what the dashboard shows. Nothing in it is a secret."""
    now, known = omnifund().clock(), settings()
    state = "fresh"
    if token.expired(now):
        state = "expired"
    elif now >= token.expires_at - known.token_refresh_leeway:
        state = "expiring"
    return {
        "expires_at": datetime.fromtimestamp(token.expires_at, UTC),
        "seconds_left": max(0, int(token.expires_at - now)),
        "lifetime": max(1, token.expires_at - token.obtained_at),
        "leeway_seconds": known.token_refresh_leeway,
        "state": state,
        "scope": token.scope,
        "token_type": token.token_type,
        "access_token_masked": masked(token.access_token),
        "refresh_token_masked": masked(token.refresh_token) if token.refresh_token else None,
        "refreshable": token.refresh_token is not None,
        "signed_in_at": datetime.fromtimestamp(connection.signed_in_at, UTC),
        "idle_seconds": known.session_idle_seconds,
        "lifetime_seconds": known.session_lifetime_seconds,
    }


def masked(secret: str) -> str:
    """Return as much of a token as tells two apart: its last four characters, if it is long."""
    return f"••••••••{secret[-4:]}" if len(secret) >= 32 else "••••••••"


# --- lists -----------------------------------------------------------------------------------


def _listing(
    template: str, names: Sequence[str], fetch: Callable[[Filters, int], Page[Any]], **kept: str
) -> tuple[str, int]:
    """Return a page of a list; with a search that OmniFund does not understand, the form again.

    ``names``: the filters of this list. ``kept``: other parameters that its links keep.
    """
    filters = {name: request.args.get(name, "").strip()[:MAX_FILTER_LENGTH] for name in names}
    given = {name: value for name, value in filters.items() if value}
    endpoint = str(request.endpoint)

    def page_url(**changes: Any) -> str:
        return url_for(endpoint, **{**kept, **given, **changes})  # None: without this filter

    number = min(max(request.args.get("page", 1, type=int), 1), MAX_PAGE)
    try:
        result, status = fetch(list(given.items()), number), 200
    except errors.InvalidFilter:
        result, status = Page((), None, 1, None, None, None), 400
    values = {"result": result, "filters": filters, "page_url": page_url, **kept}
    return render_template(template, is_invalid=status == 400, **values), status


def _with_dates(filters: Filters) -> Filters:
    """Return ``filters`` with whole days in UTC as OmniFund's ``tranDate``, in Unix seconds.

    Raises ``InvalidFilter`` for what is no day: a list must not claim a filter that it lacks.
    """
    dates = {"from": ("tranDate[gte]", timedelta(0)), "to": ("tranDate[lt]", timedelta(days=1))}
    found = []
    for name, value in filters:
        if name not in dates:
            found.append((name, value))
            continue
        parameter, later = dates[name]
        try:
            day = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            raise errors.InvalidFilter("a date is not YYYY-MM-DD") from None
        if not 1970 <= day.year < 9999:
            raise errors.InvalidFilter("a date is not between 1970 and 9998")
        found.append((parameter, str(int((day + later).timestamp()))))
    return found
