"""HTTP to OmniFund: one origin, kept connections, and no answer can hold a worker or fill memory.

Connections are kept, and not used when they have died meanwhile; certificates are always checked,
against a context that is loaded once; and everything that can go wrong has a name, told apart by
whether OmniFund may have got the request. There are no redirects, and no proxies or credentials
are picked up from the environment.
"""

from __future__ import annotations

import ssl
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import certifi

from omnifund import trace
from omnifund.connection import Connection, compose, open_socket
from omnifund.errors import OmniFundUnavailable
from omnifund.trace import Check

TOTAL_TIMEOUT: Final = 15.0
"""Seconds that one exchange may take, from connecting to the body's last byte."""

USER_AGENT: Final = "omnifund-reference-integration"

MAX_IDLE_SECONDS: Final = 30
"""How long a connection is kept without being used: what is on the way may have forgotten it."""

_CLOCK_CHECK_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP response.

    ``headers``: names in title case (``Content-Type``). ``seconds``: how long it took.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    seconds: float


class Transport:
    """Sends requests to one origin and to no other. Safe to share between threads."""

    def __init__(
        self,
        base_url: str,
        *,
        connect_timeout: float = 3.0,
        read_timeout: float = 10.0,
        total_timeout: float = TOTAL_TIMEOUT,
        ca_bundle: str | None = None,
        connections: int = 32,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``base_url``: scheme, host, optional port and path prefix. Times are in seconds.

        ``ca_bundle``: a PEM file that is trusted instead of certifi's. ``connections``: how many
        idle connections are kept. ``clock`` returns Unix seconds.
        """
        url = urlsplit(base_url)
        if url.hostname is None:
            raise ValueError("the base URL names no host")
        if url.query or url.fragment or "@" in url.netloc:
            raise ValueError("the base URL is a scheme, a host, perhaps a port and a path")
        if not base_url.isascii() or not base_url.isprintable() or " " in base_url:
            raise ValueError("the base URL must be printable ASCII without spaces")
        self.base_url = base_url.rstrip("/")
        self.total_timeout = max(total_timeout, connect_timeout + read_timeout)
        self.clock_ahead: float | None = None
        """Seconds by which this clock is ahead of OmniFund's, by its latest ``Date`` header."""
        self._clock = clock
        self._clocks_compared_at = 0.0
        is_secure = url.scheme == "https"
        self._host = url.hostname
        self._port = url.port or (443 if is_secure else 80)
        self._prefix = url.path.rstrip("/")
        self._headers = {
            "Host": url.netloc,
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
        }
        # Loading the authorities takes some 20 ms of CPU: once, not per connection.
        self._context = (
            ssl.create_default_context(cafile=ca_bundle or certifi.where()) if is_secure else None
        )
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        # Connecting has its own limit, so what is left of the total is for the answer.
        self._answer_timeout = self.total_timeout - connect_timeout
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._most_idle = connections
        weakref.finalize(self, _close_all, self._idle)

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | str | None = None,
        max_bytes: int,
    ) -> Answer:
        """Send one request below the base URL and read the whole answer.

        ``path``: starts with ``/``; a query may follow. ``max_bytes``: the largest body that is
        accepted, before and after decompression.

        Raises ``OmniFundUnavailable`` (its ``sent`` tells whether the request may have arrived),
        ``OmniFundTimeout`` or ``InvalidResponse``, and ``ValueError`` for what cannot be sent.
        Only a refused connection is tried again, once: nothing has been sent then.
        """
        started = time.monotonic()
        recording = trace.current()
        exchange = recording and recording.add(
            "omnifund", method, self.base_url + path, headers=headers, body=body
        )
        request = compose(method, self._prefix + path, {**self._headers, **headers}, body)
        connection = self._connected()
        try:
            read = connection.ask(
                request, max_bytes=max_bytes, deadline=time.monotonic() + self._answer_timeout
            )
        except BaseException:
            # What is still to come on it would be taken for the next request's answer.
            connection.close()
            raise
        if read.can_be_kept:
            self._keep(connection)
        else:
            connection.close()
        self._compare_clocks(read.headers.get("Date"))
        if recording and exchange:
            recording.answer(exchange, read.status, read.headers, read.body)
            trace.checked(Check.COMPLETE)
        return Answer(read.status, read.headers, read.body, seconds=time.monotonic() - started)

    def _compare_clocks(self, date: str | None) -> None:
        now = self._clock()
        # The absolute value: a clock that is wrong may be set back.
        if date is None or abs(now - self._clocks_compared_at) < _CLOCK_CHECK_SECONDS:
            return
        self._clocks_compared_at = now
        try:
            self.clock_ahead = now - parsedate_to_datetime(date).timestamp()
        except (ValueError, OverflowError):
            self.clock_ahead = None

    # --- connections -------------------------------------------------------------------------

    def _connected(self) -> Connection:
        """Return a connection that is open: one that was kept, or a new one."""
        while (connection := self._pop_idle()) is not None:
            if connection.is_quiet():
                return connection
            connection.close()
        try:
            try:
                return self._connect()
            except ConnectionRefusedError:
                return self._connect()
        except (OSError, UnicodeError):  # UnicodeError: no host can have such a name
            raise OmniFundUnavailable("no connection to OmniFund", sent=False) from None

    def _connect(self) -> Connection:
        sock = open_socket(
            self._host, self._port, timeout=self._connect_timeout, context=self._context
        )
        return Connection(sock, self._read_timeout)

    def _pop_idle(self) -> Connection | None:
        with self._lock:
            oldest = time.monotonic() - MAX_IDLE_SECONDS
            while self._idle and self._idle[0].idle_since < oldest:
                self._idle.pop(0).close()
            # The one that was used last: the others grow old, and are closed.
            return self._idle.pop() if self._idle else None

    def _keep(self, connection: Connection) -> None:
        connection.idle_since = time.monotonic()
        with self._lock:
            if len(self._idle) < self._most_idle:
                self._idle.append(connection)
                return
        connection.close()


def _close_all(connections: list[Connection]) -> None:
    while connections:
        connections.pop().close()
