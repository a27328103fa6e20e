"""A provider on a real socket that answers exactly as it is told, however badly.

``ScriptedProvider`` plays answers; the functions below it make them. ``HonestProvider`` is a small,
well-behaved OAuth provider built on it, that counts what it is asked and can be told to misbehave
once. Standard library only: copy the folder and use it for your own client.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import secrets
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

JSON = "application/json"


@dataclass(frozen=True)
class Request:
    """What the provider was sent. ``connection`` counts TCP connections from 1."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    connection: int

    def header(self, name: str) -> str | None:
        """Return a header's value, or ``None``."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    @property
    def form(self) -> dict[str, str]:
        """The body as a form."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


class Wire:
    """One connection, as an answer sees it."""

    def __init__(self, connection: socket.socket, closing: threading.Event) -> None:
        self.socket = connection
        self._closing = closing

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def pause(self, seconds: float) -> None:
        """Wait; ends early, and the connection with it, when the provider is closed."""
        if self._closing.wait(seconds):
            raise ConnectionAbortedError

    def reset(self) -> None:
        """Close with RST instead of FIN, so that the other side sees "connection reset"."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


Answer = Callable[[Request, Wire], bool]
"""Sends something; returns whether the connection can be used again."""


# --- answers -----------------------------------------------------------------------------------


def raw_answer(
    body: bytes,
    status: int = 200,
    content_type: str | None = JSON,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """A correct HTTP answer with this body."""

    def answer(_request: Request, wire: Wire) -> bool:
        wire.send(_head(status, content_type, headers, len(body)) + body)
        return True

    return answer


def plain(body: bytes) -> bytes:
    """Return a correct answer with this body, as it goes over the wire."""
    return _head(200, JSON, None, len(body)) + body


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A correct HTTP answer with this JSON."""
    return raw_answer(json.dumps(value).encode(), status, JSON, headers)


def redirect_to(url: str, status: int = 302) -> Answer:
    """A redirect; a client that follows it takes its request to another host."""
    return raw_answer(b"", status, None, {"Location": url})


def slow(then: Answer, seconds: float) -> Answer:
    """Say nothing for so long, then answer."""

    def answer(request: Request, wire: Wire) -> bool:
        wire.pause(seconds)
        return then(request, wire)

    return answer


def hold(until: threading.Event, then: Answer) -> Answer:
    """Say nothing until the test says so: races without a clock."""

    def answer(request: Request, wire: Wire) -> bool:
        while not until.is_set():
            wire.pause(0.005)
        return then(request, wire)

    return answer


def drip(body: bytes, *, every: float = 0.4, headers_too: bool = False) -> Answer:
    """Send one byte at a time. No single wait is long enough for a read time-out."""

    def answer(_request: Request, wire: Wire) -> bool:
        head = _head(200, JSON, None, len(body))
        if not headers_too:
            wire.send(head)
        for byte in head + body if headers_too else body:
            wire.send(bytes([byte]))
            wire.pause(every)
        return True

    return answer


def endless(*, content_type: str = JSON, compressed: bool = False) -> Answer:
    """A body that never ends, as fast as the client takes it."""

    def answer(_request: Request, wire: Wire) -> bool:
        coding = {"Content-Encoding": "gzip"} if compressed else None
        wire.send(_head(200, content_type, coding, None))
        chunk = gzip.compress(b" " * 65536) if compressed else b" " * 65536
        while True:
            wire.send(chunk)
            wire.pause(0)

    return answer


def gzip_bomb(megabytes: int = 64) -> Answer:
    """A small body that unfolds to so many megabytes."""
    folded = gzip.compress(b'{"a": "' + b"x" * (megabytes * 1024 * 1024) + b'"}', 9)
    return raw_answer(folded, headers={"Content-Encoding": "gzip"})


def truncated(body: bytes = b'{"access_token": "abc', *, missing: int = 100) -> Answer:
    """Promise more than is sent, then close."""

    def answer(_request: Request, wire: Wire) -> bool:
        wire.send(_head(200, JSON, None, len(body) + missing) + body)
        return False

    return answer


def reset_mid_body(body: bytes = b'{"access_token": "abc') -> Answer:
    """Reset the connection in the middle of the body."""

    def answer(_request: Request, wire: Wire) -> bool:
        wire.send(_head(200, JSON, None, len(body) + 100) + body)
        wire.pause(0.05)
        wire.reset()
        return False

    return answer


