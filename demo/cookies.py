"""The demo's own short-lived cookies, and how what the demo keeps is encrypted."""

from __future__ import annotations

import base64
import zlib
from typing import Any, Final, TypeVar

import msgspec
from flask import request
from werkzeug.wrappers import Response

from omnifund.encryption import Unreadable
from web.current import omnifund

_MAX_BYTES: Final = 256 * 1024

Kept = TypeVar("Kept")


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


def read_sealed(name: str, kind: type[Kept]) -> Kept | None:
    """Return what ``as_text`` has made for the cookie ``name``, or nothing, as ``unseal`` does."""
    try:
        sealed = base64.b64decode(read(name), altchars=b"-_", validate=True)
    except ValueError:
        return None
    return unseal(sealed, kind, name=name)


def as_text(name: str, value: object) -> str:
    """Return ``value`` encrypted, for the cookie ``name``."""
    return base64.urlsafe_b64encode(seal(value, name=name)).decode()


def seal(value: object, *, secret: str = "", name: str) -> bytes:
    """Return ``value`` compressed and encrypted; ``secret`` and ``name`` as for ``Cipher``."""
    packed = zlib.compress(msgspec.json.encode(value), 9)
    return omnifund().cipher.seal(packed, secret=secret, name=name)


def unseal(sealed: bytes, kind: type[Kept], *, secret: str = "", name: str) -> Kept | None:
    """Return what ``seal`` has made; nothing of another version of this app, and nothing altered.

    What the demo keeps is never worth an error page.
    """
    try:
        packed = omnifund().cipher.open(sealed, secret=secret, name=name)
        text = zlib.decompressobj().decompress(packed, _MAX_BYTES)
        return msgspec.json.decode(text, type=kind)
    except (Unreadable, ValueError, zlib.error):
        return None


def _full_name(name: str) -> str:
    # With this prefix no neighboring host can plant one.
    return f"__Host-{name}" if omnifund().secure_cookies else name


def _attributes() -> dict[str, Any]:
    secure = omnifund().secure_cookies
    return {"path": "/", "secure": secure, "httponly": True, "samesite": "Lax"}
