"""What protects every page: headers, CSRF tokens, believed proxies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from flask import Flask, Response, abort, g, request
from flask_wtf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.sansio.utils import host_is_trusted

from config import Settings
from web import visitor

View = TypeVar("View", bound=Callable[..., Any])

_csrf: Final = CSRFProtect()

MAX_FORM_BYTES: Final = 64 * 1024

_OWN_FORMS: Final = "form-action 'self'"
_CONTENT_SECURITY_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        _OWN_FORMS,
        "base-uri 'none'",
        "object-src 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS: Final = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ONE_YEAR: Final = 365 * 24 * 3600


def init_app(app: Flask, settings: Settings) -> None:
    """Protect ``app``."""
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_FORM_BYTES,
        MAX_FORM_MEMORY_SIZE=MAX_FORM_BYTES,
        # Bound to the session instead of to a time: a page may stay open as long as its session.
        WTF_CSRF_TIME_LIMIT=None,
        # Browsers send no Referer from pages with Referrer-Policy: no-referrer.
        WTF_CSRF_SSL_STRICT=False,
        # What counts is the random token in the session. The signature around it adds nothing, and
        # with SECRET_KEY machines in the middle of a key rotation would refuse each other's forms.
        WTF_CSRF_SECRET_KEY="signature-only",
    )
    _csrf.init_app(app)
    app.jinja_env.globals["csrf_token"] = visitor.csrf_token
    if settings.allowed_hosts:
        app.before_request(_check_host(settings.allowed_hosts))
    app.after_request(_add_headers(settings))
    if (proxies := settings.trusted_proxies) > 0:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]  # as Werkzeug documents it
            app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies, x_port=proxies
        )


def checks_csrf_itself(view: View) -> View:
    """Mark a view that calls ``check_csrf`` once it knows that there is something to protect."""
    _csrf.exempt(view)
    return view


def check_csrf() -> None:
    """Refuse the request with 400 unless it carries the session's CSRF token."""
    _csrf.protect()


def _check_host(allowed: tuple[str, ...]) -> Callable[[], None]:
    # Not Flask's TRUSTED_HOSTS: that one fails so early that no page can be made of it.
    def check_host() -> None:
        if not host_is_trusted(request.host, allowed):
            abort(400)

    return check_host


def _add_headers(settings: Settings) -> Callable[[Response], Response]:
    headers = list(_HEADERS.items())
    if settings.secure_cookies:
        headers.append(
            ("Strict-Transport-Security", f"max-age={_ONE_YEAR}; includeSubDomains"),
        )

    def add_headers(response: Response) -> Response:
        response.headers.extend(headers)
        if (elsewhere := g.get("form_action")) is not None:
            policy = _CONTENT_SECURITY_POLICY.replace(_OWN_FORMS, f"{_OWN_FORMS} {elsewhere}")
            response.headers["Content-Security-Policy"] = policy
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
            response.headers.add("Vary", "Cookie")
        return response

    return add_headers
