"""The token: what OmniFund answered, checked once, then carried around as a fact.

A ``Token`` cannot exist without a usable access token. Its secrets have no repr.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from omnifund import trace
from omnifund.errors import InvalidResponse
from omnifund.trace import Check

DEFAULT_LIFETIME: Final = 300
"""Seconds that a token is believed to live when the answer does not say (RFC 6749 §5.1)."""

MAX_LIFETIME: Final = 365 * 24 * 3600
"""Seconds; a longer claim is cut to this."""

DEAD_ON_ARRIVAL_PAUSE: Final = 30
"""Seconds before a refreshed token that arrived already expired is refreshed again."""

MAX_TOKEN_LENGTH: Final = 8192
_VSCHARS: Final = re.compile(r"[\x21-\x7e]+")  # RFC 6749 appendix A.12, without the space
_WHOLE_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Token:
    """One access token with its refresh token; a refresh makes a new one.

    ``obtained_at`` and ``expires_at`` are Unix seconds by this machine's clock; ``scope`` is what
    was granted, ``None`` when nobody ever named one; ``generation`` counts the refreshes since
    the merchant signed in.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    obtained_at: int
    expires_at: int
    scope: str | None = None
    generation: int = 0

    @property
    def token_type(self) -> str:
        """The only type that can be here (RFC 6750)."""
        return "Bearer"

    @property
    def secrets(self) -> dict[str, str]:
        """What must never be shown, by name."""
        found = {"access_token": self.access_token, "refresh_token": self.refresh_token}
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def from_response(
        cls,
        payload: Mapping[str, Any],
        *,
        now: float,
        previous: Token | None = None,
        requested_scope: str | None = None,
    ) -> Self:
        """Check a successful answer of the token endpoint (RFC 6749 §5.1).

        ``now``: Unix seconds. ``previous``: the token that was refreshed, if any.
        Raises ``InvalidResponse`` when the answer grants nothing that can be used.
        """
        token_type = payload.get("token_type")
        # RFC 6749 §7.1: a client must not use a token of a type that it does not understand;
        # §5.1: the type's name is case insensitive.
        if not isinstance(token_type, str) or token_type.lower() != "bearer":
            raise InvalidResponse("the token answer has no token_type that this app understands")
        trace.checked(Check.TOKEN_TYPE)
        access_token = _secret(payload.get("access_token"), "access_token")
        trace.checked(Check.ACCESS_TOKEN)
        refresh_token = payload.get("refresh_token")
        if refresh_token in (None, ""):
            # RFC 6749 §6: the server may leave out a new refresh token; the old one stays good.
            refresh_token = previous.refresh_token if previous else None
        else:
            refresh_token = _secret(refresh_token, "refresh_token")
        return cls(
            access_token=access_token,
            refresh_token=refresh_token,
            obtained_at=int(now),
            expires_at=int(now) + _lifetime(payload.get("expires_in")),
            scope=_scope(payload.get("scope"), previous.scope if previous else requested_scope),
            generation=previous.generation + 1 if previous else 0,
        )

    def expired(self, now: float) -> bool:
        """Whether OmniFund would refuse the access token at ``now``."""
        return now >= self.expires_at

    def due(self, now: float, leeway: float) -> bool:
        """Whether the token should be refreshed before it is used at ``now``.

        It is due from ``leeway`` seconds before it expires. A token that has just been refreshed
        is left alone for half of its life, however short that is: otherwise tokens that live
        shorter than the leeway would be refreshed on every request.
        """
        if now < self.expires_at - leeway:
            return False
        if self.generation == 0:
            return True
        lifetime = self.expires_at - self.obtained_at
        rest = lifetime / 2 if lifetime > 0 else DEAD_ON_ARRIVAL_PAUSE
        return now >= self.obtained_at + rest


def _secret(value: object, name: str) -> str:
    if (
        isinstance(value, str)
        and len(value) <= MAX_TOKEN_LENGTH
        and _VSCHARS.fullmatch(value) is not None
    ):
        return value
    raise InvalidResponse(f"the token answer has no usable {name}")


def _lifetime(value: object) -> int:
    """``expires_in`` in whole seconds; servers have been seen to send it as a string."""
    if value is None:
        return DEFAULT_LIFETIME
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        value = int(value)
    # bool is an int in Python, but `true` is no number of seconds.
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidResponse("the token answer's expires_in is not a number of seconds")
    trace.checked(Check.EXPIRY)
    return int(max(0, min(value, MAX_LIFETIME)))


def _scope(value: object, assumed: str | None) -> str | None:
    # RFC 6749 §5.1: a scope that is not named is the one that was asked for; OmniFund sends null.
    if value is None:
        trace.checked(Check.SCOPE)
        return assumed
    if not isinstance(value, str) or len(value) > 4096 or not value.isprintable():
        raise InvalidResponse("the token answer's scope is not a text")
    trace.checked(Check.SCOPE)
    return value or assumed
