"""What protects every page: headers, CSRF tokens, believed proxies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flask import Flask, abort, request
from flask_wtf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.sansio.utils import host_is_trusted

from config import Settings

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

View = TypeVar("View", bound=Callable[..., Any])

_csrf: Final = CSRFProtect()
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

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
_FORM_ACTION: Final = "omnifund.form_action"
_CACHEABLE: Final = "omnifund.cacheable"
_HEADERS: Final = {
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
        # Asked here instead, and not at all for the methods that change nothing.
        WTF_CSRF_CHECK_DEFAULT=False,
    )
    if settings.allowed_hosts:
        app.before_request(_check_host(settings.allowed_hosts))
    _csrf.init_app(app)
    app.before_request(_check_form)
    app.wsgi_app = _SecurityHeaders(app.wsgi_app, settings)  # type: ignore[method-assign]  # as Flask documents it
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


def _check_form() -> None:
    if request.method not in _SAFE_METHODS:
        _csrf.protect(apply_exemptions=True)


def allow_form_action(origin: str) -> None:
    """Let the forms of the page that is being made lead to ``origin`` too."""
    request.environ[_FORM_ACTION] = origin


def may_be_cached() -> None:
    """Leave it to the answer that is being made to say how long it may be kept."""
    request.environ[_CACHEABLE] = True


class _SecurityHeaders:
    """WSGI middleware that adds the headers to every answer, whatever has made it.

    They are the same for all answers of a kind, so they are one list that is made once.
    """

    def __init__(self, app: WSGIApplication, settings: Settings) -> None:
        self._app = app
        self._static = list(_HEADERS.items())
        if settings.secure_cookies:
            self._static.append(
                ("Strict-Transport-Security", f"max-age={_ONE_YEAR}; includeSubDomains")
            )
        self._dynamic = [*self._static, ("Cache-Control", "no-store"), ("Vary", "Cookie")]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, own: list[tuple[str, str]], exc_info: Any = None) -> Any:
            policy = _CONTENT_SECURITY_POLICY
            if (elsewhere := environ.get(_FORM_ACTION)) is not None:
                policy = policy.replace(_OWN_FORMS, f"{_OWN_FORMS} {elsewhere}")
            headers = self._static if _CACHEABLE in environ else self._dynamic
            complete = [*own, ("Content-Security-Policy", policy), *headers]
            return start_response(status, complete, exc_info)

        return self._app(environ, start)
