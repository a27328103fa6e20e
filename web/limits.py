"""Rate limits: floods are counted in each process, guesses of passwords in Redis.

So a sign-in costs no round trip for its limits. While Redis is unavailable, everything is counted
in this process, by the library ``limits``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from ipaddress import IPv6Address, IPv6Network
from typing import Any, Final

from flask import Flask, abort, request
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage

from omnifund.encryption import fingerprint
from omnifund.errors import StoreUnavailable
from omnifund.redis_client import RedisStore
from web import auth, incoming, sessions

# A window that nothing else has given an end of its own ends in time.
_COUNT: Final = """
local count = redis.call('INCRBY', KEYS[1], 1)
local left = redis.call('TTL', KEYS[1])
if left < 0 or left > tonumber(ARGV[1]) then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return count
"""

Counted = list[tuple[RateLimitItem, str]]
"""Windows of time, each with the name of what is counted in it."""

Limit = tuple[str, Callable[[], str]]
"""A rate in the words of ``limits``, such as ``20/minute``, and what tells the clients apart."""


def init_app(app: Flask, store: RedisStore) -> None:
    """Return 429 for what exceeds a limit."""
    in_process = MemoryStorage()

    def count_here(counted: Counted) -> list[int]:
        return [in_process.incr(key, item.get_expiry()) for item, key in counted]

    def count_in_redis(counted: Counted) -> list[int]:
        if auth.store_failed():
            return count_here(counted)  # This request has waited for Redis once.
        commands = (("EVAL", _COUNT, 1, _name(key), item.get_expiry()) for item, key in counted)
        try:
            return store.execute(*commands)
        except StoreUnavailable:
            return count_here(counted)

    def limit(
        endpoint: str,
        *limits: Limit,
        count: Callable[[Counted], list[int]],
        methods: tuple[str, ...] = ("GET", "HEAD", "POST"),
    ) -> None:
        items = [(item, client) for rates, client in limits for item in parse_many(rates)]
        view = app.view_functions[endpoint]

        @wraps(view)
        def limited(**arguments: Any) -> Any:
            if request.method in methods:
                counted = [(item, item.key_for(endpoint, client())) for item, client in items]
                _refuse_what_exceeds(counted, count(counted))
            return view(**arguments)

        app.view_functions[endpoint] = limited

    limit("auth.login", ("100/minute", _network), count=count_here)
    limit("auth.callback", ("100/minute", _network), count=count_here)
    guesses: list[Limit] = [("20/minute", _network), ("10/minute", _network_and_account)]
    limit("auth.password", *guesses, count=count_in_redis, methods=("POST",))
    limit("pages.refresh", ("1/second;20/minute", _session), count=count_in_redis)


def _refuse_what_exceeds(counted: Counted, counts: list[int]) -> None:
    pairs = zip(counted, counts, strict=True)
    exceeded = [item.get_expiry() for (item, _), count in pairs if count > item.amount]
    if exceeded:
        abort(429, retry_after=max(exceeded))


def _network() -> str:
    """Return an IPv4 address, or the /64 of an IPv6 one: no line has less (RFC 6177 §2)."""
    ip = incoming.client_ip()
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or IPv6Network((int(ip), 64), strict=False))
    return str(ip or request.remote_addr or "unknown")


def _network_and_account() -> str:
    # With the network in it, a third party cannot lock a merchant's account.
    return f"{_network()} {fingerprint(request.form.get('username', '').strip().lower())}"


def _session() -> str:
    sid = sessions.current().presented_id()
    return fingerprint(sid) if sid and auth.is_signed_in() else _network()


def _name(key: str) -> str:
    return f"omnifund:limit:{fingerprint(key)}"
