"""Redis, as the rest of the package sees it: commands in, answers out, one kind of failure.

Whoever wants something from Redis makes a ``Command``; ``Store.execute`` sends any number of them
in one round trip. Every failure of Redis becomes ``StoreUnavailable``, so that "the store failed"
can never be taken for "there is nothing stored".
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from omnifund.errors import StoreUnavailable
from omnifund.events import Event, OnEvent, ignore

Command = tuple[str | bytes | int, ...]
"""A Redis command as it goes over the wire, for example ``("GET", "key")``."""


class RedisClient(Protocol):
    """What is needed of redis-py's clients: stand-alone, Sentinel's and Cluster's all have it."""

    def execute_command(self, *args: Any) -> Any: ...
    def pipeline(self, transaction: bool = ...) -> Any: ...


class Store:
    """Sends commands to Redis."""

    def __init__(
        self,
        client: RedisClient,
        observe: OnEvent = ignore,
        *,
        time_round_trip: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """``client``: a redis-py client that returns bytes, with time-outs set.

        ``time_round_trip`` is told how many seconds each round trip took.
        """
        self._client = client
        # A Cluster has a pool for each node, and knows best where a command belongs.
        self._pool = getattr(client, "connection_pool", None)
        self._observe = observe
        self._time_round_trip = time_round_trip
        self._silence = _Silence()

    def execute(self, *commands: Command) -> list[Any]:
        """Send the commands in one round trip, in order, and return their answers.

        They are not a transaction: in a Cluster they may go to different nodes, whose client also
        turns ``OK`` into ``True``.
        Raises ``StoreUnavailable`` when Redis, or any one command, failed.
        """
        if not self._silence.may_ask():
            raise StoreUnavailable("Redis did not answer a moment ago")
        started = time.perf_counter()
        try:
            answers = self._send(commands)
        except (RedisError, RedisClusterException, OSError) as error:
            self._silence.learn(isinstance(error, RedisTimeoutError | TimeoutError))
            self._observe(Event.STORE_FAILED, reason=type(error).__name__)
            raise StoreUnavailable("Redis cannot be reached") from error
        except BaseException:
            self._silence.forget()
            raise
        finally:
            self._time_round_trip(time.perf_counter() - started)
        self._silence.learn(False)
        return answers

    def _send(self, commands: tuple[Command, ...]) -> list[Any]:
        if self._pool is None:
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return list(pipeline.execute())
        try:
            return self._exchange(self._pool, commands)
        except RedisConnectionError:
            # A restarted Redis leaves dead sockets in the pool. A second try gets a new one; every
            # command here may be carried out twice. A silent Redis is not asked twice.
            return self._exchange(self._pool, commands)

    @staticmethod
    def _exchange(pool: Any, commands: tuple[Command, ...]) -> list[Any]:
        """Send the commands over one connection of the pool, as redis-py's pipelines do.

        A pipeline of the library's own does so with ten times as many calls, and every page waits
        for one.
        """
        connection = pool.get_connection()
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            answers = [_answer(connection) for _ in commands]
        except BaseException:
            # What is still to come on it would be taken for the next command's answer.
            connection.disconnect()
            raise
        finally:
            pool.release(connection)
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers


def _answer(connection: Any) -> Any:
    # An error is one command's answer. The others' have to be read all the same, or the next one to
    # use the connection would take them for its own.
    try:
        # Sentinel's connections do not disconnect after an error unless they are told to.
        return connection.read_response(disconnect_on_error=True)
    except ResponseError as error:
        return error


class _Silence:
    """Keeps a silent Redis from holding up every thread for a whole time-out.

    While Redis is silent one caller at a time asks it. The others wait a moment for what that one
    learns, and are turned away if it is nothing new. Whoever asks first when Redis is back finds
    out, so no time passes in which it is believed to be silent still.
    """

    PATIENCE = 0.05

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_silent = False
        self._is_being_asked = False

    def may_ask(self) -> bool:
        if not self._is_silent:
            return True
        with self._changed:
            if self._is_silent and self._is_being_asked:
                self._changed.wait(self.PATIENCE)
                return not self._is_silent
            self._is_being_asked = True
            return True

    def forget(self) -> None:
        """Let the next caller ask: this one has ended without having learned anything."""
        with self._changed:
            self._is_being_asked = False
            self._changed.notify_all()

    def learn(self, is_silent: bool) -> None:
        if is_silent == self._is_silent and not self._is_being_asked:
            return
        with self._changed:
            self._is_silent, self._is_being_asked = is_silent, False
            self._changed.notify_all()


RedisStore = Store
