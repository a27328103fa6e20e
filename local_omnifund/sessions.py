"""The portal's session: kept in Redis, found through a cookie.

A visitor gets one at the login page; signing in replaces its ID. Redis holds only a hash of it.
"""

import hmac
import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import msgspec
from flask import Flask, Response, abort, g, request

from local_omnifund.context import services
from local_omnifund.merchants import Merchant

COOKIE = "PHPSESSID"


@dataclass(slots=True)
class PortalSession:
    """Contents of a session. They change in Redis only when `save` is called."""

    username: str | None = None
    # The page that led to the login page: a path of this server with its query.
    target: str | None = None
    notice: str | None = None
    # Offered again after a login that failed.
    username_tried: str = ""
    # A new client's ID and secret, until the page that shows them once has been rendered.
    new_client: tuple[str, str] | None = None
    csrf_token: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def take_notice(self) -> str | None:
        """Return the message for the next page, and remove it from the session."""
        notice, self.notice = self.notice, None
        if notice is not None:
            save(self)
        return notice

    def take_new_secret(self, client_id: str) -> str | None:
        """Return the secret of the client that was just created, the first time only."""
        if self.new_client is None or self.new_client[0] != client_id:
            return None
        secret = self.new_client[1]
        self.new_client = None
        save(self)
        return secret


def current() -> PortalSession:
    """The visitor's session, or an empty one that is not stored yet."""
    if "portal_session" not in g:
        session_id = request.cookies.get(_cookie())
        session = _load(session_id) if session_id else None
        # An unknown ID is never adopted: the visitor gets a new one when the session is saved.
        g.session_id = session_id if session is not None else None
        g.portal_session = session or PortalSession()
    current_session: PortalSession = g.portal_session
    return current_session


def _load(session_id: str) -> PortalSession | None:
    try:
        contents = services().store.load_session(session_id)
        return None if contents is None else msgspec.convert(contents, PortalSession)
    except (ValueError, RecursionError):
        return None  # Another version of this application wrote it.


def save(session: PortalSession) -> None:
    """Store the session under its ID, or under a new one."""
    if g.get("session_id") is None:
        g.session_id = g.new_session_id = secrets.token_urlsafe(32)
    services().store.save_session(g.session_id, asdict(session))


def start(session: PortalSession) -> None:
    """Make `session` the visitor's session under a new ID, and delete the old one."""
    current()
    if g.session_id is not None:
        services().store.delete_session(g.session_id)
    g.session_id = None
    g.portal_session = session
    save(session)


def signed_in_merchant() -> Merchant | None:
    """The merchant who is signed in at the portal."""
    return services().merchants.find(current().username)


def csrf_token() -> str:
    """The token that every form of this visitor carries."""
    session = current()
    if g.session_id is None:
        save(session)
    return session.csrf_token


def csrf_token_is_valid(token: str | None) -> bool:
    """Whether the form came from a page of this visitor's own session."""
    session = current()
    if g.session_id is None or token is None:
        return False
    return hmac.compare_digest(session.csrf_token.encode(), token.encode("utf-8", "replace"))


def require_csrf_token() -> None:
    """Reject the form with status 400 unless it carries this visitor's token."""
    if not csrf_token_is_valid(request.form.get("_csrf_token")):
        abort(400, "This form has expired. Go back, load the page again and send it once more.")


def init_app(app: Flask) -> None:
    """Send the cookie with a new session ID, and the cache headers with every session."""

    @app.after_request
    def send_cookie(response: Response) -> Response:
        if session_id := g.get("new_session_id"):
            response.set_cookie(
                _cookie(),
                session_id,
                path="/",
                httponly=True,
                samesite="Lax",
                secure=request.is_secure,
            )
        if "portal_session" in g:
            # What Symfony makes of any response to a request that opened the session.
            no_store = "no-store, " if response.cache_control.no_store else ""
            response.headers["Cache-Control"] = f"max-age=0, must-revalidate, {no_store}private"
            response.expires = datetime.fromtimestamp(services().store.now(), UTC)
        return response


def _cookie() -> str:
    return services().settings.cookie_name(COOKIE)
