"""Redis through redis-py: commands in, results out, one kind of failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from redis import Redis, RedisCluster, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError

from omnifund.errors import StoreUnavailable
from omnifund.events import Event, OnEvent, ignore

Command = tuple[str | bytes | int, ...]
"""A Redis command, for example ``("GET", "key")``."""

# For connecting and for one response. Twice this is less than the 2 s that a page may take.
TIMEOUT_SECONDS: Final = 0.8

OPTIONS: Final[dict[str, Any]] = {
    "socket_timeout": TIMEOUT_SECONDS,
    "socket_connect_timeout": TIMEOUT_SECONDS,
    "max_connections": 10_000,  # One for each thread, however many there are.
    # RedisStore tries again, not the client. Whatever fails, the connection is closed, so that a
    # late response is never taken for that of the next command.
    "retry": Retry(NoBackoff(), 0, supported_errors=(BaseException,)),  # type: ignore[arg-type]  # wider than annotated
    "protocol": 2,
}
"""Arguments of redis-py's clients that ``RedisStore`` relies on."""

_FAILURES: Final[tuple[tuple[Any, str], ...]] = (
    (exceptions.AuthenticationError, "Redis refused the username or the password"),
    (MasterNotFoundError, "Redis Sentinel named no primary: check the service and its password"),
    (exceptions.NoPermissionError, "Redis does not permit a command that the app needs"),
    (exceptions.OutOfMemoryError, "Redis is full"),
    (exceptions.ReadOnlyError, "Redis is a read-only replica"),
    (exceptions.ResponseError, "Redis rejected a command"),
    (exceptions.DataError, "a command has a value that Redis cannot store"),
    ((exceptions.TimeoutError, TimeoutError), "Redis did not respond in time"),
    (Exception, "Redis is unreachable"),
)
# What stands for the error about a key that has another type.
_ABSENT: Final[dict[Any, Any]] = {
    "GET": None,
    "GETEX": None,
    "LRANGE": [],
    "ZADD": None,
    "ZRANGEBYSCORE": [],
    "ZREM": None,
}


class RedisClient(Protocol):
    """What is needed of redis-py's clients: stand-alone, Sentinel's, and Cluster's have it."""

    def pipeline(self, transaction: bool = ...) -> Any: ...


class RedisStore:
    """Sends commands to Redis. Every failure becomes ``StoreUnavailable``, so that "the store
    failed" is never taken for "nothing is stored".
    """

    def __init__(
        self,
        client: RedisClient,
        on_event: OnEvent = ignore,
        *,
        time_round_trip: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """``client``: made with ``OPTIONS``. ``time_round_trip`` gets each round trip's seconds.

        Raises ``ValueError`` for a client that would decode the records, which are no text.
        """
        if isinstance(client, Redis | RedisCluster) and client.get_encoder().decode_responses:
            raise ValueError("the Redis client needs decode_responses=False: records are bytes")
        self._client = client
        self._on_event = on_event
        self._time_round_trip = time_round_trip
        self._is_silent = False
        self._probe = threading.Lock()

    def execute(self, *commands: Command) -> list[Any]:
        """Send the commands in one round trip, in order, and return their results.

        They are not a transaction. Results are redis-py's: ``OK`` is ``True``. Where a command of
        ``_ABSENT`` finds a key of another type, that counts as absent, and is reported. Raises
        ``StoreUnavailable`` when Redis or any one command failed.
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
            # Sentinel and Cluster report their timeouts as other errors.
            is_timeout = isinstance(error, exceptions.TimeoutError)
            self._is_silent = is_timeout or time.perf_counter() - started > TIMEOUT_SECONDS / 2
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


def _run(client: RedisClient, commands: tuple[Command, ...]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    results: list[Any] = pipeline.execute(raise_on_error=False)
    for result in results:
        if isinstance(result, exceptions.ReadOnlyError):
            raise result
    return results
