"""Redis: ``connect`` makes a client from ``REDIS_URL``, ``RedisStore`` sends commands with it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote

from redis import Redis, RedisCluster, Sentinel, exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from omnifund.errors import StoreUnavailable
from omnifund.events import Event, Observer, ignore

Command = tuple[str | bytes | int, ...]
"""A Redis command, for example ``("GET", "key")``."""

TIMEOUT_SECONDS: Final = 0.8
"""For connecting and for one response. Twice this is less than the 2 s a page may take."""

_FAILURES: Final[tuple[tuple[Any, str], ...]] = (
    (exceptions.AuthenticationError, "Redis refused the username or the password"),
    (MasterNotFoundError, "Redis Sentinel named no primary: check the service and its password"),
    (exceptions.NoPermissionError, "Redis does not permit a command that the app needs"),
    (exceptions.OutOfMemoryError, "Redis is full"),
    (exceptions.ReadOnlyError, "Redis is a read-only replica"),
    (exceptions.ResponseError, "Redis rejected a command"),
    ((exceptions.TimeoutError, TimeoutError), "Redis did not respond in time"),
    (Exception, "Redis is unreachable"),
)
_ABSENT: Final[dict[Any, Any]] = {"GET": None, "GETEX": None, "GETDEL": None, "LRANGE": []}
"""What a read returns when there is no such key."""


class RedisStore:
    """Sends commands to Redis. Every failure becomes ``StoreUnavailable``, so that "the store
    failed" is never taken for "nothing is stored".
    """

    def __init__(
        self,
        client: RedisClient,
        on_event: Observer = ignore,
        *,
        time_round_trip: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """``client``: from ``connect``. ``time_round_trip`` gets the seconds of each round trip."""
        self._client = client
        self._on_event = on_event
        self._time_round_trip = time_round_trip
        self._is_silent = False
        self._probe = threading.Lock()

    def execute(self, *commands: Command) -> list[Any]:
        """Send the commands in one round trip, in order, and return their results.

        They are not a transaction. Results are redis-py's: ``OK`` is ``True``. A key of another
        type counts as absent where it is read, and is reported. Raises ``StoreUnavailable`` when
        Redis or any one command failed.
        """
        results = self.attempt(*commands)
        for number, (command, result) in enumerate(zip(commands, results, strict=True)):
            if isinstance(result, Exception):
                if command[0] not in _ABSENT or not str(result).startswith("WRONGTYPE"):
                    raise self.unavailable(result) from result
                self._on_event(Event.RECORD_UNREADABLE, record="key of another type")
                results[number] = _ABSENT[command[0]]
        return results

    def attempt(self, *commands: Command) -> list[Any]:
        """Do as ``execute``, but return the error of a command in the place of its result."""
        # While Redis is silent, one request at a time finds out whether it still is. The others
        # fail immediately; else all threads would wait for timeouts, and further requests for them.
        is_probe = self._is_silent
        if is_probe and not self._probe.acquire(blocking=False):
            raise StoreUnavailable("Redis is not responding")
        started = time.perf_counter()
        try:
            results = self._send(commands)
            self._is_silent = False
            return results
        except (exceptions.RedisError, exceptions.RedisClusterException, OSError) as error:
            self._is_silent = time.perf_counter() - started > TIMEOUT_SECONDS / 2
            raise self.unavailable(error) from error
        finally:
            if is_probe:
                self._probe.release()
            self._time_round_trip(time.perf_counter() - started)

    def _send(self, commands: tuple[Command, ...]) -> list[Any]:
        try:
            return _run(self._client, commands)
        except (exceptions.RedisError, TimeoutError) as error:
            # A restarted Redis leaves dead sockets in the pool, and so does a firewall; a host name
            # that has moved to the new primary leaves connections to the old one.
            if isinstance(self._client, Redis):
                self._client.connection_pool.disconnect(inuse_connections=False)
            # Not after a timeout, nor a refused password. Every command here may run twice.
            if type(error) not in (exceptions.ConnectionError, exceptions.ReadOnlyError):
                raise
            return _run(self._client, commands)

    def unavailable(self, error: Exception) -> StoreUnavailable:
        """Report what redis-py raised, and return what to raise instead."""
        self._on_event(Event.STORE_FAILED, reason=type(error).__name__)
        return StoreUnavailable(next(text for kind, text in _FAILURES if isinstance(error, kind)))


def missing_rights(store: RedisStore) -> list[str]:
    """Return the names of the commands that the app needs and Redis does not permit.

    Raises ``StoreUnavailable`` when Redis fails otherwise.
    """
    key = "omnifund:rights"
    needed: list[Command] = [
        ("SET", key, 1, "EX", 10),
        ("SET", key, 1, "XX", "KEEPTTL"),
        ("GET", key),
        ("GETEX", key, "EX", 10),
        ("PTTL", key),
        ("EVAL", "return redis.call('GET', KEYS[1])", 1, key),
        ("DEL", key),
    ]
    missing = set()
    for (name, *_), result in zip(needed, store.attempt(*needed), strict=True):
        if isinstance(result, exceptions.NoPermissionError) or "unknown command" in str(result):
            missing.add(str(name))
        elif isinstance(result, Exception):
            raise store.unavailable(result) from result
    return sorted(missing)


def _run(client: Any, commands: tuple[Command, ...]) -> list[Any]:
    if isinstance(client, _Cluster):
        return client.run(commands)
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    results: list[Any] = pipeline.execute(raise_on_error=False)
    for result in results:
        if isinstance(result, exceptions.ReadOnlyError):
            raise result
    return results


class _Cluster:
    """A Cluster's client, made with the first command, and a deadline for each round trip.

    redis-py requests the layout as soon as the client is made. After a timeout it sends every
    command again by itself, and requests the layout from one node after another.
    """

    def __init__(self, nodes: list[tuple[str, int]], options: dict[str, Any]) -> None:
        def make() -> RedisCluster:
            startup = [ClusterNode(host, port) for host, port in nodes]
            return RedisCluster(startup_nodes=startup, **options | {"retry": Retry(NoBackoff(), 1)})

        self._client = cache(make)
        self._seconds = 1.2 * options["socket_timeout"]
        self._threads = ThreadPoolExecutor(max_workers=64, thread_name_prefix="redis-cluster")

    def run(self, commands: tuple[Command, ...]) -> list[Any]:
        """Send the commands; raise ``TimeoutError`` at the deadline."""
        future = self._threads.submit(lambda: _run(self._client(), commands))
        try:
            return future.result(self._seconds)
        finally:
            future.cancel()


class _RedisClient(Protocol):
    """What is needed of redis-py's clients."""

    def pipeline(self, transaction: bool = ...) -> Any: ...


