"""Rate limits: floods are counted in each process, guesses of passwords in Redis.

So a sign-in costs no round trip for its limits. While Redis is unavailable, everything is counted
in this process, by the library ``limits``.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network
from typing import Final

from flask import Flask, abort, request
from limits import RateLimitItem, parse
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


def init_app(app: Flask, store: RedisStore) -> None:
    """Return 429 for what exceeds a limit: a rate, and a function that tells clients apart."""
    limits = {
        ("GET", "auth.login"): [(parse("100/minute"), _network)],
        ("GET", "auth.callback"): [(parse("100/minute"), _network)],
        ("POST", "auth.password"): [
            (parse("20/minute"), _network),
            (parse("10/minute"), _network_and_account),
        ],
        ("POST", "pages.refresh"): [(parse("1/second"), _session), (parse("20/minute"), _session)],
    }
    in_process = MemoryStorage()

    def count(counted: list[tuple[str, RateLimitItem]]) -> list[int]:
        # Guesses are POST. A request that has waited for Redis once does not wait again.
        if request.method == "POST" and auth.store_failure() is None:
            with suppress(StoreUnavailable):
                return store.execute(
                    *(("EVAL", _COUNT, 1, key, rate.get_expiry()) for key, rate in counted)
                )
        return [in_process.incr(key, rate.get_expiry()) for key, rate in counted]

    @app.before_request
    def check() -> None:
        endpoint = request.endpoint or ""
        method = request.method.replace("HEAD", "GET")  # as Flask does
        if (limited := limits.get((method, endpoint))) is None:
            return
        counted = [
            (f"omnifund:limit:{fingerprint(rate.key_for(endpoint, client()))}", rate)
            for rate, client in limited
        ]
        counts = zip(counted, count(counted), strict=True)
        exceeded = [rate.get_expiry() for (_, rate), number in counts if number > rate.amount]
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