def close_without_answer() -> Answer:
    """Read the request, then close."""
    return lambda _request, _wire: False


def reset_without_answer() -> Answer:
    """Read the request, then reset the connection."""

    def answer(_request: Request, wire: Wire) -> bool:
        wire.reset()
        return False

    return answer


def sends(data: bytes) -> Answer:
    """Send exactly these bytes, then close."""

    def answer(_request: Request, wire: Wire) -> bool:
        wire.send(data)
        return False

    return answer


def garbage() -> Answer:
    """Something that is not HTTP."""
    return sends(b"\x16\x03\x01 SSH-2.0 \xff\xfe nonsense\r\n\r\n")


def bad_chunked() -> Answer:
    """A chunked body whose chunk size is no number."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return sends(head + b"xyz\r\n{}\r\n0\r\n\r\n")


def huge_headers() -> Answer:
    """More headers than any client should read."""
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 60000) for number in range(200))
    return sends(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + lines + b"\r\n{}")


def _head(
    status: int, content_type: str | None, headers: Mapping[str, str] | None, length: int | None
) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    # Without a length the body ends when the connection does.
    lines.append("Connection: close" if length is None else f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


# --- the provider ------------------------------------------------------------------------------


class ScriptedProvider:
    """Listens on this machine, remembers every request, plays the answers that it was given."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        """``tls``: a server context, to speak https. ``port``: 0 for a free one."""
        self._tls = tls
        self._lock = threading.Condition()
        self._answers: dict[tuple[str, str], deque[Answer]] = defaultdict(deque)
        self._closing = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.tls_handshakes = 0
        self._listeners: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        self.port = self.listen(port, tls)

    @property
    def url(self) -> str:
        """The provider's base URL."""
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}"

    def listen(self, port: int = 0, tls: ssl.SSLContext | None = None) -> int:
        """Listen on one more port, before the provider is entered; return its number."""
        listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._listeners.append((listener, tls))
        number: int = listener.getsockname()[1]
        return number

    def on(self, method: str, path: str, *answers: Answer) -> Self:
        """Answer requests to ``path`` with these, one after the other; the last one stays."""
        with self._lock:
            self._answers[method, path] = deque(answers)
        return self

    def received(self, path: str) -> list[Request]:
        """Return the requests to ``path`` so far."""
        with self._lock:
            return [request for request in self.requests if request.path == path]

    def wait_for(self, path: str, count: int = 1, *, seconds: float = 10) -> None:
        """Wait until so many requests to ``path`` have arrived."""
        with self._lock:
            arrived = self._lock.wait_for(
                lambda: sum(request.path == path for request in self.requests) >= count, seconds
            )
        if not arrived:
            raise TimeoutError(f"{path} was not asked {count} times within {seconds} s")

    def find_answer(self, request: Request) -> Answer:
        """Return the answer to play; subclasses may decide otherwise."""
        with self._lock:
            answers = self._answers[request.method, request.path]
            if not answers:
                return json_answer({"error": "not_scripted"}, 404)
            return answers.popleft() if len(answers) > 1 else answers[0]

    def __enter__(self) -> Self:
        for listener in self._listeners:
            thread = threading.Thread(target=self._accept, args=listener, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_error: object) -> None:
        self._closing.set()
        with self._lock:
            open_sockets = list(self._sockets)
        # close() alone would not wake a thread that waits in accept() or recv().
        for each in (*(listener for listener, _ in self._listeners), *open_sockets):
            _shut(each)
        for thread in self._threads:
            thread.join(timeout=5)

    def _accept(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                number = self.connections
                self._sockets.add(connection)
            arguments = (connection, number, tls)
            thread = threading.Thread(target=self._serve, args=arguments, daemon=True)
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection: socket.socket, number: int, tls: ssl.SSLContext | None) -> None:
        try:
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._sockets.add(connection)
                    self.tls_handshakes += 1
            stream = connection.makefile("rb")
            while (request := _read_request(stream, number)) is not None:
                with self._lock:
                    self.requests.append(request)
                    self._lock.notify_all()
                if not self.find_answer(request)(request, Wire(connection, self._closing)):
                    break
        except (OSError, ValueError):
            pass
        finally:
            _shut(connection)


