"""The connection to Redis, made from ``REDIS_URL``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
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

    Raises ``ValueError`` for what cannot be such a URL. Its text repeats no part of it, because a
    password may be in it.
    """
    if not url.isprintable() or " " in url or "#" in url:
        raise ValueError("must be a URL without spaces; a # in a password is written %23")
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        raise ValueError("is not a URL") from None
    if scheme not in _CLIENTS:
        raise ValueError(f"must start with one of {', '.join(sorted(_CLIENTS))} and ://")
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
    return _CLIENTS[scheme](url, options)


def _stand_alone(url: str, options: dict[str, Any]) -> RedisClient:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("must name the path of a Unix socket")
    else:
        hosts, _ = _hosts(parts, default_port=6379)
        if len(hosts) > 1:
            raise ValueError("must name one host")
        _database(parts.path.strip("/"))
    try:
        client = Redis.from_url(url, **options)
        pool = client.connection_pool
        # The library takes any option, and finds out with the first connection; so one is made now.
        # Making it opens nothing.
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError, RedisError):
        raise ValueError("has a query that redis-py does not understand") from None
    if pool.connection_kwargs.get("decode_responses"):
        raise ValueError("must not set decode_responses: stored values are binary")
    return client


def _sentinel(url: str, options: dict[str, Any]) -> RedisClient:
    parts = urlsplit(url)
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("must end in the name of the service: redis+sentinel://host/service")
    hosts, credentials = _hosts(parts, default_port=26379)
    _no_query(parts)
    sentinel = Sentinel(
        hosts,
        sentinel_kwargs={
            "socket_timeout": TIMEOUT_SECONDS,
            "socket_connect_timeout": TIMEOUT_SECONDS,
        },
    )
    client: RedisClient = sentinel.master_for(
        service, db=_database(database), **credentials, **options
    )
    return client


def _cluster(url: str, options: dict[str, Any]) -> RedisClient:
    parts = urlsplit(url)
    hosts, credentials = _hosts(parts, default_port=6379)
    _no_query(parts)
    if parts.path.strip("/"):
        raise ValueError("must not name a database: Redis Cluster has none")
    nodes = [ClusterNode(host, port) for host, port in hosts]

    def make() -> RedisClient:
        # The credentials are keyword arguments of the connections.
        return RedisCluster(startup_nodes=nodes, **{**options, **credentials})

    return _WhenFirstUsed(make)


_CLIENTS: Final[dict[str, Callable[[str, dict[str, Any]], RedisClient]]] = {
    "redis": _stand_alone,
    "rediss": _stand_alone,
    "unix": _stand_alone,
    "redis+sentinel": _sentinel,
    "redis+cluster": _cluster,
}


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


# --- the parts of a URL ------------------------------------------------------------------------


def _hosts(url: SplitResult, *, default_port: int) -> tuple[list[tuple[str, int]], dict[str, str]]:
    """Split ``user:password@host:port,host:port``, which no URL parser knows."""
    userinfo, _, addresses = url.netloc.rpartition("@")
    username, _, password = userinfo.partition(":")
    hosts = []
    for address in addresses.split(","):
        try:
            one = urlsplit(f"//{address}")
            port = one.port
        except ValueError:
            raise ValueError("has an invalid port") from None
        if not one.hostname or port == 0:
            raise ValueError("must name a host, and a port from 1 to 65535 if any")
        hosts.append((one.hostname, port or default_port))
    credentials = {"username": unquote(username), "password": unquote(password)}
    return hosts, {name: value for name, value in credentials.items() if value}


def _database(text: str) -> int:
    if not text.isascii() or not (text.isdigit() or text == ""):
        raise ValueError("may end only with a database number")
    return int(text or 0)


def _no_query(url: SplitResult) -> None:
    if url.query:
        raise ValueError("must have no query")
