"""Rate limits, by Flask-Limiter: floods are counted in each process, guesses of passwords in Redis.

So a sign-in costs no round trip for its limits. While Redis is unavailable, Flask-Limiter counts
everything in this process.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from flask import Flask, Response, g, request
from flask_limiter import Limiter, RequestLimit
from limits.storage import Storage

from omnifund.encryption import fingerprint
from omnifund.redis_client import RedisStore
from web import auth, sessions


def init_app(app: Flask, store: RedisStore) -> None:
    """Return 429 for what exceeds a limit."""

    def limit(endpoint: str, *decorators: Callable[..., Any]) -> None:
        for decorate in decorators:
            app.view_functions[endpoint] = decorate(app.view_functions[endpoint])

    def session() -> str:
        sid = sessions.current().presented_id()
        return fingerprint(sid) if sid and auth.is_signed_in() else _network()

    floods = Limiter(_network, app=app, storage_uri="memory://", on_breach=_remember)
    guesses = Limiter(
        _network,
        app=app,
        storage_uri="app-redis://",
        storage_options={"store": store},  # type: ignore[dict-item]  # for the storage alone
        in_memory_fallback_enabled=True,
        on_breach=_remember,
    )
    limit("auth.login", floods.limit("100/minute"))
    limit("auth.callback", floods.limit("100/minute"))
    limit(
        "auth.password",
        guesses.limit("20/minute", methods=["POST"]),
        guesses.limit("10/minute", key_func=_network_and_account, methods=["POST"]),
    )
    limit("pages.refresh", guesses.limit("1/second;20/minute", key_func=session))
    app.after_request(_say_when)


def _network() -> str:
    """Return an IPv4 address, or the /64 of an IPv6 one: no line has less (RFC 6177 §2)."""
    try:
        ip = ipaddress.ip_address(request.remote_addr or "")
    except ValueError:
        return request.remote_addr or "unknown"
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.IPv6Network((int(ip), 64), strict=False))


def _network_and_account() -> str:
    # With the network in it, a third party cannot lock a merchant's account.
    return f"{_network()} {fingerprint(request.form.get('username', '').strip().lower())}"


def _remember(limit: RequestLimit) -> None:
    g.retry_after = limit.limit.get_expiry()


def _say_when(response: Response) -> Response:
    if response.status_code == 429 and "retry_after" in g:
        response.headers["Retry-After"] = str(g.retry_after)
    return response


_COUNT: Final = """
local count = redis.call('INCRBY', KEYS[1], ARGV[1])
local left = redis.call('TTL', KEYS[1])
if left < 0 or left > tonumber(ARGV[2]) then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return count
"""


def _name(key: str) -> str:
    return f"omnifund:limit:{fingerprint(key)}"


class AppRedisStorage(Storage):
    """Counters in the app's Redis, through the app's client: every topology, and its timeouts.

    The storage that ``limits`` has for a Cluster connects as soon as it is made: before the workers
    are forked, and also while Redis is unavailable.
    """

    STORAGE_SCHEME = ["app-redis"]  # noqa: RUF012 - the library declares it without ClassVar
    base_exceptions = Exception

    def __init__(self, uri: str, *, store: RedisStore, **options: Any) -> None:
        super().__init__(uri, **options)
        self._store = store
        self._failed_at = 0.0

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, in a window that ends in ``expiry`` seconds at the latest."""
        try:
            return int(self._send("EVAL", _COUNT, 1, _name(key), amount, expiry))
        except Exception:
            self._failed_at = time.monotonic()
            raise

    def get(self, key: str) -> int:
        """Return the count."""
        return int(self._send("GET", _name(key)) or 0)

    def get_expiry(self, key: str) -> float:
        """Return the Unix time at which the window ends."""
        return time.time() + max(0, int(self._send("TTL", _name(key))))

    def clear(self, key: str) -> None:
        """Forget a count."""
        self._send("DEL", _name(key))

    def reset(self) -> int | None:
        """Forget all counts: not offered, as by other storages without a way to list keys."""
        raise NotImplementedError

    def check(self) -> bool:
        """Whether Redis can count again; asked within the request that has just found it cannot."""
        if time.monotonic() > self._failed_at + 1:
            with suppress(Exception):
                return bool(self._send("PING"))
        return False

    def _send(self, *command: str | int) -> Any:
        return self._store.execute(command)[0]
