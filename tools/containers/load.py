"""Visitors who keep asking for a page through the proxy, while something breaks."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

VISITORS: Final = 8
PAUSE_SECONDS: Final = 0.05
MOST_REQUESTS: Final = 1500
"""Of each visitor: a load that ends by itself."""


@dataclass
class Load:
    """What the visitors have seen."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many requests have ended."""
        return len(self.seconds)

    @property
    def failures(self) -> int:
        """How many of them have ended without the page."""
        return self.requests - self.statuses[200]

    @property
    def row(self) -> str:
        """Requests, failures by status, and the slowest, for a table."""
        failed = ", ".join(f"{n} × {s or 'cut off'}" for s, n in self.statuses.items() if s != 200)
        return f"{self.requests} | {failed or '0'} | {max(self.seconds):.1f} s"


@contextlib.contextmanager
def load(path: str, cookie: str) -> Iterator[Load]:
    """Have the visitors ask for ``path`` until the block ends, each on new connections."""
    seen, stop = Load(), threading.Event()
    visitors = [
        threading.Thread(target=_visit, args=(path, cookie, seen, stop)) for _ in range(VISITORS)
    ]
    for visitor in visitors:
        visitor.start()
    try:
        yield seen
    finally:
        stop.set()
        for visitor in visitors:
            visitor.join()


def _visit(path: str, cookie: str, seen: Load, stop: threading.Event) -> None:
    for _ in range(MOST_REQUESTS):
        if stop.wait(PAUSE_SECONDS):
            return
        started = time.monotonic()
        status = get(path, cookie)
        seen.seconds.append(time.monotonic() - started)
        seen.statuses[status] += 1


def get(path: str, cookie: str = "", *, seconds: float = 60) -> int:
    """Return the status of one request through the proxy, 0 when there was no response."""
    # The certificate is Caddy's own; what is tried here is who answers.
    trusting = ssl._create_unverified_context()  # noqa: S323 - as above
    connection = http.client.HTTPSConnection("localhost", timeout=seconds, context=trusting)
    try:
        connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
