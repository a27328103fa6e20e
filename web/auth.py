"""Signing in and out (``/login``, ``/callback``, ``/login/password``, ``/logout``), and by whom a
page is requested. The only module that uses ``flask.session``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

from flask import Blueprint, Response, abort, flash, redirect, render_template, request, url_for
from flask import session as flask_session
from werkzeug.wrappers import Response as BaseResponse

from config import LOOPBACK_HOSTS
from omnifund.client import Redirect
from omnifund.connections import StoredToken
from omnifund.encryption import fingerprint
from omnifund.errors import InvalidGrant, StoreUnavailable
from omnifund.events import Event
from omnifund.redis_client import Command
from web import sessions
from web.current import omnifund, settings
from web.security import csrf
from web.sessions import MerchantSession

blueprint = Blueprint("auth", __name__)

MOVED: Final = "moved"
"""Marks a request that was already redirected to the redirect URI's host, so it never loops."""

# In a visitor's session: a page required signing in; the visitor signed out in this browser.
_INTERRUPTED: Final = "interrupted"
_SIGNED_OUT: Final = "signed_out"


@dataclass(frozen=True, slots=True)
class Connection:
    """A signed-in merchant's connection: its ID, the token as just read, and since when (Unix)."""

    id: str
    stored: StoredToken
    signed_in_at: int


# --- the pages -----------------------------------------------------------------------------------


@blueprint.get("/login")
def login() -> BaseResponse | str:
    """Send the merchant to OmniFund (manual, authorization code flow, step 2)."""
    if not _is_navigation():
        abort(400, "A sign-in starts only when a person opens this page.")
    next_path = omnifund().safe_next(request.args.get("next")) or url_for("pages.dashboard")
    if (origin := origin_to_move_to()) is not None:
        return redirect(f"{origin}{login_url(next_path)}&{MOVED}=1")
    if _session().pop(_INTERRUPTED, False):
        return render_template(
            "sign_in.html",
            continue_url=login_url(next_path),
            has_signed_out=_SIGNED_OUT in _session(),
        )
    return start(next_path)


@blueprint.get("/callback")
def callback() -> BaseResponse:
    """Complete what ``/login`` started (manual, steps 4 and 5)."""
    if request.method == "HEAD":
        abort(405, valid_methods=["GET"])
    earlier = sessions.current().presented_id()
    sign_in = omnifund().handle_callback(
        request.query_string, request.cookies, current=earlier, also=_session_command
    )
    if sign_in.is_new:
        _start_session(sign_in.connection_id, earlier)
    elif connection() is None:
        _session().start(sign_in.connection_id)
    return redirect(sign_in.next, code=303)


@blueprint.route("/login/password", methods=["GET", "POST"])
@csrf.exempt
def password() -> BaseResponse | str | tuple[str, int]:
    """Sign in with the merchant's own credentials (manual, password)."""
    if not settings().password_grant:
        abort(404)
    next_path = omnifund().safe_next(request.values.get("next"))
    if request.method != "POST":
        return _password_form(next_path)
    csrf.protect()
    username, secret = request.form.get("username", ""), request.form.get("password", "")
    if not username.strip() or not secret:
        return _password_form(next_path, username, "Enter your username and your password."), 400
    try:
        earlier = sessions.current().presented_id()
        sign_in = omnifund().sign_in_with_password(
            username, secret, next_path, current=earlier, also=_session_command
        )
    except InvalidGrant:
        # One message for both, so that it does not reveal which usernames exist.
        problem = "Incorrect username or password. Try again."
        return _password_form(next_path, username, problem), 401
    _start_session(sign_in.connection_id, earlier)
    return redirect(sign_in.next, code=303)


@blueprint.post("/logout")
@csrf.exempt
def logout() -> BaseResponse:
    """End the session, here and in the browser."""
    # A visitor who is not signed in has no CSRF token and nothing to lose.
    if connection() is not None:
        csrf.protect()
        sign_out()
        _session().is_ended = True
        _session()[_SIGNED_OUT] = True
        flash("signed_out")
    return redirect(url_for("pages.landing"), code=303)


# --- who is visiting -----------------------------------------------------------------------------


def connection() -> Connection | None:
    """Return the visitor's connection, or ``None`` when they are not signed in.

    Raises ``StoreUnavailable``.
    """
    session = _session()
    if session.failure is not None:
        raise session.failure
    if not session.is_stored or session.token is None:
        return None
    return Connection(str(session.sid), session.token, session["signed_in_at"])


def is_signed_in() -> bool:
    """Whether the visitor has a connection; false when Redis has failed."""
    return store_failure() is None and connection() is not None


def store_failure() -> StoreUnavailable | None:
    """Return why this request could not read the session from Redis, if it could not."""
    return _session().failure


