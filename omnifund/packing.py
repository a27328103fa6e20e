"""A token as bytes, in as few as it takes: what Redis holds for every session adds up.

Tokens are mostly base64url, which carries six bits in a byte. One that is base64url to the letter
is stored decoded, and any other as it is.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from typing import Final

from omnifund.token import Token

_FORM: Final = b"\x02"
# obtained_at, expires_at, generation; the lengths of the access token and of the refresh token.
_HEAD: Final = struct.Struct(">QQIHH")
_DECODED, _AS_IT_IS, _NONE = b"d", b"t", b"n"


def pack(token: Token) -> bytes:
    """Return ``token`` as bytes."""
    access_token, refresh_token = _shorten(token.access_token), _shorten(token.refresh_token)
    head = _HEAD.pack(
        token.obtained_at,
        token.expires_at,
        token.generation,
        len(access_token),
        len(refresh_token),
    )
    scope = b"" if token.scope is None else json.dumps(token.scope).encode()
    return _FORM + head + access_token + refresh_token + scope


def unpack(packed: bytes) -> Token:
    """Return the token that ``pack`` was given. Raises ``ValueError`` for anything else."""
    if packed[:1] != _FORM:
        raise ValueError("not of this form")
    try:
        obtained_at, expires_at, generation, access, refresh = _HEAD.unpack_from(packed, 1)
    except struct.error as error:
        raise ValueError("cut short") from error
    begin = 1 + _HEAD.size
    access_token = _lengthen(packed[begin : begin + access])
    refresh_token = _lengthen(packed[begin + access : begin + access + refresh])
    scope = packed[begin + access + refresh :]
    if access_token is None:
        raise ValueError("no access token")
    return Token(
        access_token=access_token,
        refresh_token=refresh_token,
        obtained_at=obtained_at,
        expires_at=expires_at,
        scope=json.loads(scope) if scope else None,
        generation=generation,
    )


def _shorten(text: str | None) -> bytes:
    if text is None:
        return _NONE
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return _AS_IT_IS + text.encode()
    # Not every text that can be decoded comes back the same: spare bits may be set, or "+" used.
    return _DECODED + decoded if _encode(decoded) == text else _AS_IT_IS + text.encode()


def _lengthen(short: bytes) -> str | None:
    if short[:1] == _DECODED:
        return _encode(short[1:])
    if short[:1] == _AS_IT_IS:
        return short[1:].decode()
    if short == _NONE:
        return None
    raise ValueError("neither a token nor the mark of none")


def _encode(decoded: bytes) -> str:
    return base64.urlsafe_b64encode(decoded).rstrip(b"=").decode()
