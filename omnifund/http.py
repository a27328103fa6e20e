"""HTTP to OmniFund: one origin, pooled connections, and limits for time and size.

httpcore2 does the sockets, TLS, HTTP/1.1, and pooling. It follows no redirect, keeps no cookie, and
reads no proxy or password from the environment (docs/adr/0006-http-client.md).
"""

from __future__ import annotations

import gzip
import io
import logging
import os
import re
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import certifi
import httpcore2
import msgspec

from omnifund.errors import InvalidResponse, OmniFundTimeout, OmniFundUnavailable

TOTAL_TIMEOUT: Final = 15.0
"""Seconds that one exchange may take, from connecting to the body's last byte."""
MAX_IDLE_CONNECTIONS: Final = 64
MAX_IDLE_SECONDS: Final = 30
MAX_HEAD_BYTES: Final = 128 * 1024
DEFAULT_RETRY_AFTER: Final = 5
MAX_RETRY_AFTER: Final = 3600
# With the hook, a number beyond a float becomes infinite; its reader decides what it means.
_JSON_OBJECT: Final = msgspec.json.Decoder(dict[str, Any], float_hook=float)

# At DEBUG httpcore2 logs the headers of responses, which may repeat a secret.
logging.getLogger("httpcore2").setLevel(logging.INFO)


@dataclass(frozen=True, slots=True)
class Response:
    """A complete HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class HTTPClient:
    """Sends requests to one origin. Safe to share between threads, and after a fork."""

    def __init__(
        self,
        base_url: str,
        *,
        connect_timeout: float = 3.0,
        read_timeout: float = 10.0,
        total_timeout: float = TOTAL_TIMEOUT,
        ca_bundle: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``ca_bundle``: a PEM file of authorities, trusted instead of certifi's."""
        url = urlsplit(base_url)
        readable = base_url.isascii() and base_url.isprintable() and not {*" ?#@\\"} & {*base_url}
        if not readable or url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("the base URL is http(s), a host, and optionally a port and a path")
        self.base_url = base_url.rstrip("/")
        self.total_timeout = max(total_timeout, connect_timeout + read_timeout)
        self.clock_ahead: float | None = None
        """Seconds by which this clock is ahead of OmniFund's, by its latest ``Date`` header."""
        self._clock = clock
        self._origin: Any = {"scheme": url.scheme, "host": url.hostname, "port": url.port}
        self._prefix = url.path.rstrip("/")
        self._headers = {
            "Host": url.netloc,
            "User-Agent": "omnifund-reference-integration",
            "Accept-Encoding": "identity",
        }
        self._timeouts = (connect_timeout, read_timeout, self.total_timeout)
        # Loading the authorities takes some 20 ms of CPU: once, not per connection.
        self._tls = ssl.create_default_context(cafile=ca_bundle or certifi.where())
        self._tls.hostname_checks_common_name = False  # subjectAltName only: RFC 9525
        self._pools: dict[int, httpcore2.ConnectionPool] = {}
        weakref.finalize(self, _close, self._pools)  # Idle connections close with this client.

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: str | bytes | None = None,
        max_bytes: int,
    ) -> Response:
        """Send one request below the base URL, at most once, and return the whole response.

        Raises ``OmniFundUnavailable`` (its ``sent`` tells whether the request may have arrived),
        ``OmniFundTimeout`` or ``InvalidResponse``, and ``ValueError`` for what cannot be sent.
        """
        headers, target = {**self._headers, **headers}, self._prefix + path
        text = "".join((method, target, *headers, *headers.values()))
        if not text.isascii() or not text.isprintable():
            raise ValueError("this cannot be sent as an HTTP request")
        limits = _Limits(*self._timeouts)
        opening = self._pool().stream(
            method,
            httpcore2.URL(**self._origin, target=target),
            headers=list(headers.items()),
            content=body.encode() if isinstance(body, str) else body,
            # The pool hands these to the network backend as they are.
            extensions={"timeout": {"connect": limits, "read": limits, "write": limits}},
        )
        response = receive_response(opening, limits, max_bytes)
        if (moment := _read_date(response.headers.get("Date", ""))) is not None:
            self.clock_ahead = self._clock() - moment
        return response

    def _pool(self) -> httpcore2.ConnectionPool:
        # One for each process: after a fork, the connections are still the parent's.
        process = os.getpid()
        return self._pools.get(process) or self._pools.setdefault(
            process,
            httpcore2.ConnectionPool(
                self._tls,
                max_connections=None,
                max_keepalive_connections=MAX_IDLE_CONNECTIONS,
                keepalive_expiry=MAX_IDLE_SECONDS,
                retries=1,  # of connecting, not of what may have been sent
                network_backend=_Backend(),
            ),
        )


def _close(pools: Mapping[int, httpcore2.ConnectionPool]) -> None:
    if pool := pools.get(os.getpid()):
        pool.close()


