"""A tap on the wire: what a client and OmniFund, or a browser and a client, have said.

It writes down methods, paths without their query, statuses, and error codes, so no secret. Nothing
is written down unless ``listening`` is in effect.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

Party = Literal["browser", "client", "omnifund"]

ERRORS: Final = frozenset(
    {"access_denied", "invalid_client", "invalid_grant", "invalid_request", "redirect_uri_mismatch"}
)
"""The error codes that may be repeated: known words, which hold no secret."""

_GRANTS: Final = {"authorization_code": "code", "refresh_token": "refresh token"}


class Said(NamedTuple):
    """A message, or several equal ones. Two clients' messages are equal when their keys are."""

    sender: Party
    receiver: Party
    label: str
    key: str
    times: int = 1

    @property
    def is_response(self) -> bool:
        """Whether it answers a request."""
        return self.sender == "omnifund" or self.receiver == "browser"


@dataclass
class Wire:
    """Everything that was said, in order; safe for several threads."""

    said: list[Said] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, sender: Party, receiver: Party, label: str, key: str = "") -> None:
        """Write down a message."""
        with self._lock:
            self.said.append(Said(sender, receiver, label, key or label))

    def counted(self) -> list[Said]:
        """Return equal messages as one, for what happens simultaneously and in no fixed order."""
        return [said._replace(times=times) for said, times in Counter(self.said).items()]

    def requests(self, label: str) -> int:
        """Return how many requests with this label OmniFund was sent."""
        return sum(each.receiver == "omnifund" and each.label == label for each in self.said)


_current: Final[ContextVar[Wire | None]] = ContextVar("wire", default=None)


@contextmanager
def listening(wire: Wire) -> Iterator[None]:
    """Write down on ``wire`` what this thread sends OmniFund in the meantime."""
    token = _current.set(wire)
    try:
        yield
    finally:
        _current.reset(token)


def sent(method: str, url: str, body: object) -> None:
    """Note a request to OmniFund."""
    if (wire := _current.get()) is not None:
        form = body.decode() if isinstance(body, bytes) else body if isinstance(body, str) else ""
        grant = parse_qs(form).get("grant_type", [""])[0]
        what = _GRANTS.get(grant) or urlsplit(url).path.rpartition("/")[2]
        wire.note("client", "omnifund", f"{method} {what}")


def received(status: int, body: bytes) -> None:
    """Note OmniFund's response."""
    if (wire := _current.get()) is not None:
        wire.note("omnifund", "client", f"{status} {_content(body)}".strip())


def gave_up() -> None:
    """Note that a response did not come, or was not read to its end."""
    if (wire := _current.get()) is not None:
        wire.note("omnifund", "client", "no response")


def _content(body: bytes) -> str:
    try:
        members = json.loads(body)
    except ValueError:
        return "HTML" if body.lstrip().startswith(b"<") else ""
    if not isinstance(members, dict):
        return ""
    if members.get("error") in ERRORS:
        return str(members["error"])
    return "tokens" if "access_token" in members else "data" if "hydra:member" in members else ""
