"""``/healthz`` and ``/readyz``, for supervisors and load balancers."""

from __future__ import annotations

import mmap
from typing import Final

from flask import Blueprint, current_app, jsonify
from werkzeug.wrappers import Response

from omnifund.errors import StoreUnavailable
from omnifund.redis_client import Command, RedisStore
from web.current import store

blueprint = Blueprint("health", __name__)

PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""What probes and scrapers read, by whatever host name or IP address they reach this process."""

# One byte that the workers share with gunicorn's master process, because it is mapped before the
# fork. A file would need a folder that nothing cleans up.
_stopping: Final = mmap.mmap(-1, 1)


def announce_stop() -> None:
    """Have ``/readyz`` of all workers return 503 from now on."""
    _stopping[0] = 1


@blueprint.get("/healthz")
def healthz() -> Response:
    """Return 200 while this process serves; needs neither Redis nor OmniFund."""
    return jsonify(status="ok")


@blueprint.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Return 200 when Redis does what the app needs, else 503 with the reason."""
    if _stopping[0]:
        return jsonify(status="unavailable", reason="this server is stopping"), 503
    try:
        missing = missing_rights(store(), *current_app.extensions["redis_rights"])
    except StoreUnavailable as error:
        return jsonify(status="unavailable", reason=str(error)), 503
    if missing:
        reason = f"Redis does not permit {', '.join(missing)}"
        return jsonify(status="unavailable", reason=reason), 503
    return jsonify(status="ready"), 200


def missing_rights(redis: RedisStore, *more: Command) -> list[str]:
    """Return the names of the commands that the app needs and Redis does not permit.

    ``more``: commands that other parts need, as they have added them to
    ``app.extensions["redis_rights"]``. One round trip, which writes. Raises ``StoreUnavailable``
    when Redis fails otherwise.
    """
    key = "omnifund:rights"
    needed: list[Command] = [
        ("SET", key, 1, "EX", 10),
        ("SET", key, 1, "XX", "KEEPTTL"),
        ("GET", key),
        ("GETEX", key, "EX", 10),
        ("PTTL", key),
        ("INCRBY", key, 1),
        ("EXPIRE", key, 10),
        ("TTL", key),
        ("EVAL", "return redis.call('GET', KEYS[1])", 1, key),
        ("DEL", key),
        *more,
    ]
    missing = set()
    for (name, *_), result in zip(needed, redis.attempt(*needed), strict=True):
        if type(result).__name__ == "NoPermissionError" or "unknown command" in str(result):
            missing.add(str(name))
        elif isinstance(result, Exception):
            raise redis.unavailable(result) from result
    return sorted(missing)
