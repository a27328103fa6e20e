"""Signing in and out: ``/login``, ``/callback``, ``/login/password``, ``/logout``."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlsplit

from flask import Blueprint, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from config import LOOPBACK_HOSTS
from omnifund import trace
from omnifund.attempts import Attempt, Claim
from omnifund.callback import read, state_of
from omnifund.errors import AttemptInvalid, GrantRejected
from omnifund.events import Event
from omnifund.trace import Check
from web import recording, visitor
from web.integration import integration
from web.next_path import safe_next_path
from web.notices import notify
from web.security import check_csrf, checks_csrf_itself

blueprint = Blueprint("sign_in", __name__)

# Marks a request that has been sent to the redirect URI's own loopback name already. A proxy may
# rewrite Host to whatever it likes; with the mark that can never become a loop.
MOVED: Final = "moved"


@blueprint.get("/login")
def login() -> BaseResponse:
    """Send the merchant to OmniFund (manual, authorization code work-flow, step 2)."""
    if not _is_navigation():
        abort(400, "A sign-in starts only when this page is opened in a browser tab.")
    if (origin := other_loopback_origin()) is not None:
        next_path = safe_next_path(request.args.get("next")) or url_for("pages.dashboard")
        return redirect(
            f"{origin}{url_for('sign_in.login')}?next={quote(next_path, safe='/')}&{MOVED}=1"
        )
    _attempt, response = start(safe_next_path(request.args.get("next")))
    return response


@blueprint.get("/callback")
def callback() -> BaseResponse:
    """Finish what ``/login`` began (manual, steps 4 and 5): match, claim, redeem, sign in."""
    if request.method == "HEAD":
        abort(405, valid_methods=["GET"])
    parts = integration()
    query = list(request.args.items(multi=True))
    attempt = parts.attempts.find(state_of(query), request.cookies, now=parts.clock())
    recording.retell_start(attempt, login)
    claim, handle = parts.attempts.claim(attempt)
    if claim is not Claim.WON:
        return _repeated(handle)
    try:
        code = read(query, attempt, issuer=parts.gateway.issuer)
        token = parts.gateway.redeem(code)
    except Exception:
        parts.attempts.fail(attempt)
        raise
    visitor.sign_in(token, attempt=attempt, workflow="authorization_code")
    return redirect(attempt.next_path, code=303)


@blueprint.route("/login/password", methods=["GET", "POST"])
@checks_csrf_itself
def password() -> BaseResponse | str | tuple[str, int]:
    """Sign in with the merchant's own credentials (manual, password work-flow)."""
    parts = integration()
    if not parts.settings.password_grant:
        abort(404)
    next_path = safe_next_path(request.values.get("next"))
    if request.method == "GET":
        return _password_form(next_path)
    check_csrf()
    username = request.form.get("username", "")
    secret = request.form.get("password", "")
    if not username.strip() or not secret:
        return _password_form(next_path, username, "Enter your username and password."), 400
    try:
        token = parts.gateway.password(username, secret)
    except GrantRejected:
        # One answer for both: which usernames exist is nobody's business.
        parts.observe(Event.SIGN_IN_FAILED, workflow="password", reason="GrantRejected")
        problem = "Incorrect username or password."
        return _password_form(next_path, username, problem), 401
    visitor.sign_in(token, workflow="password")
    return redirect(next_path or url_for("pages.dashboard"), code=303)


@blueprint.post("/logout")
@checks_csrf_itself
def logout() -> BaseResponse:
    """End the session, here and in the browser."""
    # A visitor who is not signed in has no CSRF token and nothing to lose.
    if visitor.connection() is not None:
        check_csrf()
        visitor.sign_out()
    response = redirect(url_for("pages.landing"), code=303)
    recording.forget_in_browser(response)
    notify(response, "signed_out")
    return response


# --- the parts of /login ---------------------------------------------------------------------


def start(next_path: str | None = None) -> tuple[Attempt, BaseResponse]:
    """Begin a sign-in: return the attempt, and the redirect that takes the browser to OmniFund."""
    begun = integration().start(request.cookies, next_path or url_for("pages.dashboard"))
    response = redirect(begun.url)
    for cookie in begun.cookies:
        response.set_cookie(**cookie)
    return begun.attempt, response


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


def other_loopback_origin() -> str | None:
    """Return the redirect URI's origin when the visitor came by another name of this machine.

    The cookie of an attempt belongs to the host that set it: somebody who came to 127.0.0.1 would
    be sent back to localhost without it. With another port it is a proxy that has rewritten Host.
    Whoever redirects there adds ``MOVED`` to the query, and is not sent on a second time.
    """
    target = urlsplit(integration().settings.omnifund_redirect_uri)
    here = urlsplit(f"//{request.host}")
    if (
        {here.hostname, target.hostname} <= LOOPBACK_HOSTS
        and here.hostname != target.hostname
        and here.port == target.port
        and MOVED not in request.args
    ):
        return f"{target.scheme}://{target.netloc}"
    return None


# --- the parts of /callback ------------------------------------------------------------------


def _repeated(handle: str | None) -> BaseResponse:
    """Answer a callback whose attempt has been used: a reload, Back, or a double click.

    When the sign-in was finished, the browser gets to where it would have got. It may have missed
    the first answer and with it the session, so it is given the same session once more.
    """
    if handle is None:
        raise AttemptInvalid("the sign-in attempt has been used")
    trace.checked(Check.ATTEMPT_FINISHED)
    if visitor.connection() is None:
        visitor.resume(handle)
    integration().observe(Event.SIGN_IN_REPEATED)
    return redirect(url_for("pages.dashboard"), code=303)


def _password_form(next_path: str | None, username: str = "", problem: str | None = None) -> str:
    return render_template(
        "password.html", next_path=next_path, username=username[:200], problem=problem
    )
