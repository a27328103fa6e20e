"""HTTP to OmniFund: one origin, kept connections, and no answer can hold a worker or fill memory.

The standard library's ``http.client`` speaks HTTP. What is added here: connections that are kept
and not used when they have died meanwhile, a total deadline that also holds against a server that
sends one byte now and then (headers included), a size limit that also holds for compressed bodies,
certificates always checked against a context that is loaded once, and a name for everything that
can go wrong, told apart by whether OmniFund may have got the request. There are no redirects, and
no proxies or credentials are picked up from the environment.
"""

from __future__ import annotations

import functools
import http.client
import io
import select
import socket
import ssl
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast
from urllib.parse import urlsplit

import certifi

from omnifund import trace
from omnifund.errors import OmniFundError, OmniFundNonsense, OmniFundTooSlow, OmniFundUnavailable
from omnifund.trace import Check

TOTAL_TIMEOUT: Final = 15.0
"""Seconds that one exchange may take, from connecting to the body's last byte."""

USER_AGENT: Final = "omnifund-reference-integration"

MAX_IDLE_SECONDS: Final = 30
"""How long a connection is kept without being used: what is on the way may have forgotten it."""

_CLOCK_CHECK_SECONDS: Final = 30
_MOST_INTERIM_ANSWERS: Final = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP response. ``seconds``: how long it took."""

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
        self.base_url = base_url.rstrip("/")
        self.total_timeout = max(total_timeout, connect_timeout + read_timeout)
        self.clock_ahead: float | None = None
        """Seconds by which this clock is ahead of OmniFund's, by its latest ``Date`` header."""
        self._clock = clock
        self._clocks_compared_at = 0.0
        self._prefix = url.path.rstrip("/")
        self._read_timeout = read_timeout
        # Connecting has its own limit, so what is left of the total is for the answer.
        self._answer_timeout = self.total_timeout - connect_timeout
        self._make: Callable[[], _Connection]
        if url.scheme == "https":
            # Loading the authorities takes some 20 ms of CPU: once, not per connection.
            context = ssl.create_default_context(cafile=ca_bundle or certifi.where())
            self._make = functools.partial(
                _SecureConnection, url.hostname, url.port, timeout=connect_timeout, context=context
            )
        else:
            self._make = functools.partial(
                _Connection, url.hostname, url.port, timeout=connect_timeout
            )
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
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
        ``OmniFundTooSlow`` or ``OmniFundNonsense``. Only a refused connection is tried again, once:
        nothing has been sent then.
        """
        started = time.monotonic()
        recording = trace.current()
        exchange = recording and recording.add(
            "omnifund", method, self.base_url + path, headers=headers, body=body
        )
        connection = self._connected()
        try:
            try:
                response = connection.ask(
                    method,
                    self._prefix + path,
                    body,
                    {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
                    deadline=time.monotonic() + self._answer_timeout,
                )
            except _FOREIGN_ERRORS as error:
                raise _before_the_answer(error) from None
            try:
                content = _read(response, max_bytes)
            except _FOREIGN_ERRORS as error:
                raise _within_the_answer(error) from None
            finally:
                response.close()
        except BaseException:
            # What is still to come on it would be taken for the next request's answer.
            connection.close()
            raise
        if response.had_surplus:
            connection.close()
        else:
            self._keep(connection)
        # A mapping in all but its type.
        answered = cast(Mapping[str, str], response.headers)
        self._compare_clocks(answered.get("Date"))
        if recording and exchange:
            recording.answer(exchange, response.status, answered, content)
            trace.checked(Check.COMPLETE)
        return Answer(response.status, answered, content, seconds=time.monotonic() - started)

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

    def _connected(self) -> _Connection:
        """Return a connection that is open: one that was kept, or a new one."""
        while (connection := self._pop_idle()) is not None:
            if connection.is_quiet():
                return connection
            connection.close()
        connection = self._make()
        try:
            try:
                connection.connect()
            except ConnectionRefusedError:
                connection.connect()
        except (OSError, UnicodeError):  # UnicodeError: no host can have such a name
            connection.close()
            raise OmniFundUnavailable("no connection to OmniFund", sent=False) from None
        connection.sock.settimeout(self._read_timeout)
        return connection

    def _pop_idle(self) -> _Connection | None:
        with self._lock:
            oldest = time.monotonic() - MAX_IDLE_SECONDS
            while self._idle and self._idle[0].idle_since < oldest:
                self._idle.pop(0).close()
            # The one that was used last: the others grow old, and are closed.
            return self._idle.pop() if self._idle else None

    def _keep(self, connection: _Connection) -> None:
        # http.client has closed its socket already where the server said that it would.
        if connection.sock is None:
            return
        connection.idle_since = time.monotonic()
        with self._lock:
            if len(self._idle) < self._most_idle:
                self._idle.append(connection)
                return
        connection.close()


def _close_all(connections: list[_Connection]) -> None:
    while connections:
        connections.pop().close()


# --- reading ---------------------------------------------------------------------------------


def _read(response: _DeadlineResponse, max_bytes: int) -> bytes:
    lengths = response.headers.get_all("Content-Length", [])
    if len(set(lengths)) > 1 or ("Transfer-Encoding" in response.headers and not response.chunked):
        # RFC 9112 §6.3: where such a body ends nobody can tell.
        raise OmniFundNonsense("OmniFund's answer has no clear length")
    body = bytearray()
    while chunk := response.read(max_bytes + 1 - len(body)):
        body += chunk
        if len(body) > max_bytes:
            raise OmniFundNonsense("OmniFund's answer is too large")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return bytes(body)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise OmniFundNonsense("OmniFund's answer is compressed in an unknown way")
    # Nobody asked for compression, but some proxies do it all the same. A few kilobytes can unfold
    # to gigabytes, so unfolding stops at the limit too.
    unfolding = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    unfolded = unfolding.decompress(body, max_bytes + 1)
    if len(unfolded) > max_bytes:
        raise OmniFundNonsense("OmniFund's answer is too large")
    if not unfolding.eof or unfolding.unused_data:
        raise zlib.error("cut short, or followed by something else")
    return unfolded


# --- what went wrong -------------------------------------------------------------------------

_FOREIGN_ERRORS: Final = (http.client.HTTPException, zlib.error, OSError, ValueError)


def _before_the_answer(error: Exception) -> OmniFundError:
    """Name what happened before the status line and headers were complete."""
    if isinstance(error, TimeoutError):
        return OmniFundTooSlow("OmniFund did not answer in time")
    if isinstance(error, OSError):
        return OmniFundUnavailable("OmniFund closed the connection")
    return OmniFundNonsense("OmniFund's answer is not HTTP")


def _within_the_answer(error: Exception) -> OmniFundError:
    """Name what happened while the body was read."""
    if isinstance(error, TimeoutError):
        return OmniFundTooSlow("OmniFund did not finish its answer in time")
    return OmniFundNonsense("OmniFund's answer was cut short or is not what it says it is")


# --- http.client, with a deadline --------------------------------------------------------------
# A socket's time-out counts from the last byte, so a server that drips bytes is never too slow for
# it. http.client reads status line, headers and body from one file object; here that file gives
# the socket, before each read, only what is left of the time.


class _DeadlineReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._pause = sock.gettimeout() or TOTAL_TIMEOUT
        self._deadline = deadline
        self.has_ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.has_ended:
            return 0
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        self._sock.settimeout(min(self._pause, left))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        # For whoever uses the connection next.
        self._sock.settimeout(self._pause)
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, deadline: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._reader = _DeadlineReader(self.fp.detach(), sock, deadline)
        self.fp = io.BufferedReader(self._reader)
        self.had_surplus = False
        """Whether something came after the answer: the server is out of step."""

    def _read_status(self) -> tuple[str, int, str]:
        # RFC 9110 §15.2: any number of interim answers may come before the answer. http.client
        # knows only 100, and would take the answer itself for that of the next request.
        for _ in range(_MOST_INTERIM_ANSWERS):
            version, status, reason = super()._read_status()  # type: ignore[misc]  # not in its stubs
            if status >= 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("interim answers and no answer")

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]  # not in its stubs
        if size < 0:
            # Would be taken for "all that comes", past every limit.
            raise http.client.HTTPException("a chunk cannot have less than no bytes")
        return size

    def _read_and_discard_trailer(self) -> None:
        # Its number of lines has a limit there.
        http.client.parse_headers(self.fp)

    def _close_conn(self) -> None:
        # What has been read ahead would be lost without a trace.
        self._reader.has_ended = True
        self.had_surplus = self.had_surplus or bool(self.fp.peek(1))
        super()._close_conn()  # type: ignore[misc]  # not in its stubs


def _open_socket(address: tuple[str, int], timeout: float, _source: object = None) -> socket.socket:
    """Connect as ``socket.create_connection`` does, with one time limit for everything.

    The host's addresses share ``timeout``; what is left of it is for the TLS handshake.
    """
    give_up_at = time.monotonic() + timeout
    problem: OSError = TimeoutError("no address has answered in time")
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    for tried, (family, kind, protocol, _name, where) in enumerate(found):
        left = give_up_at - time.monotonic()
        if left <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(left / (len(found) - tried))
            sock.connect(where)
        except OSError as error:
            problem = error
            sock.close()
        else:
            sock.settimeout(max(0.001, give_up_at - time.monotonic()))
            return sock
    raise problem


class _Connection(http.client.HTTPConnection):
    """A connection of ``http.client``'s that asks within a deadline, and sends in one piece."""

    sock: socket.socket
    idle_since = 0.0
    # Never connects by itself: whatever fails after `connect` may have reached OmniFund.
    auto_open = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._create_connection = _open_socket
        self._held: list[bytes] | None = None

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | None,
        headers: Mapping[str, str],
        *,
        deadline: float,
    ) -> _DeadlineResponse:
        """Send a request and return its response, headers read. ``deadline``: monotonic seconds."""
        self.response_class = functools.partial(  # type: ignore[assignment]  # it is only ever called
            _DeadlineResponse, deadline=deadline
        )
        # http.client sends headers and body one after the other: two TLS records, two packets.
        self._held = []
        try:
            self.request(method, path, body=body, headers=dict(headers))
            whole = b"".join(self._held)
        finally:
            self._held = None
        self.send(whole)
        return cast(_DeadlineResponse, self.getresponse())

    def is_quiet(self) -> bool:
        """Whether the idle connection is open, and has received nothing that nobody asked for."""
        # What TLS has decrypted already is no longer in the socket that the kernel knows.
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return False
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        return not poller.poll(0)

    def send(self, data: Any) -> None:
        """Send ``data``, or hold it back while a request is put together."""
        if self._held is None:
            super().send(data)
        else:
            self._held.append(bytes(data))


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    pass
