"""Signing in to and out of the portal: /login, /login_check, /logout, /switch-account."""

from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from local_omnifund import sessions
from local_omnifund.context import services
from local_omnifund.merchants import MERCHANTS
from local_omnifund.settings import DEMO_MERCHANT_PASSWORD

MAX_USERNAME_LENGTH = 180

blueprint = Blueprint("login", __name__)


def redirect_to_login(target: str) -> Response:
    """Redirect to the login page; signing in leads to `target`, a path of this server."""
    session = sessions.current()
    session.target = target
    sessions.save(session)
    return _to_login()


def current_target() -> str:
    """The requested page, its query sorted by name as OmniFund keeps it."""
    query = sorted(
        dict(parse_qsl(request.query_string.decode("latin-1"), keep_blank_values=True)).items()
    )
    path = quote(request.path)
    return f"{path}?{urlencode(query, quote_via=quote)}" if query else path


@blueprint.get("/login")
def login() -> str:
    """The login page. It may show the password: it is published, and guards fictional data."""
    password = services().settings.merchant_password
    session = sessions.current()
    return render_template(
        "login.html",
        notice=session.take_notice(),
        username=session.username_tried,
        application=_application(session.target),
        demo_username=MERCHANTS[0].username,
        demo_password=password if password == DEMO_MERCHANT_PASSWORD else None,
        merchants=MERCHANTS,
    )


def _application(target: str | None) -> str | None:
    """The name of the client whose authorization request waits for the login."""
    parts = urlsplit(target or "")
    client_id = parse_qs(parts.query).get("client_id", [""])[0]
    if parts.path != url_for("authorize.authorize") or not client_id:
        return None
    client = services().clients.find_active(client_id)
    return client.name if client else None


@blueprint.post("/login_check")
def login_check() -> Response:
    """Check the password; the response is the same for an unknown user and a wrong password."""
    username = request.form.get("_username", "")
    if not sessions.csrf_token_is_valid(request.form.get("_csrf_token")):
        return _back_to_login("Invalid CSRF token.", username)
    merchant = services().merchants.authenticate(username, request.form.get("_password", ""))
    if merchant is None:
        return _back_to_login("Invalid credentials.", username)
    if merchant.is_locked:
        return _back_to_login("Account is locked.", username)
    target = sessions.current().target or url_for("portal.home")
    sessions.start(sessions.PortalSession(username=merchant.username))
    # OmniFund's redirects around the login name the host.
    return redirect(request.host_url.removesuffix("/") + target)


@blueprint.post("/logout")
def logout() -> Response:
    """End the session."""
    sessions.require_csrf_token()
    sessions.start(sessions.PortalSession(notice="You have signed out."))
    return _to_login()


@blueprint.post("/switch-account")
def switch_account() -> Response:
    """End the session and return to the same authorization request with another account."""
    sessions.require_csrf_token()
    query = urlencode(
        parse_qsl(request.form.get("query", ""), keep_blank_values=True), quote_via=quote
    )
    sessions.start(sessions.PortalSession(target=f"{url_for('authorize.authorize')}?{query}"))
    return _to_login()


def _back_to_login(notice: str, username: str) -> Response:
    session = sessions.current()
    session.notice = notice
    session.username_tried = username[:MAX_USERNAME_LENGTH]
    sessions.save(session)
    return _to_login()


def _to_login() -> Response:
    return redirect(url_for("login.login", _external=True))
