"""Every failure as a page: status, plain words, where it happened, what to do next.

The words are in ``templates/_problems.html`` and ``error.html``. A page has a reference ID that is
in the log too, and never a text that a server or a query string supplied.
"""

from __future__ import annotations

from typing import Any, Final

from flask import (
    Flask,
    flash,
    g,
    get_template_attribute,
    jsonify,
    make_response,
    render_template,
    request,
)
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from omnifund import errors
from web import auth
from web.current import settings
from web.logging import log

STILL_SIGNED_IN: Final = "You're still signed in."

# What a browser that keeps no cookies runs into.
_NEEDS_COOKIES: Final = (errors.InvalidState, CSRFError)


def init_app(app: Flask) -> None:
    """Respond to every failure of ``app`` with a page."""
    log_exception = app.log_exception

    def log_unexpected(exc_info: Any) -> None:
        # Flask's line has a traceback, for instance when a session cannot be saved.
        if not isinstance(exc_info[1], errors.OmniFundError):
            log_exception(exc_info)

    app.log_exception = log_unexpected  # type: ignore[method-assign]  # Flask documents it to be overridden
    app.register_error_handler(errors.ReauthorizationRequired, _sign_in_again)
    app.register_error_handler(errors.OmniFundError, _omnifund_error)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(Exception, _unexpected)


def problem_for(error: Exception) -> dict[str, str]:
    """Return the words for ``error``: a copy of its row in the table of problems."""
    problems: dict[str, dict[str, str]] = get_template_attribute("_problems.html", "problems")
    if isinstance(error, HTTPException):
        status = error.code or 500
        names = [str(status), "400" if status < 500 else "500"]
    else:
        names = [*(kind.__name__ for kind in type(error).__mro__), "500"]
    own = (name.removeprefix("__Host-").startswith("omnifund_") for name in request.cookies)
    if isinstance(error, _NEEDS_COOKIES) and not any(own):
        names = ["NoCookies"]
    return dict(problems[next(name for name in names if name in problems)])


def _sign_in_again(error: errors.ReauthorizationRequired) -> BaseResponse:
    """The connection has ended: delete what is left of it, sign in, return to this page."""
    g.handled_error = error
    auth.sign_out(cause=error.reason)
    flash("connection_ended")
    return auth.to_sign_in()


def _omnifund_error(error: errors.OmniFundError) -> BaseResponse:
    problem = problem_for(error)
    note = log.error if problem["side"] == "app" else log.warning
    note("page:error:shown", status=error.status, kind=type(error).__name__, message=str(error))
    # The words about a store that is unavailable say so already.
    if auth.is_signed_in() and (_is_sign_in() or isinstance(error, errors.Unavailable)):
        problem["sentence"] += f" {STILL_SIGNED_IN}"
    cause = f"{type(error).__name__}: {error}"
    code = getattr(error, "code", None)
    response = _render(error, error.status, problem, cause=cause, code=code)
    if isinstance(error, errors.Unavailable):
        response.headers["Retry-After"] = str(max(1, error.retry_after))
    return response


def http_error(error: HTTPException) -> BaseResponse:
    """Return the page about ``error``."""
    if error.response is not None or (error.code or 500) < 400:
        return error.get_response()
    # Raised while a response was being made, for instance by Redis while a session was saved.
    cause = getattr(error, "original_exception", None)
    if isinstance(error, CSRFError):
        # Without its session a form cannot be checked, which does not mean that it has expired.
        cause = auth.store_failure()
    if isinstance(cause, errors.OmniFundError):
        return _omnifund_error(cause)
    response = _render(error, error.code or 500, problem_for(error))
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _unexpected(error: Exception) -> BaseResponse:
    log.error("page:error:unexpected", exc_info=error)
    return _render(error, 500, problem_for(error), cause=type(error).__name__)


def _render(
    error: Exception,
    status: int,
    problem: dict[str, str],
    *,
    cause: str | None = None,
    code: str | None = None,
) -> BaseResponse:
    """Return the error as a page, or as JSON for a client that prefers it.

    ``cause``: what developers read, shown while the inspector is on. ``code``: OmniFund's.
    """
    g.handled_error = error
    reference = str(g.get("request_id", ""))
    if request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json":
        words = {"error": problem["headline"], "detail": problem["sentence"]}
        return make_response(jsonify(**words, reference=reference), status)
    page = render_template(
        "error.html",
        **problem,
        ways_on=_ways_on(error),
        status=status,
        code=code,
        reference=reference,
        cause=cause if settings().flow_inspector else None,
    )
    return make_response(page, status)


def _is_sign_in() -> bool:
    return request.blueprint == "auth" and request.endpoint != "auth.logout"


def _ways_on(error: Exception) -> list[str]:
    """Return the ways on from the page about ``error``, by their names in ``error.html``."""
    # Not to the page that has just failed.
    onward = ["dashboard"] if auth.is_signed_in() and request.endpoint != "pages.dashboard" else []
    if not isinstance(error, errors.OmniFundError):
        return onward or ["home"]
    if _is_sign_in():
        # Not the callback again: its state has been used. And where only the operator can help,
        # another try would end here once more.
        helpless = isinstance(error, errors.ClientMisconfigured)
        first = "home" if helpless else "sign_in"
        # A merchant who is signed in lost nothing because OmniFund or this app failed.
        is_theirs = not helpless and not isinstance(error, errors.Unavailable)
        return [first, *onward] if is_theirs else [*onward, first]
    if request.method == "GET":
        return ["again", *onward]
    return ["sign_out", "dashboard"] if request.endpoint == "auth.logout" else ["dashboard"]
