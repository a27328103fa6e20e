"""The connection to Redis, made from ``REDIS_URL``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel

from omnifund.store import RedisClient

TIMEOUT_SECONDS: Final = 0.8
"""For connecting and for one answer. Twice this is less than the 2 s a page may take."""

_MAX_CONNECTIONS: Final = 64


def connect(url: str) -> RedisClient:
    """Return a client for ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or
    ``redis+cluster://``. Connects only when it is first used.
    """
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        # A restarted Redis leaves dead sockets in the pool: one more try gets a new one. A silent
        # Redis is not asked twice. (The library's default is ten tries with growing pauses.)
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        "max_connections": _MAX_CONNECTIONS,
        # Nothing here needs RESP3 or a managed service's notices.
        "protocol": 2,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    parts = urlsplit(url)
    if parts.scheme == "redis+sentinel":
        return _sentinel(url, options)
    if parts.scheme == "redis+cluster":
        return _cluster(url, options)
    client: RedisClient = Redis.from_url(url, **options)
    return client


def _sentinel(url: str, options: dict[str, Any]) -> RedisClient:
    service, _, database = urlsplit(url).path.strip("/").partition("/")
    hosts, credentials = _hosts(url, default_port=26379)
    sentinel = Sentinel(
        hosts,
        sentinel_kwargs={
            "socket_timeout": TIMEOUT_SECONDS,
            "socket_connect_timeout": TIMEOUT_SECONDS,
        },
    )
    client: RedisClient = sentinel.master_for(
        service, db=int(database or 0), **credentials, **options
    )
    return client


def _cluster(url: str, options: dict[str, Any]) -> RedisClient:
    hosts, credentials = _hosts(url, default_port=6379)
    nodes = [ClusterNode(host, port) for host, port in hosts]

    def make() -> RedisClient:
        # The credentials are keyword arguments of the connections.
        return RedisCluster(startup_nodes=nodes, **{**options, **credentials})

    return _WhenFirstUsed(make)


class _WhenFirstUsed:
    """A client that is made with the first command.

    A Cluster's client asks for the cluster's layout as soon as it is made. That must neither keep
    the app from starting while Redis is away, nor happen before gunicorn forks its workers.
    """

    def __init__(self, make: Callable[[], RedisClient]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._client: RedisClient | None = None

    def _made(self) -> RedisClient:
        if self._client is None:
            with self._lock:
                self._client = self._client or self._make()
        return self._client

    def execute_command(self, *args: Any) -> Any:
        return self._made().execute_command(*args)

    def pipeline(self, transaction: bool = True) -> Any:
        return self._made().pipeline(transaction=transaction)


def _hosts(url: str, *, default_port: int) -> tuple[list[tuple[str, int]], dict[str, str]]:
    """Split ``user:password@host:port,host:port``, which no URL parser knows."""
    userinfo, _, addresses = urlsplit(url).netloc.rpartition("@")
    username, _, password = userinfo.partition(":")
    hosts = []
    for address in addresses.split(","):
        host, _, port = address.rpartition(":") if ":" in address else (address, "", "")
        hosts.append((host, int(port or default_port)))
    credentials = {"username": unquote(username), "password": unquote(password)}
    return hosts, {name: value for name, value in credentials.items() if value}
