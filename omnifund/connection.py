"""One connection to OmniFund, and one HTTP/1.1 exchange over it (RFC 9112).

llhttp, the parser of Node.js, says what an answer means (``httptools``). What is added here is what
goes in and out of the socket: a limit for the time, headers and body together, however slowly a
server drips them; a limit for the size, after decompression too; and never a byte of one answer
taken for the next one's.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Any, Final

import httptools

from omnifund.errors import InvalidResponse, OmniFundTimeout, OmniFundUnavailable

MAX_HEAD_BYTES: Final = 64 * 1024
"""The longest status line and headers that are read, interim answers included."""

READ_BYTES: Final = 64 * 1024
"""How much is read from the socket at a time."""

_MOST_INTERIM_ANSWERS: Final = 10
_HEAD: Final = re.compile(r"[!-~]+ [!-~]+ HTTP/1\.1\r\n(?:[!-~]+: [ -~]*\r\n)+")


def compose(
    method: str, target: str, headers: Mapping[str, str], body: bytes | str | None = None
) -> bytes:
    """Return a request as it goes over the wire. ``headers`` begin with ``Host``.

    Raises ``ValueError`` when a part of it holds what would end that part, as a line break does.
    """
    if isinstance(body, str):
        body = body.encode()
    if body is not None:
        headers = {**headers, "Content-Length": str(len(body))}
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    head = f"{method} {target} HTTP/1.1\r\n{lines}"
    if _HEAD.fullmatch(head) is None or head.count("\n") != len(headers) + 1:
        raise ValueError("this cannot be sent as an HTTP request")
    return head.encode() + b"\r\n" + (body or b"")


class Reading:
    """An answer while it is read, and when it has been. Methods named ``on_…`` are llhttp's.

    ``headers``: names in title case (``Content-Type``), repeated ones joined by commas.
    ``can_be_kept``: whether another request can follow on the same connection.
    """

    def __init__(self, max_bytes: int) -> None:
        """``max_bytes``: the largest body that is accepted, compressed or not."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_complete = False
        self.can_be_kept = False
        self._max_bytes = max_bytes
        self._has_head = False
        self._interim_answers = 0
        self._received = 0
        self._content = bytearray()
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Read what the server has sent next; nothing means that it has closed the connection.

        Raises ``InvalidResponse``, and ``ConnectionResetError`` when there was no answer at all.
        """
        if not data:
            self._end()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self.is_complete:
                raise InvalidResponse("OmniFund's answer is not HTTP") from None
            # The answer is whole; what came after it is not another one's beginning.
            self.can_be_kept = False
        # Twice, because what frames chunks comes on top; more than that is no honest server's.
        allowed = MAX_HEAD_BYTES + (2 * self._max_bytes if self._has_head else 0)
        if len(self._content) > self._max_bytes or self._received > allowed:
            raise InvalidResponse("OmniFund's answer is too large")
        if self._interim_answers > _MOST_INTERIM_ANSWERS:
            raise InvalidResponse("OmniFund's answer never comes")
        if self.is_complete:
            self.body = _unfold(self._content, self.headers, self._max_bytes)

    def _end(self) -> None:
        if self._has_head and not self.headers.keys() & {"Content-Length", "Transfer-Encoding"}:
            # RFC 9112 §6.3: without a length, the end of the connection is the end of the body.
            self.is_complete = True
            self.body = _unfold(self._content, self.headers, self._max_bytes)
        elif self._received:
            raise InvalidResponse("OmniFund's answer was cut short")
        else:
            raise ConnectionResetError

    def on_message_begin(self) -> None:
        # Whatever follows a complete answer, nobody has asked for it.
        self.can_be_kept = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._has_head:
            return  # a trailer, or something after the answer
        key, text = name.decode("latin-1").title(), value.decode("latin-1").strip()
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        if not self._has_head:
            self._has_head = True
            self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if not self.is_complete:
            self._content += body

    def on_message_complete(self) -> None:
        if self.is_complete:
            return
        if self.status >= 200:
            self.is_complete = True
            self.can_be_kept = self._parser.should_keep_alive()
        else:
            # RFC 9110 §15.2: any number of interim answers may come before the answer.
            self._interim_answers += 1
            self._has_head = False
            self.headers = {}


def _unfold(content: bytearray, headers: Mapping[str, str], max_bytes: int) -> bytes:
    """Return the body without its ``Content-Encoding``. Raises ``InvalidResponse``."""
    if headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        raise InvalidResponse("OmniFund's answer is packed in a way that nobody asked for")
    encoding = headers.get("Content-Encoding", "identity").lower()
    if encoding in ("identity", ""):
        return bytes(content)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise InvalidResponse("OmniFund's answer is compressed in an unknown way")
    # Nobody asked for compression, but some proxies do it all the same. A few kilobytes can unfold
    # to gigabytes, so unfolding stops at the limit too.
    unfolding = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        unfolded = unfolding.decompress(content, max_bytes + 1)
    except zlib.error:
        raise InvalidResponse("OmniFund's answer is not what it says it is") from None
    if len(unfolded) > max_bytes:
        raise InvalidResponse("OmniFund's answer is too large")
    if not unfolding.eof or unfolding.unused_data:
        raise InvalidResponse("OmniFund's answer is not what it says it is")
    return unfolded


class Connection:
    """A connection that one thread at a time asks over.

    ``idle_since``: since when nobody has, in monotonic seconds.
    """

    def __init__(self, sock: socket.socket, read_timeout: float) -> None:
        """``sock``: connected. ``read_timeout``: how long the server may be silent, in seconds."""
        self.idle_since = 0.0
        self._sock = sock
        self._read_timeout = read_timeout

    def ask(self, request: bytes, *, max_bytes: int, deadline: float) -> Reading:
        """Send a request and return its whole answer. ``deadline``: monotonic seconds.

        Raises ``OmniFundTimeout``, ``InvalidResponse`` or ``OmniFundUnavailable``; the server may
        have carried out the request all the same. After that the connection is of no use.
        """
        reading = Reading(max_bytes)
        try:
            self._sock.settimeout(self._read_timeout)
            # In one piece: headers and body apart are two TLS records and two packets.
            self._sock.sendall(request)
            while not reading.is_complete:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise OmniFundTimeout("OmniFund did not finish its answer in time")
                self._sock.settimeout(min(self._read_timeout, left))
                reading.feed(self._sock.recv(READ_BYTES))
        except TimeoutError:
            raise OmniFundTimeout("OmniFund did not answer in time") from None
        except OSError:
            if reading.status:
                raise InvalidResponse("OmniFund's answer was cut short") from None
            raise OmniFundUnavailable("OmniFund closed the connection") from None
        return reading

    def is_quiet(self) -> bool:
        """Whether the idle connection is open, and has received nothing that nobody asked for."""
        # What TLS has decrypted already is no longer in the socket that the kernel knows.
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return False
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        return not poller.poll(0)

    def close(self) -> None:
        """Close it at once."""
        self._sock.close()


# --- connecting --------------------------------------------------------------------------------


def open_socket(
    host: str, port: int, *, timeout: float, context: ssl.SSLContext | None
) -> socket.socket:
    """Return a connected socket, through TLS when there is a ``context``.

    ``timeout`` is in seconds and for everything together: the name server, all addresses of the
    host, which share it, and the TLS handshake. Raises ``OSError``, or ``UnicodeError`` when no
    host can have such a name.
    """
    give_up_at = time.monotonic() + timeout
    addresses = _resolve(host, port, timeout)
    problem: OSError = TimeoutError("no address has answered in time")
    for tried, (family, kind, protocol, _name, where) in enumerate(addresses):
        left = give_up_at - time.monotonic()
        if left <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(left / (len(addresses) - tried))
            sock.connect(where)
            sock.settimeout(max(0.001, give_up_at - time.monotonic()))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock if context is None else context.wrap_socket(sock, server_hostname=host)
        except OSError as error:
            problem = error
            sock.close()
        except BaseException:
            sock.close()
            raise
    raise problem


def _resolve(host: str, port: int, timeout: float) -> list[Any]:
    # getaddrinfo has no time limit, and takes half a minute when the name server is silent.
    answers: SimpleQueue[Any] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True, name="getaddrinfo").start()
    try:
        answer = answers.get(timeout=timeout)
    except Empty:
        raise TimeoutError("the name server did not answer in time") from None
    if isinstance(answer, Exception):
        raise answer
    found: list[Any] = answer
    return found
