"""The portal's session: kept in Redis, found through the cookie PHPSESSID.

A visitor gets one at the login page; signing in replaces its id. Redis holds only a hash of it.
"""

import hmac
import secrets
from dataclasses import asdict, dataclass, field

from flask import Flask, Response, abort, g, request

from local_omnifund.context import services
from local_omnifund.merchants import Merchant

COOKIE = "PHPSESSID"


@dataclass(slots=True)
class PortalSession:
    """What is remembered about a visitor. `save` writes it; nothing is written by itself."""

    username: str | None = None
    # The page that the visitor wanted before being asked to sign in: a path of ours with its query.
    target: str | None = None
    notice: str | None = None
    # A new client's id and secret, until the page that shows them once has been rendered.
    new_client: tuple[str, str] | None = None
    csrf_token: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def take_notice(self) -> str | None:
        """The message for the next page, which is forgotten by this."""
        notice, self.notice = self.notice, None
        if notice is not None:
            save(self)
        return notice

    def take_new_secret(self, client_id: str) -> str | None:
        """The secret of the client that was just created: the first time only."""
        if self.new_client is None or self.new_client[0] != client_id:
            return None
        secret = self.new_client[1]
        self.new_client = None
        save(self)
        return secret


def current() -> PortalSession:
    """The visitor's session; an empty one that is stored nowhere yet when there is none."""
    if "portal_session" not in g:
        session_id = request.cookies.get(COOKIE)
        contents = services().store.load_session(session_id) if session_id else None
        # An id that is not known is never adopted: the visitor gets a new one on saving.
        g.session_id = session_id if contents is not None else None
        g.portal_session = PortalSession(**(contents or {}))
    session: PortalSession = g.portal_session
    return session


def save(session: PortalSession) -> None:
    """Store the session, giving the visitor a session id when there is none yet."""
    if g.get("session_id") is None:
        g.session_id = g.new_session_id = secrets.token_urlsafe(32)
    services().store.save_session(g.session_id, asdict(session))


def start(session: PortalSession) -> None:
    """Make `session` the visitor's session under a new id; the old id is dead from now on."""
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
    """Refuse the form with status 400 unless it carries this visitor's token."""
    if not csrf_token_is_valid(request.form.get("_csrf_token")):
        abort(400, "This form has expired. Go back, load the page again and send it once more.")


def init_app(app: Flask) -> None:
    """Send the cookie after a new session id was made."""

    @app.after_request
    def send_cookie(response: Response) -> Response:
        if session_id := g.get("new_session_id"):
            response.set_cookie(
                COOKIE,
                session_id,
                path="/",
                httponly=True,
                samesite="Lax",
                secure=request.is_secure,
            )
        if "portal_session" in g and "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "max-age=0, must-revalidate, private"
            response.headers["Expires"] = "Thu, 01 Jan 1970 00:00:00 GMT"
        return response
