"""Error pages, security headers and health checks."""

import contextlib
import logging
from typing import cast
from urllib.parse import urlsplit

from flask import Flask, Response, render_template, request
from gunicorn.http.errors import ParseException
from redis.exceptions import RedisError
from werkzeug.exceptions import (
    BadHost,
    BadRequest,
    HTTPException,
    InternalServerError,
    MethodNotAllowed,
    ServiceUnavailable,
)
from werkzeug.wrappers import Response as BaseResponse

from local_omnifund import sessions
from local_omnifund.api import hydra_error
from local_omnifund.authorize import RedirectUriMismatch, redirect_uri_mismatch
from local_omnifund.context import services
from local_omnifund.merchants import Merchant

log = logging.getLogger(__name__)

SENTENCES = {
    400: "The request is malformed.",
    404: "No page exists at this URL.",
    405: "This URL doesn't accept this HTTP method.",
    413: "The request is larger than this server accepts.",
    500: "Something went wrong on this server. The request was not completed.",
    503: "Local OmniFund can't reach its Redis server right now. Try again in a few seconds.",
}

# No form-action: browsers apply it to redirects after a form too, and the consent form leads to the
# redirect URI of any client.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def init_app(app: Flask) -> None:
    """Register the error handlers, the security headers, and the health checks."""
    app.register_error_handler(RedirectUriMismatch, redirect_uri_mismatch)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(RedisError, _redis_error)
    app.register_error_handler(ParseException, _unreadable_body)
    app.register_error_handler(Exception, _unexpected_error)
    app.add_url_rule("/healthz", view_func=healthz)
    app.add_url_rule("/readyz", view_func=readyz)

    @app.after_request
    def add_security_headers(response: Response) -> Response:
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        if response.status_code == 308 and response.location:
            # Werkzeug's own, for another spelling of a path, on whatever host the request names.
            response.location = urlsplit(response.location)._replace(scheme="", netloc="").geturl()
        return response


def healthz() -> dict[str, str]:
    """200 while the process serves requests."""
    return {"status": "ok"}


def readyz() -> tuple[dict[str, str], int]:
    """200 if Redis responds, otherwise 503."""
    try:
        services().store.ping()
    except RedisError:
        return {"status": "unavailable", "reason": "Redis does not respond."}, 503
    return {"status": "ok"}, 200


def _http_error(error: HTTPException) -> BaseResponse | tuple[str, int, dict[str, str]]:
    """An error page, or under /api an error in Hydra's form."""
    if error.response is not None:
        return cast("BaseResponse", error.response)
    if isinstance(error, BadHost):
        # Pages have links, which cannot be built without a valid host.
        return Response(f"{SENTENCES[400]}\n", 400, mimetype="text/plain")
    if isinstance(error, MethodNotAllowed):
        # OmniFund names GET and POST only.
        allowed = set(error.valid_methods or ()) & {"GET", "POST"}
        error.valid_methods = sorted(allowed)
    if error.code is not None and error.code < 400:
        return Response(error.get_body(), error.code, error.get_headers())
    if request.path == "/api" or request.path.startswith("/api/"):
        return hydra_error(error)
    headers = {
        name: value for name, value in error.get_headers() if name in {"Allow", "Retry-After"}
    }
    return _page(error), error.code or 500, headers


def _page(error: HTTPException) -> str:
    # A description of this application is a sentence for a page; Werkzeug's standard ones are not.
    standard = type(error).description
    sentence = error.description if error.description != standard else None
    return render_template(
        "error.html",
        merchant=_merchant(error),
        code=error.code,
        title="Page not found" if error.code == 404 and sentence is None else error.name,
        sentence=sentence or SENTENCES.get(error.code or 500, "The request was rejected."),
    )


def _merchant(error: HTTPException) -> Merchant | None:
    """Who keeps the portal's navigation: not after a failure here, whose cause it may share."""
    if (error.code or 500) >= 500:
        return None
    with contextlib.suppress(RedisError):
        return sessions.signed_in_merchant()
    return None


def _unreadable_body(_: ParseException) -> BaseResponse | tuple[str, int, dict[str, str]]:
    """gunicorn parses a chunked body while it is read, so its errors arrive here."""
    return _http_error(BadRequest())


def _redis_error(error: RedisError) -> BaseResponse | tuple[str, int, dict[str, str]]:
    log.error("Redis does not respond: %s", type(error).__name__)
    return _http_error(ServiceUnavailable(SENTENCES[503], retry_after=5))


def _unexpected_error(error: Exception) -> BaseResponse | tuple[str, int, dict[str, str]]:
    log.error("unexpected error on %s %s", request.method, request.path, exc_info=error)
    return _http_error(InternalServerError())
