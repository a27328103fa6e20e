"""Validated OAuth token response (RFC 6749 §5.1).

A ``Token`` cannot exist without a usable access token. Its secrets do not appear in its repr.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, Self

import msgspec

from omnifund.errors import InvalidResponse

# Seconds that a token is assumed to be valid when the response does not say (RFC 6749 §5.1).
DEFAULT_LIFETIME: Final = 300
MAX_LIFETIME: Final = 365 * 24 * 3600  # seconds; a longer lifetime is reduced to this
# Seconds before a refreshed token that arrived already expired is refreshed again.
EXPIRED_ON_ARRIVAL_PAUSE: Final = 30
_SECRET: Final = re.compile(r"[\x21-\x7e]{1,8192}")  # RFC 6749 appendix A.12, without the space
_WHOLE_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,12}")


class Token(msgspec.Struct, frozen=True, array_like=True):
    """One access token with its refresh token; a refresh creates a new one.

    ``obtained_at`` and ``expires_at`` are Unix seconds by this machine's clock; ``scope`` is the
    granted scope, ``None`` when neither side named one; ``generation`` counts the refreshes since
    the merchant signed in.
    """

    access_token: str
    refresh_token: str | None
    obtained_at: int
    expires_at: int
    scope: str | None = None
    generation: int = 0

    def __repr__(self) -> str:
        return f"Token(expires_at={self.expires_at}, generation={self.generation})"

    @property
    def token_type(self) -> str:
        """The only type that can be here (RFC 6750)."""
        return "Bearer"

    @classmethod
    def from_response(
        cls,
        payload: Mapping[str, Any],
        *,
        now: float,
        previous: Token | None = None,
        requested_scope: str | None = None,
    ) -> Self:
        """Validate a successful token response.

        ``now``: Unix seconds. ``previous``: the token that was refreshed, if any.
        Raises ``InvalidResponse`` when the response grants nothing that can be used.
        """
        require_bearer_type(payload)
        access_token = require_access_token(payload)
        return cls(
            access_token=access_token,
            refresh_token=read_refresh_token(payload, previous),
            obtained_at=int(now),
            expires_at=int(now) + read_lifetime(payload),
            scope=read_scope(payload, previous.scope if previous else requested_scope),
            generation=previous.generation + 1 if previous else 0,
        )

    def expired(self, now: float) -> bool:
        """Whether OmniFund would reject the access token at ``now``."""
        return now >= self.expires_at

    def due(self, now: float, leeway: float) -> bool:
        """Whether the token should be refreshed before it is used at ``now``.

        It is due from ``leeway`` seconds before it expires. A token that was just refreshed is
        left alone for half of its lifetime: otherwise tokens whose lifetime is shorter than the
        leeway would be refreshed on every request.
        """
        if now < self.expires_at - leeway:
            return False
        if self.generation == 0:
            return True
        lifetime = self.expires_at - self.obtained_at
        rest = lifetime / 2 if lifetime > 0 else EXPIRED_ON_ARRIVAL_PAUSE
        return now >= self.obtained_at + rest


def require_bearer_type(payload: Mapping[str, Any]) -> None:
    """The token type is Bearer (RFC 6749 §7.1)."""
    token_type = payload.get("token_type")
    # §7.1: a client must not use a token of an unknown type; §5.1: the name is case insensitive.
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        raise InvalidResponse("the token response has no token_type that this app supports")


def require_access_token(payload: Mapping[str, Any]) -> str:
    """The access token is well-formed (RFC 6749 appendix A.12)."""
    return _secret(payload.get("access_token"), "access_token")


def read_refresh_token(payload: Mapping[str, Any], previous: Token | None) -> str | None:
    """The refresh token is well-formed, or absent and the old one stays valid (RFC 6749 §6)."""
    value = payload.get("refresh_token")
    if value in (None, ""):
        return previous.refresh_token if previous else None
    return _secret(value, "refresh_token")


def read_lifetime(payload: Mapping[str, Any]) -> int:
    """The lifetime is a number of seconds, or absent (RFC 6749 §5.1)."""
    value = payload.get("expires_in")
    if value is None:
        return DEFAULT_LIFETIME
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        value = int(value)  # Some servers send a string.
    # bool is an int in Python, but `true` is not a number of seconds; neither is a float's NaN.
    is_number = type(value) is int or (isinstance(value, float) and math.isfinite(value))
    if not is_number:
        raise InvalidResponse("the token response's expires_in is not a number of seconds")
    return int(max(0, min(value, MAX_LIFETIME)))


def read_scope(payload: Mapping[str, Any], assumed: str | None) -> str | None:
    """The scope is a string, or absent (RFC 6749 §5.1)."""
    value = payload.get("scope")
    # RFC 6749 §5.1: an absent scope is the requested one; OmniFund sends null.
    if value is None:
        return assumed
    if not isinstance(value, str) or len(value) > 4096 or not value.isprintable():
        raise InvalidResponse("the token response's scope is not a string")
    return value or assumed


def _secret(value: object, name: str) -> str:
    if isinstance(value, str) and _SECRET.fullmatch(value):
        return value
    raise InvalidResponse(f"the token response has no usable {name}")
