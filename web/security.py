"""What protects every page: headers, CSRF tokens, rate limits, believed proxies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from flask import Flask, Response, request
from flask_limiter import Limiter
from flask_wtf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix

from config import Settings
from omnifund.sealing import fingerprint

View = TypeVar("View", bound=Callable[..., Any])

_csrf: Final = CSRFProtect()

MAX_FORM_BYTES: Final = 64 * 1024

_CONTENT_SECURITY_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
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


class Limit(NamedTuple):
    """At most ``amount`` requests a minute; per address, or per address and account."""

    endpoint: str
    methods: tuple[str, ...]
    amount: int
    per_account: bool = False


LIMITS: Final = (
    Limit("sign_in.login", ("GET",), 100),
    Limit("sign_in.callback", ("GET",), 100),
    Limit("sign_in.password", ("POST",), 20),
    # With the address in the key, nobody can lock a merchant out from somewhere else.
    Limit("sign_in.password", ("POST",), 10, per_account=True),
)


def init_app(app: Flask, settings: Settings) -> None:
    """Protect ``app``; call it after the blueprints are registered."""
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
    if settings.rate_limits:
        _limit(app, settings)
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


def _add_headers(settings: Settings) -> Callable[[Response], Response]:
    headers = dict(_HEADERS)
    if settings.secure_cookies:
        headers["Strict-Transport-Security"] = f"max-age={_ONE_YEAR}; includeSubDomains"

    def add_headers(response: Response) -> Response:
        response.headers.update(headers)
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
            response.vary.add("Cookie")
        return response

    return add_headers


# --- rate limits -----------------------------------------------------------------------------


def _limit(app: Flask, settings: Settings) -> None:
    url = settings.redis_url.get_secret_value()
    limiter = Limiter(
        key_func=_by_address,
        app=app,
        storage_uri=url.replace("unix://", "redis+unix://", 1) if url.startswith("unix") else url,
        storage_options={"socket_timeout": 0.3, "socket_connect_timeout": 0.3, "protocol": 2},  # type: ignore[dict-item]  # redis-py takes fractions of a second
        key_prefix="omnifund:limit",
        # Without Redis nobody can be counted; turning everybody away would be worse.
        swallow_errors=True,
    )
    for limit in LIMITS:
        view = app.view_functions[limit.endpoint]
        app.view_functions[limit.endpoint] = limiter.limit(  # type: ignore[assignment]  # it allows for async views as well
            f"{limit.amount} per minute",
            key_func=_by_address_and_account if limit.per_account else _by_address,
            methods=list(limit.methods),
        )(view)


def _by_address() -> str:
    return request.remote_addr or "unknown"


def _by_address_and_account() -> str:
    account = request.form.get("username", "").strip().lower()
    return f"{_by_address()} {fingerprint(account)}"
