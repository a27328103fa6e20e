"""Rate limits: so many requests a minute from one address, counted over all processes.

The first few requests of an address in a minute are counted in this process only. That is what
ordinary visitors make, and it costs them no round trip; whoever makes more is counted in Redis, the
first few included. With several processes the limit may be exceeded by those few in each of them.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from flask import Flask, request
from werkzeug.exceptions import TooManyRequests

from omnifund.encryption import fingerprint
from omnifund.errors import StoreUnavailable
from omnifund.redis_client import Store

WINDOW_SECONDS: Final = 60

COUNTED_HERE: Final = 5
"""How many requests in a window are not yet worth a round trip to Redis."""

_MOST_NAMES: Final = 50_000


class Limit(NamedTuple):
    """At most ``amount`` requests a minute; per address, or per address and account."""

    endpoint: str
    method: str
    amount: int
    per_account: bool = False

    @property
    def name(self) -> str:
        """What is counted, apart from who."""
        return f"{self.endpoint} {self.per_account}"


LIMITS: Final = (
    Limit("auth.login", "GET", 100),
    Limit("auth.callback", "GET", 100),
    Limit("auth.password", "POST", 20),
    # With the address in the key, nobody can lock a merchant out from somewhere else.
    Limit("auth.password", "POST", 10, per_account=True),
)


class RateLimiter:
    """Counts requests in fixed windows of a minute."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        """``clock`` returns Unix seconds."""
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._window = 0
        self._here: Counter[str] = Counter()

    def count(self, name: str, amount: int) -> int | None:
        """Count one request under ``name``.

        Returns ``None`` while it is one of the first ``amount`` in this window, and otherwise the
        seconds until the next window. Without Redis only this process's requests are counted:
        turning everybody away because nobody can be counted would be worse.
        """
        now = self._clock()
        window = int(now // WINDOW_SECONDS)
        with self._lock:
            if window != self._window or len(self._here) > _MOST_NAMES:
                self._window, self._here = window, Counter()
            self._here[name] += 1
            count = self._here[name]
        if count > COUNTED_HERE:
            count = self._count_in_redis(name, window, count)
        return int((window + 1) * WINDOW_SECONDS - now) + 1 if count > amount else None

    def _count_in_redis(self, name: str, window: int, here: int) -> int:
        key = f"omnifund:limit:{fingerprint(f'{name} {window}')}"
        by = here if here == COUNTED_HERE + 1 else 1
        try:
            total, _ = self._store.execute(("INCRBY", key, by), ("EXPIRE", key, 2 * WINDOW_SECONDS))
        except StoreUnavailable:
            return here
        return int(total)


def init_app(app: Flask, limiter: RateLimiter) -> None:
    """Refuse with 429 what ``LIMITS`` do not allow."""
    limits: dict[tuple[str, str], list[Limit]] = {}
    for limit in LIMITS:
        limits.setdefault((limit.endpoint, limit.method), []).append(limit)

    @app.before_request
    def check() -> None:
        for limit in limits.get((request.endpoint or "", request.method), ()):
            seconds = limiter.count(f"{limit.name} {_who(limit)}", limit.amount)
            if seconds is not None:
                raise TooManyRequests(retry_after=seconds)


def _who(limit: Limit) -> str:
    address = _network(request.remote_addr or "unknown")
    if not limit.per_account:
        return address
    return f"{address} {request.form.get('username', '').strip().lower()}"


def _network(address: str) -> str:
    """Return what one visitor has of an address: all of it, or an IPv6 address's first 64 bits.

    Every line gets at least that many addresses to itself (RFC 6177 §2), so it can come from a
    different one each time.
    """
    if ":" not in address:
        return address
    try:
        ip = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(ip.ipv4_mapped or ipaddress.IPv6Network((ip, 64), strict=False))