RedisClient = _RedisClient | _Cluster


# --- REDIS_URL ---------------------------------------------------------------------------------

_URL: Final = re.compile(
    r"(?:(rediss?)(?:\+(sentinel|cluster))?|unix)://(?:([^/?#]*)@)?([^/?#]*)([^?#]*)(?:\?([^#]*))?",
    re.IGNORECASE,
)
_HOST: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+)\]|([\w-]{1,63}(?:\.[\w-]{1,63})*\.?))(?::0*([1-9][0-9]{0,4}))?",
    re.ASCII,
)
# What follows the hosts: the name of a service or a path, and a database.
_PATHS: Final = {
    "": (r"()/?([0-9]{0,5})", "may end only with a database number"),
    "unix": (r"(/.+)()", "must name the path of a Unix socket, after three slashes"),
    "sentinel": (r"/([^/]+)/?([0-9]{0,5})", "must end in the name of the service: /service"),
    "cluster": (r"()/?()", "must not name a database: Redis Cluster has none"),
}
_SECONDS: Final = r"(?=.*[1-9])[0-9]{1,2}(?:\.[0-9]{1,3})?"
_OPTIONS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "db": (r"[0-9]{1,5}", int),
    "socket_timeout": (_SECONDS, float),
    "socket_connect_timeout": (_SECONDS, float),
    "sentinel_username": (r".+", str),
    "sentinel_password": (r".+", str),
    "ssl_ca_certs": (r".+", str),
    "ssl_certfile": (r".+", str),
    "ssl_keyfile": (r".+", str),
    "ssl_cert_reqs": (r"none|required", str),
    "ssl_check_hostname": (r"true|false", "true".__eq__),
}
"""What the query may set: its form, and what redis-py takes."""


