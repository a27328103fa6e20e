"""Where to go after the sign-in: a path of this app, or nowhere (RFC 9700 §4.11)."""

from __future__ import annotations

import re
from typing import Final

MAX_LENGTH: Final = 400
"""Characters; the path travels in a cookie of limited size."""

# An allow list: one leading slash, then nothing that any URL parser reads as the start of a host,
# as an escape of one, or as a control. Browsers drop tabs and newlines and read "\" as "/".
_SAFE: Final = re.compile(
    r"/(?:[A-Za-z0-9_~-][A-Za-z0-9._~%@:+,=&;!$'()*-]*(?:/[A-Za-z0-9_~%-][A-Za-z0-9._~%@:+,=&;!$'()*-]*)*/?)?"
    r"(?:\?[A-Za-z0-9._~%@:+,=&;!$'()*/?\[\]-]*)?"
)
# Going there after a sign-in would sign in again, or out.
_NOT_AGAIN: Final = re.compile(r"/(?:login|logout|callback|token)(?:[/?]|$)")


def safe_next_path(value: str | None) -> str | None:
    """Return ``value`` if it is a path of this app that a browser cannot read as anything else."""
    if value is None or len(value) > MAX_LENGTH:
        return None
    if _SAFE.fullmatch(value) is None or _NOT_AGAIN.match(value):
        return None
    return value