def receive_response(
    opening: AbstractContextManager[httpcore2.Response], limits: _Limits, max_bytes: int
) -> Response:
    """The response is complete, in time, and within the size limit (RFC 9112 §8)."""
    try:
        with opening as incoming:
            limits.max_received += 2 * max_bytes  # twice, because chunks are framed
            headers: dict[str, str] = {}
            for raw_name, raw_value in incoming.headers:
                name, value = raw_name.decode("latin-1").title(), raw_value.decode("latin-1")
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            if "Content-Length" in headers and "Transfer-Encoding" in headers:
                raise InvalidResponse("OmniFund's response has two lengths")  # RFC 9112 §6.3
            body = bytearray()
            for part in incoming.iter_stream():
                body += part
                if len(body) > max_bytes:
                    break  # The rest is not read, and the connection is closed.
    except httpcore2.LocalProtocolError:
        raise ValueError("this cannot be sent as an HTTP request") from None
    except (httpcore2.ConnectError, httpcore2.ConnectTimeout, UnicodeError):
        # UnicodeError: no host can have such a name.
        raise OmniFundUnavailable("no connection to OmniFund", sent=False) from None
    except httpcore2.TimeoutException:
        raise OmniFundTimeout("OmniFund did not respond in time") from None
    except (httpcore2.NetworkError, httpcore2.RemoteProtocolError):
        if not limits.received:
            raise OmniFundUnavailable("OmniFund closed the connection") from None
        raise InvalidResponse("OmniFund's response is cut short, or is not HTTP") from None
    is_away = _is_unavailable(incoming.status)
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        # A proxy's page about being unavailable may be compressed in any way, and is not used.
        body = bytearray() if is_away else _decompress(body, max_bytes)
    if len(body) > max_bytes and not is_away:
        raise InvalidResponse("OmniFund's response is too large")
    return Response(incoming.status, headers, bytes(body[:max_bytes]))


def _decompress(body: bytearray, max_bytes: int) -> bytearray:
    """Return ``max_bytes`` + 1 bytes at most. No request asks for gzip, but some proxies do it."""
    try:
        return bytearray(gzip.GzipFile(fileobj=io.BytesIO(body)).read(max_bytes + 1))
    except Exception:  # noqa: BLE001 - gzip documents three classes with no common parent
        raise InvalidResponse("OmniFund's response is not compressed with gzip") from None


def raise_if_unavailable(response: Response, *, now: float) -> None:
    """OmniFund can respond now: the status is neither 429 nor 5xx (RFC 9110 §15.6, RFC 6585 §4)."""
    if _is_unavailable(response.status):
        seconds = retry_after(response.headers.get("Retry-After"), now=now)
        raise OmniFundUnavailable("OmniFund cannot respond now", retry_after=seconds)


def _is_unavailable(status: int) -> bool:
    return status == 429 or status >= 500


def retry_after(value: str | None, *, now: float) -> int:
    """Read ``Retry-After`` (RFC 9110 §10.2.3): seconds, or a date. ``now``: Unix seconds."""
    value = (value or "").strip()
    if re.fullmatch("[0-9]{1,9}", value):
        return min(int(value), MAX_RETRY_AFTER)
    if (moment := _read_date(value)) is None:
        return DEFAULT_RETRY_AFTER
    return int(min(max(moment - now, 0), MAX_RETRY_AFTER))


def _read_date(value: str) -> float | None:
    try:
        moment = parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def read_json_object(response: Response) -> Mapping[str, Any]:
    """The content type is JSON and the body is a JSON object (RFC 6749 §5.1)."""
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not re.fullmatch(r"application/([a-z0-9.+-]+\+)?json", content_type):
        raise InvalidResponse("OmniFund's response is not JSON")
    try:
        # Strict (RFC 8259 §6, §8.2): no NaN, no half of a surrogate pair.
        return _JSON_OBJECT.decode(response.body)
    except (ValueError, RecursionError):
        raise InvalidResponse("OmniFund's response is not a JSON object") from None


# --- the network below httpcore2 -----------------------------------------------------------------


class _Limits:
    """What one exchange may take. Its times are in monotonic seconds."""

    def __init__(self, connect_timeout: float, read_timeout: float, total_timeout: float) -> None:
        now = time.monotonic()
        self._connect_by, self._finish_by = now + connect_timeout, now + total_timeout
        self._read_timeout = read_timeout
        self.received, self.max_received = 0, MAX_HEAD_BYTES

    def to_connect(self) -> float:
        if (left := self._connect_by - time.monotonic()) <= 0:
            raise httpcore2.ConnectTimeout
        return left

    def to_finish(self) -> float:
        if (left := self._finish_by - time.monotonic()) <= 0:
            raise httpcore2.ReadTimeout
        return min(left, self._read_timeout)


class _Backend(httpcore2.SyncBackend):
    def connect_tcp(self, host: str, port: int, timeout: Any = None, *_: Any, **__: Any) -> _Stream:
        """Connect in a thread: getaddrinfo() has no timeout, and all addresses share this one."""
        left, connecting = timeout.to_connect(), Future[_Stream]()

        def connect() -> None:
            try:
                # A quarter for each address, so that a silent one leaves time for the next.
                stream = super(_Backend, self).connect_tcp(host, port, left / 4)
                connecting.set_result(_Stream(stream))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout, UnicodeError) as error:
                connecting.set_exception(error)

        threading.Thread(target=connect, daemon=True).start()
        try:
            return connecting.result(left)
        except TimeoutError:
            raise httpcore2.ConnectTimeout from None


class _Stream(httpcore2.NetworkStream):
    """A connection that keeps to limits, and notices bytes that no request asked for.

    The last byte received is held back until it is asked for. If a response is complete without it,
    more was received than the response, and httpcore2 would take it for the next one: the
    connection then counts as readable, and is closed (RFC 9112 §9.2).
    """

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream, self._last_byte = stream, b""

    def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        data, self._last_byte = self._last_byte, b""
        if not data:
            data = self._stream.read(max_bytes, timeout.to_finish())
            timeout.received += len(data)
            if timeout.received > timeout.max_received:
                raise InvalidResponse("OmniFund's response is too large")
            if len(data) > 1:
                data, self._last_byte = data[:-1], data[-1:]
        return data

    def write(self, buffer: bytes, timeout: Any = None) -> None:
        self._stream.write(buffer, timeout.to_finish())

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Any = None
    ) -> _Stream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout.to_connect()))

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable" and self._last_byte:
            return True
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()

    # A connection that is made after its time belongs to no request.
    __del__ = close
