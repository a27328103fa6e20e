"""The pages a person sees, and ``/session`` for scripts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flask import Blueprint, flash, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from omnifund import errors
from omnifund.api import Kind, Page, Transaction
from omnifund.token import Token
from web import auth
from web.auth import Connection, signed_in_only
from web.current import omnifund, settings
from web.security import csrf

blueprint = Blueprint("pages", __name__)

CUSTOMER_FILTERS: Final = ("id", "customerRef", "firstName", "lastName", "company", "email")
TRANSACTION_FILTERS: Final = ("id", "customer", "amount", "referenceId")
MAX_FILTER_LENGTH: Final = 200
MAX_PAGE: Final = 1_000_000


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
    filters = _filters(CUSTOMER_FILTERS)
    return _listing(
        "customers.html",
        lambda page: omnifund().api.customers(
            connection.id, _given(filters), page=page, stored=connection.stored
        ),
        filters=filters,
        page_url=_address("pages.customers", _given(filters)),
    )


@blueprint.get("/transactions")
@signed_in_only
def transactions(connection: Connection) -> tuple[str, int]:
    """A page of the merchant's processed or scheduled transactions."""
    kind: Kind = "pending" if request.args.get("kind") == "pending" else "history"
    filters = _filters((*TRANSACTION_FILTERS, "from", "to"))
    given = [(name, value) for name, value in _given(filters) if name in TRANSACTION_FILTERS]

    def fetch(page: int) -> Page[Transaction]:
        dates = _date_filters(filters["from"], filters["to"])
        return omnifund().api.transactions(
            connection.id, kind, [*given, *dates], page=page, stored=connection.stored
        )

    return _listing(
        "transactions.html",
        fetch,
        filters=filters,
        kind=kind,
        page_url=_address("pages.transactions", [("kind", kind), *_given(filters)]),
    )


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


def _listing(template: str, fetch: Callable[[int], Page[Any]], **values: Any) -> tuple[str, int]:
    """Return a page of a list; with a search that OmniFund does not understand, the form again."""
    try:
        result, status = fetch(_page_number()), 200
    except errors.InvalidFilter:
        result, status = Page((), None, 1, None, None, None), 400
    page = render_template(template, result=result, is_invalid=status == 400, **values)
    return page, status


def _filters(names: tuple[str, ...]) -> dict[str, str]:
    return {name: request.args.get(name, "").strip()[:MAX_FILTER_LENGTH] for name in names}


def _given(filters: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in filters.items() if value]


def _page_number() -> int:
    page = request.args.get("page", 1, type=int)
    return min(max(page, 1), MAX_PAGE)


def _address(endpoint: str, kept: list[tuple[str, str]]) -> Callable[..., str]:
    """Return what makes the list's address with another page or, as ``None``, without a filter."""
    return lambda **changes: url_for(endpoint, **{**dict(kept), **changes})


def _date_filters(first: str, last: str) -> list[tuple[str, str]]:
    """Whole days in UTC as OmniFund's ``tranDate`` filter, in Unix seconds.

    Raises ``InvalidFilter`` for what is no day: a list must not claim a filter that it lacks.
    """
    filters = []
    if first:
        filters.append(("tranDate[gte]", _midnight(first)))
    if last:
        filters.append(("tranDate[lt]", _midnight(last, timedelta(days=1))))
    return filters


def _midnight(day: str, later: timedelta = timedelta(0)) -> str:
    try:
        moment = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise errors.InvalidFilter("a date is not YYYY-MM-DD") from None
    if not 1970 <= moment.year < 9999:
        raise errors.InvalidFilter("a date is not between 1970 and 9998")
    return str(int((moment + later).timestamp()))
