"""CSRF tokens, and the security headers of every response."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from flask import Flask, Response
from flask_wtf.csrf import CSRFProtect

from config import LOOPBACK_HOSTS, Settings

csrf: Final = CSRFProtect()
"""Checks every form. A view that is ``exempt`` checks once it knows that a form has an effect."""

_ONE_YEAR: Final = 365 * 24 * 3600

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
    "object-src 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def init_app(app: Flask, settings: Settings) -> None:
    """Protect ``app``."""
    app.config.update(
        # Bound to the session instead of to a time: a page may stay open as long as its session.
        WTF_CSRF_TIME_LIMIT=None,
        # Oldest first. While SECRET_KEY changes, some servers of a fleet sign with the old key.
        WTF_CSRF_SECRET_KEY=list(reversed(settings.secret_keys)),
        # Browsers send no Referer: responses have Referrer-Policy: no-referrer.
        WTF_CSRF_SSL_STRICT=False,
    )
    csrf.init_app(app)
    fixed = dict(_HEADERS)
    is_local = urlsplit(settings.omnifund_redirect_uri).hostname in LOOPBACK_HOSTS
    if settings.secure_cookies and not is_local and settings.hsts != "off":
        below = "; includeSubDomains" if settings.hsts == "subdomains" else ""
        fixed["Strict-Transport-Security"] = f"max-age={_ONE_YEAR}{below}"

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(fixed)
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        # A static file says itself how long it may be kept.
        if "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
            response.vary.add("Cookie")
        return response
