"""The demo's own short-lived cookies."""

from __future__ import annotations

from typing import Any

from flask import request
from werkzeug.wrappers import Response

from web.current import omnifund


def read(name: str) -> str:
    """Return what the browser sent under ``name``, or nothing."""
    return request.cookies.get(_full_name(name), "")


def write(response: Response, name: str, value: str, *, max_age: int) -> None:
    """Have the browser keep ``value`` for ``max_age`` seconds."""
    response.set_cookie(_full_name(name), value, max_age=max_age, **_attributes())


def delete(response: Response, name: str) -> None:
    """Have the browser delete what it keeps under ``name``, if it does."""
    if _full_name(name) in request.cookies:
        response.delete_cookie(_full_name(name), **_attributes())


def _full_name(name: str) -> str:
    # With this prefix no neighboring host can plant one.
    return f"__Host-{name}" if omnifund().secure_cookies else name


def _attributes() -> dict[str, Any]:
    secure = omnifund().secure_cookies
    return {"path": "/", "secure": secure, "httponly": True, "samesite": "Lax"}
