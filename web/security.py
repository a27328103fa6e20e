"""CSRF tokens, and the security headers of every response."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, request
from flask_wtf.csrf import CSRFError, ValidationError, generate_csrf, validate_csrf

from config import LOOPBACK_HOSTS, Settings
from web import current

View = TypeVar("View", bound=Callable[..., Any])

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_FORM_ACTION: Final = "omnifund.form_action"
_ONE_YEAR: Final = 365 * 24 * 3600

_HEADERS: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'{}; base-uri 'none'; "
    "object-src 'none'; frame-ancestors 'none'"
)


def init_app(app: Flask, settings: Settings) -> None:
    """Protect ``app``."""
    # Bound to the session instead of to a time: a page may stay open as long as its session.
    app.config["WTF_CSRF_TIME_LIMIT"] = None
    app.jinja_env.globals["csrf_token"] = generate_csrf
    app.before_request(_check_form)
    app.after_request(_security_headers(settings))


# --- CSRF ----------------------------------------------------------------------------------------


def checks_csrf_itself(view: View) -> View:
    """Mark a view that calls ``check_csrf`` once it knows that there is something to protect."""
    view.checks_csrf_itself = True  # type: ignore[attr-defined]  # a mark, read below
    return view


def check_csrf() -> None:
    """Refuse the request with 400 unless it carries the session's CSRF token."""
    token = request.form.get("csrf_token") or request.headers.get("X-CSRFToken")
    # While SECRET_KEY changes, some servers of a fleet sign with the old key and some with the new.
    for key in current.settings().secret_keys:
        with suppress(ValidationError):
            validate_csrf(token, secret_key=key)
            return
    raise CSRFError


def _check_form() -> None:
    view = current_app.view_functions.get(request.endpoint or "")
    if view and request.method not in _SAFE_METHODS and not hasattr(view, "checks_csrf_itself"):
        check_csrf()


# --- headers -------------------------------------------------------------------------------------


def allow_form_action(base_url: str) -> None:
    """Let the forms of the page that is being made lead to the origin of ``base_url`` too."""
    request.environ[_FORM_ACTION] = urlsplit(base_url)._replace(path="").geturl()


def _security_headers(settings: Settings) -> Callable[[Response], Response]:
    fixed = dict(_HEADERS)
    is_local = urlsplit(settings.omnifund_redirect_uri).hostname in LOOPBACK_HOSTS
    if settings.secure_cookies and not is_local and settings.hsts != "off":
        below = "; includeSubDomains" if settings.hsts == "subdomains" else ""
        fixed["Strict-Transport-Security"] = f"max-age={_ONE_YEAR}{below}"

    def add_headers(response: Response) -> Response:
        elsewhere = request.environ.get(_FORM_ACTION)
        policy = _CONTENT_SECURITY_POLICY.format(f" {elsewhere}" if elsewhere else "")
        response.headers.update({**fixed, "Content-Security-Policy": policy})
        # A static file says itself how long it may be kept.
        if "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
            response.vary.add("Cookie")
        return response

    return add_headers