def connect(url: str) -> RedisClient:
    """Return a client for a URL of docs/deploying.md's table. It connects when it is first used.

    Raises ``ValueError`` for any other. Its text repeats no part of the URL, which may hold a
    password.
    """
    decoded = unquote(url)
    is_text = decoded.isprintable() and " " not in url and "\ufffd" not in decoded
    match = _URL.fullmatch(url) if is_text else None
    if match is None:
        raise ValueError(
            "must start with redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster, "
            "or rediss+cluster and ://; in a password, write # as %23, / as %2F, and ? as %3F"
        )
    scheme, kind, user, hosts, path, query = (part or "" for part in match.groups())
    kind = kind.lower() if scheme else "unix"
    pattern, problem = _PATHS[kind]
    place = re.fullmatch(pattern, unquote(hosts + path if kind == "unix" else path))
    if place is None:
        raise ValueError(problem)
    options = _options(user, query, kind, is_secure=scheme.lower() == "rediss")
    if kind == "unix":
        return Redis(unix_socket_path=place[1], **options)
    nodes = [_node(host, 26379 if kind == "sentinel" else 6379) for host in hosts.split(",")]
    if kind == "cluster":
        return _Cluster(nodes, options)
    options = {"db": int(place[2] or 0), **options}
    if kind == "sentinel":
        return _sentinel(nodes, place[1], options)
    if len(nodes) > 1:
        raise ValueError("must name one host")
    return Redis(host=nodes[0][0], port=nodes[0][1], **options)


def _node(text: str, default_port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if match is None or int(match[3] or 1) > 65535:
        raise ValueError("has an invalid host or port")
    return match[1] or match[2], int(match[3] or default_port)


def _options(user: str, query: str, kind: str, *, is_secure: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "username": unquote(user.partition(":")[0]) or None,
        "password": unquote(user.partition(":")[2]) or None,
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "ssl": is_secure,
        "max_connections": 10_000,  # One for each thread, however many there are.
        # RedisStore tries again, not the client. Whatever fails, the connection is closed, so that
        # a late response is never taken for that of the next command.
        "retry": Retry(NoBackoff(), 0, supported_errors=(BaseException,)),  # type: ignore[arg-type]  # wider than annotated
        "protocol": 2,
    }
    if is_secure:
        options["ssl_password"] = ""  # Else OpenSSL prompts for that of an encrypted key file.
    topics = {"db": kind in ("", "unix"), "sentinel": kind == "sentinel", "ssl": is_secure}
    allowed = [name for name in _OPTIONS if topics.get(name.partition("_")[0], True)]
    for name, _, text in (pair.partition("=") for pair in query.split("&") if pair):
        if name not in allowed:
            raise ValueError(f"may set only these in its query: {', '.join(allowed)}")
        pattern, convert = _OPTIONS[name]
        if not re.fullmatch(pattern, unquote(text)):
            raise ValueError(f"has an invalid {name}")
        options[name] = convert(unquote(text))
    files = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
    if not all(Path(options[name]).is_file() for name in files if name in options):
        raise ValueError("must name readable files in its query")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ValueError("must name ssl_certfile beside ssl_keyfile")
    return options


def _sentinel(nodes: list[tuple[str, int]], service: str, options: dict[str, Any]) -> Redis:
    seconds = options["socket_timeout"] / len(nodes)  # All together as long as one Redis.
    own = {
        "username": options.pop("sentinel_username", None),
        "password": options.pop("sentinel_password", None),
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "db": 0,
    }
    client: Redis = Sentinel(nodes, sentinel_kwargs=options | own).master_for(service, **options)
    return client
