"""What may be shown of a message: enough to follow it, and no secret.

A secret is replaced by the beginning of its HMAC, such as ``#1f8a02c4``: equal secrets have equal
hashes, so a secret can be followed from message to message, and no hash leads back to its secret.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_FIELDS: Final = 24
MAX_TEXT: Final = 200

HIDDEN: Final = "••••••••"
"""Stands for a secret that does not even get a hash."""

# Chosen by people, so perhaps easy to guess.
_GUESSABLE: Final = frozenset({"password", "client_secret", "username"})
# This app may write these itself, and then they are shown whole.
_OWN: Final = frozenset(
    {
        *("response_type", "client_id", "redirect_uri", "code_challenge", "code_challenge_method"),
        *("grant_type", "next", "page", "kind"),
    }
)
# Servers write these. Every field that is in neither list is a secret.
_PUBLIC: Final = frozenset(
    {"token_type", "expires_in", "scope", "error", "@context", "@type", "@id", "hydra:totalItems"}
)
_HEADERS: Final = (
    *("Accept", "Authorization", "Content-Type", "Location", "Retry-After", "Date"),
    *("Cache-Control", "WWW-Authenticate", "Set-Cookie"),
)
# A word of this length could be a secret that this app has never seen, unless it is one of these.
_LONG_WORD: Final = re.compile(r"[^\s\"'<>()]{16,}")
_LONG_PART: Final = re.compile(r"[^\s\"'<>()\[\]{}/:;,.?&=#|]{16,}")
_KNOWN_WORDS: Final = frozenset(
    {
        *("temporarily_unavailable", "unauthorized_client", "unsupported_response_type"),
        *("unsupported_grant_type", "redirect_uri_mismatch", "invalid_redirect_uri"),
        *("interaction_required", "consent_required", "account_selection_required"),
        *("authorization_code", "x-www-form-urlencoded", "error_description"),
        *("code_challenge_method", "client_assertion_type"),
    }
)
_SHORTEST_SECRET: Final = 4
"""Characters; a shorter value occurs in other texts by chance."""


class Masker:
    """Masks the messages of one recording; without ``key`` no hash can be computed.

    It remembers the secrets that it has seen, so that a server's text that repeats one is noticed.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._seen: set[str] = set()

    def learn(self, *secrets: str | None) -> None:
        """Never show these, wherever they appear."""
        self._seen.update(secret for secret in secrets if secret)

    def mark(self, secret: str) -> str:
        """Return what is shown instead of ``secret``: 32 bits of its HMAC."""
        self.learn(secret)
        data = secret.encode("utf-8", "surrogatepass")
        return "#" + hmac.new(self._key, data, hashlib.sha256).hexdigest()[:8]

    def fields(self, pairs: Iterable[tuple[str, Any]], *, is_own: bool = False) -> dict[str, str]:
        """Mask parameters, or the members of a JSON object. ``is_own``: this app wrote them."""
        return {
            self._name(name): self._value(name, value, is_own)
            for name, value in [*pairs][:MAX_FIELDS]
        }

    def headers(self, headers: Mapping[str, str], *, is_own: bool = False) -> dict[str, str]:
        """Choose the headers that explain something, and mask them. ``is_own``: as for fields."""
        return {
            name: self._header(name, headers[name], is_own) for name in _HEADERS if name in headers
        }

    def body(self, headers: Mapping[str, str], body: bytes) -> tuple[str, dict[str, str]]:
        """Return a description of a response's body, and its members if it is a JSON object.

        Anything else is not shown: it could hold anything, a repeated secret included.
        """
        kind = headers.get("Content-Type", "").partition(";")[0].strip() or "no content type"
        note = f"{len(body):,} bytes of {short(self.parts(kind), 60)}"
        if "json" not in kind.lower():
            return note, {}
        try:
            payload = json.loads(body)
        except (ValueError, RecursionError):
            return f"{note}, which is not valid", {}
        if not isinstance(payload, dict):
            return f"{note}, but not a JSON object", {}
        return note, self.fields(payload.items())

    def text(self, text: str) -> str:
        """Return a sentence of a server without anything that could be a secret."""
        return self._without(_LONG_WORD, text)

    def parts(self, text: str) -> str:
        """Return a URL, a list, or a header value without anything that could be a secret."""
        return self._without(_LONG_PART, text)

    def _header(self, name: str, value: str, is_own: bool) -> str:
        if name == "Authorization":
            scheme, _, secret = value.partition(" ")
            return f"{short(self.parts(scheme), 20)} {self.mark(secret)}"
        if name == "Set-Cookie":
            cookie, _, rest = value.partition("=")
            shown = cookie if is_own else self.parts(cookie)
            return f"{short(shown, 60)}={HIDDEN};{self.parts(rest.partition(';')[2])}"
        if name == "Location":
            # Its query is shown as fields.
            value = re.split(r"[?#]", value, maxsplit=1)[0]
        return self.parts(value)

    def _name(self, name: str) -> str:
        return short(self.parts(name), 60)

    def _value(self, name: str, value: object, is_own: bool) -> str:
        if value is None or isinstance(value, bool):
            return json.dumps(value)
        if isinstance(value, int | float):
            value = json.dumps(value)
        if isinstance(value, list):
            return f"[{len(value)} {'entry' if len(value) == 1 else 'entries'}]"
        if not isinstance(value, str):
            return "{…}"
        if name in _OWN and is_own:
            return HIDDEN if self._repeats_a_secret(value) else short(value)
        if name in _PUBLIC | _OWN:
            return self.parts(value)
        if name == "error_description":
            return self.text(value)
        if name in _GUESSABLE:
            self.learn(value)
            return HIDDEN
        return self.mark(value) if value else ""

    def _without(self, long: re.Pattern[str], text: str) -> str:
        if self._repeats_a_secret(text):
            return HIDDEN
        return short(long.sub(lambda word: word[0] if word[0] in _KNOWN_WORDS else "…", text))

    def _repeats_a_secret(self, text: str) -> bool:
        decoded = unquote(text)
        return any(
            len(secret) >= _SHORTEST_SECRET and (secret in text or secret in decoded)
            for secret in self._seen
        )


def query_of(location: str) -> list[tuple[str, str]]:
    """Return the parameters of a URL that a server sent; none of a URL that is invalid."""
    try:
        return parse_qsl(urlsplit(location).query)
    except ValueError:
        return []


def short(text: str, length: int = MAX_TEXT) -> str:
    """Return ``text`` in one line of at most ``length`` printable characters."""
    clean = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return clean if len(clean) <= length else clean[: length - 1] + "…"
