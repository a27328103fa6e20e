"""Signing in to and out of the portal: /login, /login_check, /logout, /switch-account."""

from urllib.parse import parse_qsl, quote, urlencode

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from local_omnifund import sessions
from local_omnifund.context import services
from local_omnifund.merchants import MERCHANTS
from local_omnifund.settings import DEMO_MERCHANT_PASSWORD

blueprint = Blueprint("login", __name__)


def ask_to_sign_in(target: str) -> Response:
    """Send the visitor to the login page, and to `target`, a path of ours, once signed in."""
    session = sessions.current()
    session.target = target
    sessions.save(session)
    # OmniFund answers with an absolute address here.
    return redirect(url_for("login.login", _external=True))


def current_target() -> str:
    """The page that is being asked for, its query sorted by name as OmniFund keeps it."""
    query = sorted(
        dict(parse_qsl(request.query_string.decode("latin-1"), keep_blank_values=True)).items()
    )
    return f"{request.path}?{urlencode(query, quote_via=quote)}" if query else request.path


@blueprint.get("/login")
def login() -> str:
    """The login page. It may show the password: it is published, and guards made-up data."""
    password = services().settings.merchant_password
    return render_template(
        "login.html",
        notice=sessions.current().take_notice(),
        demo_username=MERCHANTS[0].username,
        demo_password=password if password == DEMO_MERCHANT_PASSWORD else None,
        merchants=MERCHANTS,
    )


@blueprint.post("/login_check")
def login_check() -> Response:
    """Check the password; the answer is the same for an unknown user and a wrong password."""
    if not sessions.csrf_token_is_valid(request.form.get("_csrf_token")):
        return _back_to_login("Invalid CSRF token.")
    merchant = services().merchants.authenticate(
        request.form.get("_username", ""), request.form.get("_password", "")
    )
    if merchant is None:
        return _back_to_login("Invalid credentials.")
    if merchant.is_locked:
        return _back_to_login("Account is locked.")
    target = sessions.current().target
    sessions.start(sessions.PortalSession(username=merchant.username))
    return redirect(target or url_for("portal.home"))


@blueprint.post("/logout")
def logout() -> Response:
    """End the session."""
    sessions.require_csrf_token()
    sessions.start(sessions.PortalSession(notice="You have signed out."))
    return redirect(url_for("login.login"))


@blueprint.post("/switch-account")
def switch_account() -> Response:
    """End the session and return to the same authorization request with another account."""
    sessions.require_csrf_token()
    query = urlencode(
        parse_qsl(request.form.get("query", ""), keep_blank_values=True), quote_via=quote
    )
    sessions.start(sessions.PortalSession(target=f"{url_for('authorize.authorize')}?{query}"))
    return redirect(url_for("login.login"))


def _back_to_login(notice: str) -> Response:
    session = sessions.current()
    session.notice = notice
    sessions.save(session)
    return redirect(url_for("login.login"))
