"""Cookies: all of them are HttpOnly, SameSite=Lax, for the whole site and for this host only."""

from __future__ import annotations

from werkzeug.wrappers import Response

from config import Settings


def cookie_name(settings: Settings, name: str) -> str:
    """Return a cookie's full name.

    With https it gets the ``__Host-`` prefix: browsers then take such a cookie only over https,
    with ``Secure``, ``Path=/`` and without ``Domain``, so no neighbouring host can plant one.
    """
    return f"__Host-{name}" if settings.secure_cookies else name


def set_cookie(
    response: Response, settings: Settings, name: str, value: str, max_age: int | None = None
) -> None:
    """Set a cookie under its full ``name``; without ``max_age`` it ends with the browser."""
    response.set_cookie(
        name,
        value,
        max_age=max_age,
        secure=settings.secure_cookies,
        httponly=True,
        samesite="Lax",
    )


def delete_cookie(response: Response, settings: Settings, name: str) -> None:
    """Have the browser forget a cookie."""
    response.delete_cookie(name, secure=settings.secure_cookies, httponly=True, samesite="Lax")
