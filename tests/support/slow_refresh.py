"""Local OmniFund's slow refresh, slow enough for a race on the busiest machine."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from local_omnifund.api import BearerProtector
from local_omnifund.faults import Fault
from local_omnifund.misbehavior import with_fault
from local_omnifund.oauth import OmniFundError


class SlowRefresh:
    """Has a slow refresh last until each request of a race has had its access token rejected.

    A time alone would not do: a request that begins after the refresh needs none any more.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._changed = threading.Condition()
        self._rejected, self._requests = 0, 1
        reject = BearerProtector.raise_error_response

        def rejecting(protector: BearerProtector, error: OmniFundError) -> None:
            with self._changed:
                self._rejected += 1
                self._changed.notify_all()
            reject(protector, error)

        def answering(fault: Fault | None, *rest: Any) -> Any:
            if fault is Fault.REFRESH_SLOW:
                with self._changed:
                    assert self._changed.wait_for(self._all_are_rejected, timeout=8)
            return with_fault(fault, *rest)

        monkeypatch.setattr(BearerProtector, "raise_error_response", rejecting)
        monkeypatch.setattr("local_omnifund.oauth.with_fault", answering)

    def race(self, requests: int) -> None:
        """Begin a race of so many requests, or several of as many, one after the other."""
        with self._changed:
            self._rejected, self._requests = 0, requests

    def _all_are_rejected(self) -> bool:
        return self._rejected % self._requests == 0
