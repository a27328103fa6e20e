"""HTTP to OmniFund: one origin, pooled connections, and no answer can hold a worker or fill memory.

What ``requests`` leaves open is closed here: a total deadline that also holds against a server that
sends one byte now and then (headers included), a size limit that also holds for compressed bodies,
no redirects, no proxies or credentials picked up from the environment, certificates always checked
against a context that is loaded once.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import certifi
import urllib3
import urllib3.connection
from urllib3 import exceptions

from omnifund import trace
from omnifund.errors import OmniFundError, OmniFundNonsense, OmniFundTooSlow, OmniFundUnavailable
from omnifund.trace import Check

TOTAL_TIMEOUT: Final = 15.0
"""Seconds that one exchange may take, from connecting to the body's last byte."""

USER_AGENT: Final = "omnifund-reference-integration"

_CLOCK_CHECK_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP response. ``seconds``: how long it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    seconds: float


class _Progress(threading.local):
    """How far this thread's exchange has come: whether OmniFund may have got the request."""

    sent = False


_progress: Final = _Progress()


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
        self.base_url = base_url
        self.total_timeout = max(total_timeout, connect_timeout + read_timeout)
        self.clock_ahead: float | None = None
        """Seconds by which this clock is ahead of OmniFund's, by its latest ``Date`` header."""
        self._clock = clock
        self._clocks_compared_at = 0.0
        self._prefix = url.path.rstrip("/")
        self._timeout = urllib3.Timeout(connect=connect_timeout, read=read_timeout)
        # Connecting has its own limit, so what is left of the total is for the answer.
        options: dict[str, Any] = {
            "maxsize": connections,
            "answer_timeout": self.total_timeout - connect_timeout,
        }
        self._pool: urllib3.HTTPConnectionPool
        if url.scheme == "https":
            # Loading the authorities takes some 20 ms of CPU: once, not per connection.
            context = ssl.create_default_context(cafile=ca_bundle or certifi.where())
            self._pool = _HTTPSPool(url.hostname, url.port, ssl_context=context, **options)
        else:
            self._pool = _HTTPPool(url.hostname, url.port, **options)

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
        _progress.sent = False
        recording = trace.current()
        exchange = recording and recording.add(
            "omnifund", method, self.base_url + path, headers=headers, body=body
        )
        try:
            try:
                response = self._open(method, path, headers, body)
            except exceptions.NewConnectionError:
                response = self._open(method, path, headers, body)
        except _FOREIGN_ERRORS as error:
            raise _before_the_answer(error) from None
        try:
            content = _read(response, max_bytes)
        except _FOREIGN_ERRORS as error:
            raise _within_the_answer(error) from None
        finally:
            # Unless it was read to its end, the connection is of no further use.
            response.close()
        self._compare_clocks(response.headers.get("Date"))
        if recording and exchange:
            recording.answer(exchange, response.status, response.headers, content)
            trace.checked(Check.COMPLETE)
        return Answer(
            response.status, response.headers, content, seconds=time.monotonic() - started
        )

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

    def _open(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | str | None
    ) -> urllib3.BaseHTTPResponse:
        return self._pool.urlopen(
            method,
            self._prefix + path,
            body=body,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
            retries=False,
            redirect=False,
            timeout=self._timeout,
            preload_content=False,
            decode_content=False,
        )


# --- reading ---------------------------------------------------------------------------------


def _read(response: urllib3.BaseHTTPResponse, max_bytes: int) -> bytes:
    body = bytearray()
    while chunk := response.read(max_bytes + 1 - len(body), decode_content=False):
        body += chunk
        if len(body) > max_bytes:
            raise OmniFundNonsense("OmniFund's answer is too large")
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return bytes(body)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise OmniFundNonsense("OmniFund's answer is compressed in an unknown way")
    # Nobody asked for compression, but some proxies do it all the same. A few kilobytes can unfold
    # to gigabytes, so unfolding stops at the limit too.
    unfolded = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(body, max_bytes + 1)
    if len(unfolded) > max_bytes:
        raise OmniFundNonsense("OmniFund's answer is too large")
    return unfolded


# --- what went wrong -------------------------------------------------------------------------

_FOREIGN_ERRORS: Final = (
    exceptions.HTTPError,
    http.client.HTTPException,
    zlib.error,
    OSError,
    ValueError,
)


def _before_the_answer(error: Exception) -> OmniFundError:
    """Name what happened before the status line and headers were complete."""
    no_connection = (exceptions.NewConnectionError, exceptions.ConnectTimeoutError)
    if not _progress.sent or isinstance(error, no_connection):
        return OmniFundUnavailable("no connection to OmniFund", sent=False)
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return OmniFundTooSlow("OmniFund did not answer in time")
    cause = error.args[-1] if isinstance(error, exceptions.ProtocolError) else error
    if isinstance(cause, OSError | exceptions.SSLError):
        return OmniFundUnavailable("OmniFund closed the connection")
    return OmniFundNonsense("OmniFund's answer is not HTTP")


def _within_the_answer(error: Exception) -> OmniFundError:
    """Name what happened while the body was read."""
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return OmniFundTooSlow("OmniFund did not finish its answer in time")
    return OmniFundNonsense("OmniFund's answer was cut short or is not what it says it is")


# --- the connections ---------------------------------------------------------------------------
# A socket's time-out counts from the last byte, so a server that drips bytes is never too slow for
# it. http.client reads status line, headers and body from one file object; here that file gives
# the socket, before each read, only what is left of the time.


class _DeadlineReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._pause = sock.gettimeout() or TOTAL_TIMEOUT
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        self._sock.settimeout(min(self._pause, left))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, deadline: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_DeadlineReader(raw, sock, deadline))


class _OneExchange(http.client.HTTPConnection):
    """What is added to urllib3's connections: a deadline, and requests that leave in one piece."""

    def __init__(self, *args: Any, answer_timeout: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._answer_timeout = answer_timeout
        self._held: list[bytes] | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        # With https the connection stands by now, certificate and all. With http it is made from
        # here on, and has errors of its own when that fails.
        _progress.sent = True
        self.response_class = functools.partial(  # type: ignore[assignment]  # it is only ever called
            _DeadlineResponse, deadline=time.monotonic() + self._answer_timeout
        )
        # http.client sends headers and body one after the other: two TLS records, two packets.
        self._held = []
        try:
            super().request(*args, **kwargs)
            whole = b"".join(self._held)
        finally:
            self._held = None
        self.send(whole)

    def send(self, data: Any) -> None:
        if self._held is None:
            super().send(data)
        else:
            self._held.append(bytes(data))


class _HTTPConnection(_OneExchange, urllib3.connection.HTTPConnection):
    pass


class _HTTPSConnection(_OneExchange, urllib3.connection.HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection
