"""Events that the package reports to its host, named ``subject:action:outcome``.

The host passes an ``OnEvent``; logging and metrics are the host's. Facts never contain a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

OnEvent = Callable[..., None]
"""Called as ``on_event(event, **facts)``; must not raise."""


class Event(StrEnum):
    """Everything worth a log line or a counter."""

    SIGN_IN_STARTED = "sign_in:attempt:started"
    SIGN_IN_SUCCEEDED = "sign_in:attempt:succeeded"
    SIGN_IN_REPEATED = "sign_in:attempt:repeated"
    SIGN_IN_DENIED = "sign_in:attempt:denied"
    SIGN_IN_REFUSED = "sign_in:attempt:refused"
    SIGN_IN_INVALID = "sign_in:attempt:invalid"
    SIGN_IN_FAILED = "sign_in:attempt:failed"
    TOKEN_REQUEST = "token:request:answered"
    TOKEN_AMBIGUOUS = "token:request:ambiguous"
    API_REQUEST = "api:request:answered"
    REFRESH_SUCCEEDED = "token:refresh:succeeded"
    REFRESH_REJECTED = "token:refresh:rejected"
    REFRESH_FAILED = "token:refresh:failed"
    REFRESH_UNSAVED = "token:refresh:unsaved"
    REFRESH_SUPERSEDED = "token:refresh:superseded"
    RECORD_UNREADABLE = "store:record:unreadable"
    STORE_FAILED = "store:request:failed"
    SIGNED_OUT = "sign_out:session:ended"
    SESSION_EXPIRED = "session:lifetime:exceeded"


def ignore(event: Event, **facts: Any) -> None:
    """Discard the event: the default of a host without logs and metrics."""