def signed_in_only(view: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the visitor's ``Connection`` to the view, or send the visitor to sign in and return."""

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        current = connection()
        return to_sign_in() if current is None else view(current, *args, **kwargs)

    return wrapper


def to_sign_in(here: str | None = None) -> BaseResponse:
    """Redirect to the sign-in, from which the visitor returns to ``here``, or to this page."""
    if here is None and request.method == "GET":
        here = request.script_root + request.full_path.rstrip("?")
    was_here = _SIGNED_OUT in _session() or sessions.current().presented_id() is not None
    if was_here and request.headers.get("Sec-Fetch-Mode") == "navigate":
        # A page of this app comes first and says why. Browsers also apply form-action to the
        # redirects after a form, and what leads from that page to OmniFund is no such redirect.
        _session()[_INTERRUPTED] = True
    return redirect(login_url(omnifund().safe_next(here) or url_for("pages.dashboard")))


def login_url(next_path: str) -> str:
    """Return ``/login?next=…``; url_for would escape the slashes too, and people read this URL."""
    return f"{url_for('auth.login')}?next={quote(next_path, safe='/')}"


def sign_out(**facts: Any) -> None:
    """End the session in Redis and in the browser. Raises ``StoreUnavailable``."""
    sid = sessions.current().presented_id()
    if sid is not None:
        sessions.current().delete(sid)
        omnifund().on_event(Event.SIGNED_OUT, session=fingerprint(sid), **facts)
    _session().end()


# --- the parts of a sign-in ----------------------------------------------------------------------


def start(next_path: str | None = None) -> BaseResponse:
    """Return the redirect that takes the browser to OmniFund, with its cookies."""
    started = omnifund().create_authorization_request(request.cookies, next_path)
    return with_cookies(redirect(started.url), started)


def with_cookies(response: BaseResponse, started: Redirect) -> BaseResponse:
    """Give ``response`` the cookies of an authorization request; return it."""
    for cookie in started.cookies:
        response.set_cookie(**cookie)
    return response


def _session_command(sid: str) -> Sequence[Command]:
    """Return what stores the session ``sid`` in the same round trip as its tokens."""
    # The token of Flask-WTF's forms is made now, which saves writing the session later.
    data = {"signed_in_at": int(omnifund().clock()), "csrf_token": secrets.token_urlsafe(16)}
    if "_flashes" in _session():  # why the merchant had to sign in again
        data["_flashes"] = _session()["_flashes"]
    return [sessions.current().store_command(sid, data)]


def _start_session(sid: str, earlier: str | None) -> None:
    _session().start(sid)
    if earlier is not None:
        # The new sign-in stands even if this fails: the old record has a lifetime of its own.
        with suppress(StoreUnavailable):
            sessions.current().delete(earlier)


def _is_navigation() -> bool:
    """Whether a person is opening this page in a tab (Fetch Metadata; absent in old browsers)."""
    headers = request.headers
    purposes = [headers.get(name, "") for name in ("Sec-Purpose", "Purpose", "X-Moz")]
    if request.method == "HEAD" or any("prefetch" in purpose for purpose in purposes):
        return False
    if headers.get("X-Requested-With") == "XMLHttpRequest":
        return False
    mode, destination = headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")
    return mode in (None, "navigate") and destination in (None, "document")


def origin_to_move_to() -> str | None:
    """Return the redirect URI's origin when the visitor came by another name of this app.

    The cookie of an authorization request belongs to the host that set it: a browser that started
    at 127.0.0.1 or www.shop.example would return to localhost or app.shop.example without it. Any
    other host is one that a proxy has put into the request. Who redirects there adds ``MOVED``.
    """
    # Werkzeug's request.host is empty for a name with an underscore, which DNS and browsers allow.
    host = request.host or request.headers.get("Host", "")  # checked by web/incoming.py
    here = urlsplit(f"//{host}")
    target = urlsplit(settings().omnifund_redirect_uri)
    name, wanted = here.hostname or "", target.hostname or ""
    is_loopback = {name, wanted} <= LOOPBACK_HOSTS and here.port == target.port
    # Below one domain, such as shop.example, or it and a name below it; IP addresses have none.
    shared = {name, name.partition(".")[2]} & {wanted, wanted.partition(".")[2]}
    is_sibling = any("." in domain and not domain[-1].isdigit() for domain in shared)
    if MOVED in request.args or name == wanted or not (is_loopback or is_sibling):
        return None
    return f"{target.scheme}://{target.netloc}"


@blueprint.after_app_request
def _delete_surplus_cookies(response: Response) -> Response:
    for cookie in omnifund().surplus_cookies(request.cookies):
        response.set_cookie(**cookie)
    return response


def _password_form(next_path: str | None, username: str = "", problem: str | None = None) -> str:
    return render_template(
        "password.html", next_path=next_path, username=username[:200], problem=problem
    )


def _session() -> MerchantSession:
    return cast(MerchantSession, cast(Any, flask_session)._get_current_object())
