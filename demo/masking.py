"""What may be shown of a message: enough to follow the conversation, and no secret.

A secret is replaced by its *mark*, the beginning of its HMAC: the same value has the same mark, so
it can be followed from message to message, and nobody can get back from a mark to the value.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

MAX_FIELDS: Final = 24
MAX_TEXT: Final = 200

HIDDEN: Final = "••••••••"
"""Stands for a secret that does not even get a mark."""

# Chosen by people, so perhaps easy to guess.
_GUESSABLE: Final = frozenset({"password", "client_secret", "username"})
# What is not known to be harmless is a secret.
_HARMLESS: Final = frozenset(
    {
        *("response_type", "client_id", "redirect_uri", "code_challenge", "code_challenge_method"),
        *("grant_type", "token_type", "expires_in", "scope", "error", "next", "page", "kind"),
        *("@context", "@type", "@id", "hydra:totalItems"),
    }
)
_HEADERS: Final = (
    *("Accept", "Authorization", "Content-Type", "Location", "Retry-After", "Date"),
    *("Cache-Control", "WWW-Authenticate"),
)
_MEDIA_TYPES: Final = re.compile(r"[A-Za-z0-9.+*/;=, -]{1,100}")
_LONG_WORD: Final = re.compile(r"[^\s\"'<>()]{16,}")


class Masker:
    """Masks messages; ``key`` keeps others from finding a value by trying. One for each recording.

    It remembers the secrets that it has seen, so that a server's text that repeats one is noticed.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._seen: set[str] = set()

    def mark(self, secret: str) -> str:
        """Return the mark of ``secret``: 32 bits of its HMAC."""
        self._seen.add(secret)
        return "#" + hmac.new(self._key, secret.encode(), hashlib.sha256).hexdigest()[:8]

    def fields(self, pairs: Iterable[tuple[str, Any]]) -> dict[str, str]:
        """Mask parameters, or the members of a JSON object."""
        return {self._name(name): self._value(name, value) for name, value in [*pairs][:MAX_FIELDS]}

    def _name(self, name: str) -> str:
        return HIDDEN if self._repeats_a_secret(name, at_least=8) else short(name, 60)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Choose the headers that explain something, and mask them."""
        shown: dict[str, str] = {}
        for name in _HEADERS:
            if (value := headers.get(name)) is None:
                continue
            if name == "Authorization":
                scheme, _, secret = value.partition(" ")
                shown[name] = f"{short(scheme, 20)} {self.mark(secret)}"
            elif name == "Location":
                shown[name] = short(urlsplit(value)._replace(query="", fragment="").geturl())
            elif name in ("Accept", "Content-Type") and _MEDIA_TYPES.fullmatch(value):
                shown[name] = HIDDEN if self._repeats_a_secret(value) else value
            else:
                shown[name] = self._text(value)
        return shown

    def body(self, headers: Mapping[str, str], body: bytes) -> tuple[str, dict[str, str]]:
        """Return a description of an answer's body, and its members if it is a JSON object.

        Anything else is not shown: it could hold anything, a repeated secret included.
        """
        kind = headers.get("Content-Type", "").partition(";")[0].strip() or "no content type"
        note = f"{len(body):,} bytes of {short(kind, 60)}"
        if "json" not in kind:
            return note, {}
        try:
            payload = json.loads(body)
        except (ValueError, RecursionError):
            return f"{note}, which is not valid", {}
        if not isinstance(payload, dict):
            return f"{note}, but not a JSON object", {}
        return note, self.fields(payload.items())

    def _value(self, name: str, value: object) -> str:
        if value is None or isinstance(value, bool | int | float):
            return json.dumps(value)
        if isinstance(value, list):
            return f"[{len(value)} {'entry' if len(value) == 1 else 'entries'}]"
        if not isinstance(value, str):
            return "{…}"
        if name in _HARMLESS:
            return HIDDEN if self._repeats_a_secret(value, at_least=8) else short(value)
        if name == "error_description":
            return self._text(value)
        if name in _GUESSABLE:
            self._seen.add(value)
            return HIDDEN
        return self.mark(value) if value else ""

    def _text(self, text: str) -> str:
        """Return a server's own words without anything that could be a secret."""
        if self._repeats_a_secret(text):
            return HIDDEN
        return short(_LONG_WORD.sub("…", text))

    def _repeats_a_secret(self, text: str, *, at_least: int = 1) -> bool:
        return any(len(secret) >= at_least and secret in text for secret in self._seen)


def short(text: str, length: int = MAX_TEXT) -> str:
    """Return ``text`` in one line of at most ``length`` printable characters."""
    clean = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return clean if len(clean) <= length else clean[: length - 1] + "…"
