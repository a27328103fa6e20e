"""The Redis client for ``REDIS_URL``: stand-alone, Sentinel, or Cluster, with TLS or without."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final
from urllib.parse import unquote

from redis import Redis, RedisCluster, Sentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry

from omnifund.redis_client import OPTIONS, Command, RedisClient

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


def connect(url: str, password: str = "") -> RedisClient:
    """Return a client for a URL as in docs/configuration.md. It connects when it is first used.

    ``password``: as it is, where it cannot be percent-encoded, as in compose.yaml. Raises
    ``ValueError`` for any other URL. Its text repeats no part of it, which may be a password.
    """
    decoded = unquote(url)
    is_text = decoded.isprintable() and " " not in url and "\ufffd" not in decoded
    match = _URL.fullmatch(url) if is_text else None
    if match is None:
        raise ValueError(
            "must start with redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster, "
            "or rediss+cluster and ://; in a password, write # as %23, / as %2F, and ? as %3F, or "
            "use REDIS_PASSWORD"
        )
    scheme, kind, user, hosts, path, query = (part or "" for part in match.groups())
    kind = kind.lower() if scheme else "unix"
    pattern, problem = _PATHS[kind]
    place = re.fullmatch(pattern, unquote(hosts + path if kind == "unix" else path))
    if place is None:
        raise ValueError(problem)
    options = _options(user, query, kind, is_secure=scheme.lower() == "rediss")
    if password and options["password"]:
        raise ValueError("must not contain a password beside REDIS_PASSWORD")
    options["password"] = options["password"] or password or None
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
    options = OPTIONS | {
        "username": unquote(user.partition(":")[0]) or None,
        "password": unquote(user.partition(":")[2]) or None,
        "ssl": is_secure,
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
    if not all(os.access(options[name], os.R_OK) for name in files if name in options):
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

    def pipeline(self, transaction: bool = True) -> _ClusterPipeline:
        """Return a pipeline that ends at the deadline."""
        return _ClusterPipeline(self)

    def run(self, commands: list[Command], raise_on_error: bool) -> list[Any]:
        """Send the commands; raise ``TimeoutError`` at the deadline."""

        def send() -> list[Any]:
            pipeline = self._client().pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            results: list[Any] = pipeline.execute(raise_on_error=raise_on_error)
            return results

        future = self._threads.submit(send)
        try:
            return future.result(self._seconds)
        finally:
            future.cancel()


class _ClusterPipeline:
    def __init__(self, cluster: _Cluster) -> None:
        self._cluster = cluster
        self._commands: list[Command] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        return self._cluster.run(self._commands, raise_on_error)