def _shut(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


def _read_request(stream: Any, number: int) -> Request | None:
    line = stream.readline(65536)
    if not line.strip():
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers = []
    while (line := stream.readline(65536)).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers.append((name, value.strip()))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    parts = urlsplit(target)
    return Request(
        method,
        parts.path,
        tuple(parse_qsl(parts.query, keep_blank_values=True)),
        tuple(headers),
        stream.read(length),
        number,
    )


# --- an honest provider ------------------------------------------------------------------------


def new_token() -> str:
    """A token in OmniFund's form: 86 characters, base64url of 64 hexadecimal digits."""
    digits = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
    return base64.urlsafe_b64encode(digits.encode()).rstrip(b"=").decode()


class HonestProvider(ScriptedProvider):
    """Approves every request; issues, rotates, and checks tokens; single use is atomic.

    ``expires_in``: what the next tokens live, in seconds. ``clock`` returns Unix seconds.
    ``delay``: seconds that each token answer takes.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
        expires_in: int = 3600,
        clock: Callable[[], float] = time.time,
        delay: float = 0,
    ) -> None:
        super().__init__(tls=tls, port=port)
        self.expires_in = expires_in
        self.delay = delay
        self._clock = clock
        self._next: dict[str, deque[Answer]] = {"token": deque(), "api": deque()}
        self._codes: dict[str, str] = {}
        self._access: dict[str, float] = {}
        self._refresh: set[str] = set()
        self.code_requests = 0
        self.refreshes = 0
        self.rejections = 0

    def next_token_answer(self, *answers: Answer) -> None:
        """Answer the next token requests with these instead."""
        with self._lock:
            self._next["token"].extend(answers)

    def next_api_answer(self, *answers: Answer) -> None:
        """Answer the next API requests with these instead."""
        with self._lock:
            self._next["api"].extend(answers)

    def revoke_access_tokens(self) -> None:
        """Refuse every access token that was issued so far."""
        with self._lock:
            self._access.clear()

    def revoke_refresh_tokens(self) -> None:
        """Refuse every refresh token that was issued so far."""
        with self._lock:
            self._refresh.clear()

    def find_answer(self, request: Request) -> Answer:
        """Return what a good provider would answer, unless a test has said otherwise."""
        if request.path == "/oauth/v2/auth":
            return self._authorize(request)
        kind = "token" if request.path == "/oauth/v2/token" else "api"
        with self._lock:
            if self._next[kind]:
                return self._next[kind].popleft()
            honest = self._token(request) if kind == "token" else self._api(request)
        return slow(honest, self.delay) if kind == "token" and self.delay else honest

    def _authorize(self, request: Request) -> Answer:
        query, code = dict(request.query), new_token()
        with self._lock:
            self._codes[code] = query.get("code_challenge", "")
        answer = urlencode({"state": query.get("state", ""), "code": code})
        return redirect_to(f"{query['redirect_uri']}?{answer}")

    def _token(self, request: Request) -> Answer:
        form = request.form
        grant = form.get("grant_type")
        if grant == "authorization_code":
            self.code_requests += 1
            challenge = self._codes.pop(form.get("code", ""), None)
            good = challenge is not None and _proves(form.get("code_verifier", ""), challenge)
        elif grant == "refresh_token":
            self.refreshes += 1
            good = form.get("refresh_token") in self._refresh
            self._refresh.discard(form.get("refresh_token", ""))
        else:
            good = grant == "password" and form.get("password") != "wrong"
        if not good:
            self.rejections += 1
            return json_answer({"error": "invalid_grant", "error_description": "No."}, 400)
        access_token, refresh_token = new_token(), new_token()
        self._access[access_token] = self._clock() + self.expires_in
        self._refresh.add(refresh_token)
        return json_answer(
            {
                "access_token": access_token,
                "expires_in": self.expires_in,
                "token_type": "bearer",
                "scope": None,
                "refresh_token": refresh_token,
            }
        )

    def _api(self, request: Request) -> Answer:
        scheme, _, token = (request.header("Authorization") or "").partition(" ")
        if scheme != "Bearer" or self._clock() > self._access.get(token, 0):
            return json_answer({"error": "invalid_grant"}, 401)
        return self.collection(request)

    def collection(self, request: Request) -> Answer:
        """Return the answer to an API request whose access token is valid."""
        member = {"@id": f"{request.path}/1", "id": 1, "firstName": "Ada", "amount": "12.50"}
        return json_answer(
            {"@type": "hydra:Collection", "hydra:member": [member], "hydra:totalItems": 1}
        )


def _proves(verifier: str, challenge: str) -> bool:
    if not challenge:
        return True
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge


def odd_token_responses() -> Iterator[tuple[str, Answer]]:
    """Token responses with values that JSON can spell and few programs can hold, by name."""
    for name, key, value in (
        ("expires_in 1e400", "expires_in", "1e400"),
        ("expires_in -1e400", "expires_in", "-1e400"),
        ("expires_in NaN", "expires_in", "NaN"),
        ("expires_in Infinity", "expires_in", "Infinity"),
        ("expires_in of 5000 digits", "expires_in", "9" * 5000),
        ("expires_in of 400 digits in quotes", "expires_in", f'"{"9" * 400}"'),
        ("expires_in in words", "expires_in", '"an hour"'),
        ("expires_in true", "expires_in", "true"),
        ("expires_in a list", "expires_in", "[3600]"),
        ("half a surrogate pair in the token", "access_token", '"\\ud800"'),
        ("half a surrogate pair in the refresh token", "refresh_token", '"\\udc00"'),
        ("half a surrogate pair in the scope", "scope", '"read \\ud800"'),
        ("half a surrogate pair in the type", "token_type", '"\\ud800"'),
        ("half a surrogate pair in another field", "extra", '"\\ud800"'),
        ("a NUL in the token", "access_token", '"abc\\u0000"'),
        ("a scope of 50,000 characters", "scope", f'"{"x" * 50_000}"'),
    ):
        fields = {
            "access_token": f'"{new_token()}"',
            "refresh_token": f'"{new_token()}"',
            "token_type": '"bearer"',
            "expires_in": "3600",
            key: value,
        }
        body = ", ".join(f'"{each}": {text}' for each, text in fields.items())
        yield name, raw_answer(f"{{{body}}}".encode())
    yield "an error with half a surrogate pair", raw_answer(b'{"error": "\\ud800"}', 400)
    yield "an error of 5000 digits", raw_answer(b'{"error": ' + b"9" * 5000 + b"}", 400)
    yield "only a number of 5000 digits", raw_answer(b"9" * 5000)


def every_misbehavior(elsewhere: str) -> Iterator[tuple[str, Answer]]:
    """Every way of answering badly that comes back quickly, by name.

    ``elsewhere``: a URL for redirects to lead to.
    """
    for status in (301, 302, 303, 307, 308):
        yield f"redirect {status}", redirect_to(elsewhere, status)
    yield "endless body", endless()
    yield "endless compressed body", endless(compressed=True)
    yield "gzip bomb", gzip_bomb()
    yield "truncated body", truncated()
    yield "reset in the body", reset_mid_body()
    yield "closed without an answer", close_without_answer()
    yield "reset without an answer", reset_without_answer()
    yield "garbage", garbage()
    yield "bad chunks", bad_chunked()
    yield "huge headers", huge_headers()
    yield "HTML", raw_answer(b"<h1>Hello</h1>", 200, "text/html")
    yield "HTML with an error status", raw_answer(b"<h1>Oh</h1>", 400, "text/html")
    yield "JSON under another type", raw_answer(b'{"access_token": "a"}', 200, "text/plain")
    yield "no content type", raw_answer(b"{}", 200, None)
    yield "empty body", raw_answer(b"")
    yield "a list", json_answer([1, 2])
    yield "a string", json_answer("token")
    yield "null", json_answer(None)
    yield "an empty object", json_answer({})
    yield "NaN", raw_answer(b'{"expires_in": NaN}')
    yield "bad UTF-8", raw_answer(b'{"access_token": "\xff\xfe"}')
    yield "half a JSON", raw_answer(b'{"access_token": "abc"')
    yield "deep nesting", raw_answer(b"[" * 30000 + b"]" * 30000)
    yield "unknown compression", raw_answer(b"{}", headers={"Content-Encoding": "br"})
    yield "broken compression", raw_answer(b"{}", headers={"Content-Encoding": "gzip"})
    yield "a message and 401", json_answer({"message": "nope"}, 401)
    yield "an error that is no string", json_answer({"error": 7}, 400)
    yield "an error with status 200", json_answer({"error": "invalid_grant"}, 200)
    yield "an unknown error", json_answer({"error": "who_knows"}, 400)
