"""The callback's query, read strictly (RFC 6749 §4.1.2, RFC 9207).

Two steps, because ``state`` comes first: ``state_of`` says which attempt a callback claims to
belong to; only when that attempt is this browser's does ``read`` look at anything else. An
``AuthorizationCode`` comes from ``read`` alone: whoever holds one holds a validated callback.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from omnifund import trace
from omnifund.attempts import Attempt
from omnifund.errors import (
    AccessDenied,
    AttemptInvalid,
    AuthorizationRefused,
    CallbackMalformed,
    OmniFundUnavailable,
)
from omnifund.trace import Check

Query = Sequence[tuple[str, str]]
"""The query's parameters in order, decoded, repeated ones included."""

MAX_CODE_LENGTH: Final = 2048
_STATE: Final = re.compile(r"[A-Za-z0-9_-]{20,128}")
_CODE: Final = re.compile(r"[\x21-\x7e]+")  # RFC 6749 appendix A.11, without the space
_ERROR_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """A code that belongs to ``attempt`` and has not been sent anywhere yet."""

    value: str = field(repr=False)
    attempt: Attempt


def state_of(query: Query) -> str:
    """Return the callback's ``state``. Raises ``AttemptInvalid`` unless there is exactly one."""
    states = _values(query, "state")
    if len(states) != 1 or _STATE.fullmatch(states[0]) is None:
        raise AttemptInvalid("the callback has no usable state")
    return states[0]


def read(query: Query, attempt: Attempt, *, issuer: str) -> AuthorizationCode:
    """Validate a callback whose ``state`` has been matched to ``attempt``.

    ``issuer``: OmniFund's base URL, which ``iss`` must equal when it is there (RFC 9207 §2.4).

    Raises ``CallbackMalformed``, ``AccessDenied``, ``AuthorizationRefused`` or, when OmniFund says
    that it cannot answer now, ``OmniFundUnavailable``.
    """
    codes, errors, issuers = (_values(query, name) for name in ("code", "error", "iss"))
    if len(codes) > 1 or len(errors) > 1 or len(issuers) > 1:
        # RFC 6749 §3.1: parameters must not be included more than once.
        raise CallbackMalformed("a parameter of the callback is repeated")
    trace.checked(Check.NOTHING_REPEATED)
    if issuers and issuers[0] != issuer:
        raise CallbackMalformed("the callback comes from another authorization server")
    if issuers:
        trace.checked(Check.ISSUER)
    if codes and errors:
        raise CallbackMalformed("the callback says both yes and no")
    if _values(query, "access_token") or _values(query, "id_token"):
        # Nobody asked for these: response_type is `code`.
        raise CallbackMalformed("the callback holds a token in its query")
    if errors:
        raise _refusal(errors[0])
    if not codes or len(codes[0]) > MAX_CODE_LENGTH or _CODE.fullmatch(codes[0]) is None:
        raise CallbackMalformed("the callback has no usable code")
    trace.checked(Check.ALLOWED)
    return AuthorizationCode(codes[0], attempt)


def _refusal(error: str) -> AuthorizationRefused | OmniFundUnavailable:
    if error == "access_denied":
        return AccessDenied(error)
    if error in ("temporarily_unavailable", "server_error"):
        return OmniFundUnavailable("OmniFund says that it cannot answer now")
    return AuthorizationRefused(error if _ERROR_CODE.fullmatch(error) else None)


def _values(query: Query, name: str) -> list[str]:
    return [value for key, value in query if key == name]
