"""Every failure as a page: status, plain words, whose side it is on, what to do next.

One table maps the package's errors; one more maps HTTP's own. A page carries a reference id that is
in the log too, and never a text that a server or a query string supplied.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NamedTuple

from flask import Flask, g, jsonify, make_response, render_template, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from omnifund import errors, trace
from omnifund.events import Event
from web import visitor
from web.integration import integration
from web.notices import notify
from web.operations import log
from web.recording import is_worth_keeping


class Side(NamedTuple):
    """Whose side a failure is on: a party of the picture above the headline, and in words."""

    party: str
    words: str


OMNIFUND: Final = Side("omnifund", "OmniFund's side")
BROWSER: Final = Side("browser", "Your browser's side")
APP: Final = Side("app", "Our side")
YOU: Final = Side("", "Your decision")

STILL_SIGNED_IN: Final = "You are still signed in here."


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
    errors.AttemptInvalid: Problem(
        "This sign-in cannot be finished",
        "It was not begun in this browser, is finished already, or is older than ten minutes.",
        BROWSER,
        "Start a new sign-in from this browser.",
    ),
    errors.CallbackMalformed: Problem(
        "This sign-in cannot be finished",
        "The address that brought you back from OmniFund is not of the right form.",
        BROWSER,
        "Start a new sign-in from this browser.",
    ),
    errors.AccessDenied: Problem(
        "You declined the connection",
        "You chose Deny on OmniFund's page, so this app got no access to your account.",
        YOU,
        "If you did not mean to, sign in again and choose Allow.",
    ),
    errors.AuthorizationRefused: Problem(
        "OmniFund did not allow this sign-in",
        "OmniFund sent you back with an error.",
        OMNIFUND,
        "Try again; if it stays like this, give the reference below to whoever runs this app.",
    ),
    errors.GrantRejected: Problem(
        "OmniFund did not accept this sign-in",
        "The code that brought you back was too old, or had been used before. Nothing has "
        "changed in your account.",
        OMNIFUND,
        "Start the sign-in again.",
    ),
    errors.ClientMisconfigured: Problem(
        "This app is not set up correctly with OmniFund",
        "OmniFund does not accept this app's own credentials or settings. It is not your mistake, "
        "and you cannot mend it.",
        APP,
        "Give the reference below to whoever runs this app.",
    ),
    errors.AccessForbidden: Problem(
        "OmniFund does not let you see this",
        "Your OmniFund user is not allowed to read these records.",
        OMNIFUND,
        "Ask the administrator of your OmniFund account for the permission.",
    ),
    errors.RecordNotFound: Problem(
        "OmniFund has no such record",
        "The record does not exist, or not any more.",
        OMNIFUND,
        "Go back to the list.",
    ),
    errors.OmniFundUnavailable: Problem(
        "OmniFund cannot be reached right now",
        "It may be down, or somebody is working on it. Nothing has changed in your account.",
        OMNIFUND,
        "Wait a moment, then try again.",
    ),
    errors.OmniFundTimeout: Problem(
        "OmniFund took too long to answer",
        "Whether it did what it was asked for is not known, so it was not asked a second time.",
        OMNIFUND,
        "Wait a moment, then try again.",
    ),
    errors.RefreshBusy: Problem(
        "Your connection is being renewed",
        "Another page of yours is renewing the connection with OmniFund, and it takes longer than "
        "usual.",
        OMNIFUND,
        "Wait a moment, then try again.",
    ),
    errors.StoreUnavailable: Problem(
        "This app cannot look up your sign-in right now",
        "It cannot reach the place where it keeps sign-ins. You have not been signed out.",
        APP,
        "Wait a moment, then try again.",
    ),
    errors.InvalidResponse: Problem(
        "OmniFund's answer could not be read",
        "It sent something that this app does not understand, so this app believed none of it.",
        OMNIFUND,
        "Try again; if it stays like this, give the reference below to whoever runs this app.",
    ),
}

_HTTP_PROBLEMS: Final = {
    400: Problem(
        "This request cannot be answered",
        "The form has expired, or the request is not of the right form.",
        BROWSER,
        "Go back, reload the page and try once more.",
    ),
    404: Problem(
        "There is no such page", "The address leads nowhere in this app.", BROWSER,
        "Check the address, or start from the front page.",
    ),
    405: Problem(
        "This address is used in another way", "The page does not answer this kind of "
        "request.", BROWSER, "Start from the front page.",
    ),
    413: Problem(
        "That is too much at once", "The request is larger than this app accepts.", BROWSER,
        "Send less.",
    ),
    429: Problem(
        "Too many tries", "There were too many requests from your address in a short time.",
        BROWSER, "Wait a minute, then try again.",
    ),
    500: Problem(
        "Something went wrong here", "It is this app's fault, not yours.", APP,
        "Try again; if it stays like this, give the reference below to whoever runs this app.",
    ),
}  # fmt: skip

_SIGN_IN_EVENTS: Final[dict[type[errors.OmniFundError], Event]] = {
    errors.AttemptInvalid: Event.SIGN_IN_INVALID,
    errors.AccessDenied: Event.SIGN_IN_DENIED,
    errors.AuthorizationRefused: Event.SIGN_IN_REFUSED,
    errors.OmniFundError: Event.SIGN_IN_FAILED,
}


def init_app(app: Flask) -> None:
    """Answer every failure of ``app`` with a page."""
    app.register_error_handler(errors.SignInRequired, _sign_in_again)
    app.register_error_handler(errors.OmniFundError, _omnifund_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _sign_in_again(error: errors.SignInRequired) -> BaseResponse:
    """The connection has ended: remove what is left of it, sign in, come back to this page."""
    trace.failed(error)
    visitor.sign_out(Event.SIGNED_OUT, reason=error.reason)
    response = visitor.to_sign_in()
    notify(response, "connection_ended")
    return response


def _omnifund_error(error: errors.OmniFundError) -> BaseResponse:
    trace.failed(error)
    problem = next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
    signing_in = request.blueprint == "sign_in" and request.endpoint != "sign_in.logout"
    if signing_in:
        _observe_failed_sign_in(error)
    level = "error" if problem.whose_side == APP else "warning"
    getattr(log, level)(
        "page:error:shown", status=error.status, kind=type(error).__name__, message=str(error)
    )
    _look_who_is_here(error)
    says_so = isinstance(error, errors.StoreUnavailable)
    if visitor.is_known() and (signing_in or isinstance(error, errors.Unavailable)) and not says_so:
        problem = problem._replace(sentence=f"{problem.sentence} {STILL_SIGNED_IN}")
    detail = None
    if isinstance(error, errors.AuthorizationRefused | errors.ClientMisconfigured) and error.code:
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


def _look_who_is_here(error: errors.OmniFundError) -> None:
    """Find out whether somebody is signed in: a failed sign-in takes nothing from them."""
    if not isinstance(error, errors.StoreUnavailable):
        with suppress(errors.StoreUnavailable):
            visitor.connection()


def _observe_failed_sign_in(error: errors.OmniFundError) -> None:
    event = next(_SIGN_IN_EVENTS[kind] for kind in type(error).__mro__ if kind in _SIGN_IN_EVENTS)
    integration().observe(event, reason=type(error).__name__)


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
    made = trace.current()
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
                cause=cause if integration().settings.flow_inspector else None,
                recorded=made is not None and is_worth_keeping(made),
            )
        )
    response.status_code = status
    if retry_after is not None:
        response.headers["Retry-After"] = str(max(1, retry_after))
    return response


def _ways_on(error: errors.OmniFundError, signing_in: bool) -> tuple[Action, ...]:
    dashboard = Action("Back to the dashboard", url_for("pages.dashboard"))
    if signing_in:
        # Not the callback again: its attempt has been used. And where only the operator can mend
        # something, another try would end here once more.
        mendable = not isinstance(error, errors.ClientMisconfigured)
        again = Action("Sign in again", url_for("sign_in.login")) if mendable else _front_page()
        return (again, dashboard) if visitor.is_known() else (again,)
    if request.method == "GET":
        again = Action("Try again", request.full_path.rstrip("?"))
        # The way out must not be the page that has just failed.
        is_out = visitor.is_known() and request.endpoint != "pages.dashboard"
        return (again, dashboard) if is_out else (again,)
    return (dashboard,)


def _front_page() -> Action:
    return Action("To the front page", url_for("pages.landing"))
