"""Every failure as a page: status, plain words, whose side it is on, what to do next.

One table maps the package's errors; one more maps HTTP's own. A page carries a reference id that is
in the log too, and never a text that a server or a query string supplied.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from flask import Flask, flash, g, jsonify, make_response, render_template, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from omnifund import errors
from omnifund.events import Event
from web import auth
from web.current import settings
from web.operations import log


class Side(NamedTuple):
    """Whose side a failure is on: a party of the picture above the headline, and in words."""

    party: str
    words: str


OMNIFUND: Final = Side("omnifund", "At OmniFund")
BROWSER: Final = Side("browser", "In your browser")
APP: Final = Side("app", "In this app")
YOU: Final = Side("", "Your choice")

STILL_SIGNED_IN: Final = "You're still signed in."


class Action(NamedTuple):
    """The way on: a link."""

    label: str
    url: str


class Problem(NamedTuple):
    """What a person reads about one kind of failure."""

    headline: str
    sentence: str
    whose_side: Side
    next_step: str


PROBLEMS: Final[dict[type[errors.OmniFundError], Problem]] = {
    errors.InvalidState: Problem(
        "This sign-in can't be completed",
        "It wasn't started in this browser, has already been completed, or is more than ten "
        "minutes old.",
        BROWSER,
        "Start a new sign-in from this browser.",
    ),
    errors.InvalidAuthorizationResponse: Problem(
        "This sign-in can't be completed",
        "The URL that returned you from OmniFund is malformed.",
        BROWSER,
        "Start a new sign-in from this browser.",
    ),
    errors.AccessDenied: Problem(
        "You denied access",
        "You chose Deny on OmniFund's page, so this app didn't get access to your account.",
        YOU,
        "To connect, sign in again and choose Allow.",
    ),
    errors.AuthorizationErrorResponse: Problem(
        "OmniFund rejected this sign-in",
        "OmniFund sent you back with an error.",
        OMNIFUND,
        "Try again. If the problem continues, give the reference ID below to this app's operator.",
    ),
    errors.InvalidGrant: Problem(
        "OmniFund rejected the sign-in code",
        "The authorization code had expired or was already used. Nothing changed in your account.",
        OMNIFUND,
        "Start the sign-in again.",
    ),
    errors.ClientMisconfigured: Problem(
        "This app isn't configured correctly for OmniFund",
        "OmniFund rejected this app's credentials or settings. You didn't cause this and can't fix "
        "it yourself.",
        APP,
        "Give the reference ID below to this app's operator.",
    ),
    errors.AccessForbidden: Problem(
        "You don't have permission to view this",
        "Your OmniFund user can't read these records.",
        OMNIFUND,
        "Ask your OmniFund account administrator for access.",
    ),
    errors.RecordNotFound: Problem(
        "Record not found",
        "This record doesn't exist, or no longer exists.",
        OMNIFUND,
        "Go back to the list.",
    ),
    errors.OmniFundUnavailable: Problem(
        "OmniFund is unavailable right now",
        "It may be down or under maintenance. Nothing changed in your account.",
        OMNIFUND,
        "Wait a moment, then try again.",
    ),
    errors.OmniFundTimeout: Problem(
        "OmniFund took too long to respond",
        "OmniFund may or may not have processed the request, so this app didn't send it again.",
        OMNIFUND,
        "Wait a moment, then try again.",
    ),
    errors.RefreshInProgress: Problem(
        "Your connection is being refreshed",
        "Another page you opened is refreshing it, which is taking longer than usual.",
        OMNIFUND,
        "Wait a moment, then try again.",
    ),
    errors.StoreUnavailable: Problem(
        "This app can't load your session right now",
        "Its session store is unavailable. You have not been signed out.",
        APP,
        "Wait a moment, then try again.",
    ),
    errors.InvalidResponse: Problem(
        "OmniFund sent an invalid response",
        "This app couldn't interpret the response, so it used none of it.",
        OMNIFUND,
        "Try again. If the problem continues, give the reference ID below to this app's operator.",
    ),
}

_HTTP_PROBLEMS: Final = {
    400: Problem(
        "This request can't be processed",
        "The form has expired, or the request is malformed.",
        BROWSER,
        "Go back, reload the page, and try again.",
    ),
    404: Problem(
        "Page not found", "This app has no page at that URL.", BROWSER,
        "Check the URL, or go to the home page.",
    ),
    405: Problem(
        "This page doesn't accept that kind of request",
        "The URL exists, but not for this HTTP method.", BROWSER, "Go to the home page.",
    ),
    413: Problem(
        "Request too large", "The request is larger than this app accepts.", BROWSER,
        "Send less data.",
    ),
    429: Problem(
        "Too many requests", "Your IP address sent too many requests in a short time.",
        BROWSER, "Wait a minute, then try again.",
    ),
    500: Problem(
        "Something went wrong", "This is this app's fault, not yours.", APP,
        "Try again. If the problem continues, give the reference ID below to this app's operator.",
    ),
}  # fmt: skip


def init_app(app: Flask) -> None:
    """Answer every failure of ``app`` with a page."""
    app.register_error_handler(errors.ReauthorizationRequired, _sign_in_again)
    app.register_error_handler(errors.OmniFundError, _omnifund_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _sign_in_again(error: errors.ReauthorizationRequired) -> BaseResponse:
    """The connection has ended: remove what is left of it, sign in, come back to this page."""
    auth.sign_out(Event.SIGNED_OUT, reason=error.reason)
    flash("connection_ended")
    return auth.to_sign_in()


def _omnifund_error(error: errors.OmniFundError) -> BaseResponse:
    g.handled_error = error
    problem = next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
    signing_in = request.blueprint == "auth" and request.endpoint != "auth.logout"
    level = "error" if problem.whose_side == APP else "warning"
    getattr(log, level)(
        "page:error:shown", status=error.status, kind=type(error).__name__, message=str(error)
    )
    says_so = isinstance(error, errors.StoreUnavailable)
    if (
        auth.is_signed_in()
        and (signing_in or isinstance(error, errors.Unavailable))
        and not says_so
    ):
        problem = problem._replace(sentence=f"{problem.sentence} {STILL_SIGNED_IN}")
    detail = None
    if (
        isinstance(error, errors.AuthorizationErrorResponse | errors.ClientMisconfigured)
        and error.code
    ):
        detail = f"OmniFund's error code: {error.code}"
    retry_after = error.retry_after if isinstance(error, errors.Unavailable) else None
    return render(
        problem,
        error.status,
        actions=_ways_on(error, signing_in),
        detail=detail,
        retry_after=retry_after,
        cause=f"{type(error).__name__}: {error}",
    )


def _http_error(error: HTTPException) -> BaseResponse:
    if error.response is not None or (error.code or 500) < 400:
        return error.get_response()
    cause = getattr(error, "original_exception", None)
    if isinstance(cause, errors.OmniFundError):
        # Raised while an answer was being made, for instance by Redis while a session was removed.
        return _omnifund_error(cause)
    status = error.code or 500
    problem = _HTTP_PROBLEMS.get(status, _HTTP_PROBLEMS[400 if status < 500 else 500])
    response = render(problem, status, actions=(_front_page(),))
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _unexpected(error: Exception) -> BaseResponse:
    g.handled_error = error
    log.error("page:error:unexpected", exc_info=error)
    return render(
        _HTTP_PROBLEMS[500],
        500,
        actions=(_front_page(),),
        cause=type(error).__name__,
    )


def render(
    problem: Problem,
    status: int,
    *,
    actions: tuple[Action, ...],
    detail: str | None = None,
    retry_after: int | None = None,
    cause: str | None = None,
) -> BaseResponse:
    """Return the error as a page, or as JSON for a client that prefers it.

    ``cause``: what developers read, shown while the inspector is on.
    """
    reference = str(g.get("request_id", ""))
    response: BaseResponse
    if request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json":
        response = jsonify(error=problem.headline, detail=problem.sentence, reference=reference)
    else:
        response = make_response(
            render_template(
                "error.html",
                **problem._asdict(),
                actions=actions,
                status=status,
                detail=detail,
                reference=reference,
                cause=cause if settings().flow_inspector else None,
            )
        )
    response.status_code = status
    if retry_after is not None:
        response.headers["Retry-After"] = str(max(1, retry_after))
    return response


def _ways_on(error: errors.OmniFundError, signing_in: bool) -> tuple[Action, ...]:
    dashboard = Action("Go to the dashboard", url_for("pages.dashboard"))
    if signing_in:
        # Not the callback again: its attempt has been used. And where only the operator can mend
        # something, another try would end here once more.
        mendable = not isinstance(error, errors.ClientMisconfigured)
        again = Action("Sign in again", url_for("auth.login")) if mendable else _front_page()
        return (again, dashboard) if auth.is_signed_in() else (again,)
    if request.method == "GET":
        again = Action("Try again", request.full_path.rstrip("?"))
        # The way out must not be the page that has just failed.
        is_out = auth.is_signed_in() and request.endpoint != "pages.dashboard"
        return (again, dashboard) if is_out else (again,)
    return (dashboard,)


def _front_page() -> Action:
    return Action("Go to the home page", url_for("pages.landing"))
