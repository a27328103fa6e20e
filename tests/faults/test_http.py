"""The HTTP client against servers and networks that really misbehave (docs/adr/0006)."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import secrets
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import certifi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnifund import http
from omnifund.errors import (
    InvalidResponse,
    OmniFundError,
    OmniFundTimeout,
    OmniFundUnavailable,
)
from omnifund.http import HTTPClient, Response, raise_if_unavailable
from tests.faults import provider as kit
from tests.faults.certificates import Certificates
from tests.faults.network import TcpProxy
from tests.faults.provider import ScriptedProvider
from tests.support.processes import free_port, wait_until

LIMIT = 64 * 1024
READ_BYTES = 64 * 1024  # what httpcore2 asks the socket for
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def full_listener() -> Iterator[tuple[str, int]]:
    """The address of a host that never accepts: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()


def post(client: HTTPClient, body: str = "grant_type=x") -> Response:
    return client.send("POST", "/token", headers={}, body=body, max_bytes=LIMIT)


def response_to(answer: kit.Answer, **options: float) -> Response:
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", answer)
        return post(HTTPClient(provider.url, **options))  # type: ignore[arg-type]  # times only


def in_pieces(wire_bytes: bytes, size: int, *, then_close: bool) -> kit.Answer:
    def answer(_request: kit.Request, wire: kit.Wire) -> bool:
        for begin in range(0, len(wire_bytes), size):
            wire.send(wire_bytes[begin : begin + size])
        return not then_close

    return answer


# --- good responses --------------------------------------------------------------------------


def test_a_good_response_arrives_whole() -> None:
    response = response_to(kit.json_answer({"a": 1}, 201, {"X-More": "yes"}))
    assert (response.status, response.body, response.headers["X-More"]) == (201, b'{"a": 1}', "yes")


def test_a_response_that_comes_before_the_request_has_been_read_arrives() -> None:
    """A server may refuse a request by its head (RFC 9112 §9.5)."""

    def refuse() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(20)
            connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        refused = pool.submit(refuse)
        port = listener.getsockname()[1]
        response = post(HTTPClient(f"http://127.0.0.1:{port}"), "x" * 5_000_000)
        refused.result()
    assert (response.status, response.body) == (413, b"no")


@pytest.mark.parametrize("piece", [READ_BYTES, 1, 7], ids=["whole", "bytes", "sevens"])
@pytest.mark.parametrize(
    ("wire", "body", "can_be_kept"),
    [
        (OK + b"content-length: 2\r\n\r\n{}", b"{}", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (
            OK
            + b"Transfer-Encoding: Chunked\r\n\r\n1;a=b\r\n{\r\n1\r\n}\r\n0\r\nX-More: no\r\n\r\n",
            b"{}",
            True,
        ),
        (OK + b"\r\n{}", b"{}", False),
        (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}", b"{}", False),
        (OK + b"Connection: close\r\n\r\n{}", b"{}", False),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", b"{}", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}", False),
        (
            b"HTTP/1.1 103 Hints\r\nX-More: no\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}",
            b"{}",
            True,
        ),
        (
            OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{}",
            b"{}",
            True,
        ),
        (
            OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"{}", mtime=0),
            b"{}",
            False,
        ),
    ],
    ids=[
        "length",
        "no body",
        "chunks",
        "until it closes",
        "closes",
        "closes without a length",
        "HTTP/1.0",
        "HTTP/1.0 with a length",
        "interim",
        "upgrade offered",
        "gzip",
    ],
)
def test_a_response_is_the_same_in_whatever_pieces_it_comes(
    wire: bytes, body: bytes, can_be_kept: bool, piece: int
) -> None:
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", in_pieces(wire, piece, then_close=not can_be_kept))
        client = HTTPClient(provider.url)
        for count in (1, 2, 3):
            response = post(client)
            assert (response.body, "X-More" in response.headers) == (body, False)
            assert provider.connections == (1 if can_be_kept else count)


def test_headers_have_one_name_however_they_are_written() -> None:
    """K17: whatever bytes a value holds, it is a string."""
    head = b"set-cookie: a\r\nSET-COOKIE:  b \r\nX-Odd: \xff\xc3\r\nContent-Length: 0\r\n\r\n"
    headers = response_to(kit.sends(OK + head)).headers
    assert headers == {"Set-Cookie": "a, b", "X-Odd": "\xff\xc3", "Content-Length": "0"}


def test_a_folded_header_is_one_line() -> None:
    """RFC 9112 §5.2: a user agent replaces each fold by a space."""
    folded = OK + b"X-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\n{}"
    assert response_to(kit.sends(folded)).headers["X-Folded"] == "a b"


def test_a_request_is_sent_as_it_is_given() -> None:
    """C1"""
    with ScriptedProvider() as provider:
        provider.on("POST", "/a;b=c//d", kit.json_answer({}))
        client = HTTPClient(provider.url)
        client.send("POST", "/a;b=c//d?e=%2e%2F", headers={"Accept": "*/*"}, body="é", max_bytes=9)
        (request,) = provider.requests
    assert (request.path, request.query) == ("/a;b=c//d", (("e", "./"),))
    assert request.body == "é".encode()
    assert request.headers == (
        ("Host", provider.url.removeprefix("http://")),
        ("User-Agent", "omnifund-reference-integration"),
        ("Accept-Encoding", "identity"),
        ("Accept", "*/*"),
        ("Content-Length", "2"),
    )


@pytest.mark.parametrize("evil", ["\r\nX-Evil: 1", "\n", "\r", "\x00", "\x7f", "\u00e4", " "])
@pytest.mark.parametrize("part", ["method", "path", "header name", "header value"])
def test_nothing_can_be_put_between_the_lines_of_a_request(part: str, evil: str) -> None:
    """D5, D6"""
    with ScriptedProvider() as provider, pytest.raises(ValueError, match="cannot be sent"):
        HTTPClient(provider.url).send(
            "POST" + evil * (part == "method"),
            "/token" + evil * (part == "path"),
            headers={"X-A" + evil * (part == "header name"): "b" + evil * (part == "header value")},
            max_bytes=LIMIT,
        )
    assert provider.requests == []


# --- one origin ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", ["/token", None], ids=["elsewhere", "unreadable"])
def test_redirects_are_not_followed_and_the_other_host_gets_nothing(
    status: int, path: str | None
) -> None:
    """C5, D5, K17"""
    with ScriptedProvider() as elsewhere, ScriptedProvider() as provider:
        location = f"{elsewhere.url}{path}" if path else "http://["
        provider.on("POST", "/token", kit.redirect_to(location, status))
        assert post(HTTPClient(provider.url)).status == status
        assert (elsewhere.connections, len(provider.requests)) == (0, 1)


def test_proxies_and_passwords_of_the_environment_are_not_picked_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """C1"""
    (tmp_path / ".netrc").write_text("machine localhost login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    with ScriptedProvider() as trap, ScriptedProvider() as provider:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, trap.url)
        provider.on("POST", "/token", kit.json_answer({}))
        post(HTTPClient(provider.url))
        assert trap.connections == 0
        assert provider.requests[0].header("Authorization") is None


def test_cookies_are_not_kept() -> None:
    """D6: the next request may be another merchant's."""
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", kit.json_answer({}, 200, {"Set-Cookie": "a=b; Path=/"}))
        client = HTTPClient(provider.url)
        post(client)
        post(client)
        assert [request.header("Cookie") for request in provider.requests] == [None, None]


@pytest.mark.parametrize("prefix", ["/pay", "/pay/"])
def test_a_path_prefix_of_the_base_url_is_kept(prefix: str) -> None:
    with ScriptedProvider() as provider:
        provider.on("POST", "/pay/token", kit.json_answer({}))
        client = HTTPClient(provider.url + prefix)
        assert post(client).status == 200
        assert client.base_url.endswith("/pay")


@pytest.mark.parametrize(
    "url",
    [
        *("http://a/?b", "http://a/#b", "http://a?", "http://a#", "http://a\\b"),
        "http://me:secret@a",
        *("http:///", "ftp://a", "a", "http://a:99999", "http://["),
        "http://a b",
        "http://\N{LATIN SMALL LETTER A WITH ACUTE}",
        "http://a/\x7f",
    ],
)
def test_a_base_url_that_is_more_or_less_than_one_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"the base URL|Port out of range|Invalid IPv6 URL"):
        HTTPClient(url)


# --- certificates ----------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["expired", "foreign", "common_name", "untrusted"])
def test_a_bad_certificate_is_never_accepted(certificates: Certificates, which: str) -> None:
    """C2"""
    context: ssl.SSLContext = getattr(certificates, which)
    with ScriptedProvider(tls=context) as provider:
        provider.on("POST", "/token", kit.json_answer({}))
        with pytest.raises(OmniFundUnavailable) as caught:
            post(HTTPClient(provider.url, ca_bundle=str(certificates.bundle)))
        assert caught.value.sent is False
        assert provider.requests == []


def test_without_a_bundle_only_public_authorities_are_trusted(certificates: Certificates) -> None:
    """C2"""
    with ScriptedProvider(tls=certificates.good) as provider:
        with pytest.raises(OmniFundUnavailable):
            post(HTTPClient(provider.url))
        assert provider.requests == []


def test_a_bundle_takes_the_place_of_every_other_authority(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C2: one for a private authority must not go on trusting the public ones."""
    monkeypatch.setattr(certifi, "where", lambda: str(certificates.bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.bundle))
    private = Certificates.make(tmp_path)
    with ScriptedProvider(tls=certificates.good) as provider:
        provider.on("POST", "/token", kit.json_answer({}))
        assert post(HTTPClient(provider.url)).status == 200
        with pytest.raises(OmniFundUnavailable):
            post(HTTPClient(provider.url, ca_bundle=str(private.bundle)))
        assert len(provider.requests) == 1


def test_a_plain_http_server_gets_no_request_in_clear() -> None:
    """C2"""
    with ScriptedProvider() as provider:
        with pytest.raises(OmniFundUnavailable) as caught:
            post(HTTPClient(provider.url.replace("http:", "https:"), connect_timeout=0.5))
        assert caught.value.sent is False
        assert provider.received("/token") == []


# --- time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers_too", [False, True])
def test_dripping_bytes_are_cut_at_the_total_deadline(headers_too: bool) -> None:
    """C4: no wait for a byte is as long as the read timeout."""
    dripped: list[int] = []

    def drip(_request: kit.Request, wire: kit.Wire) -> bool:
        head = b"" if headers_too else OK + b"Content-Length: 1000\r\n\r\n"
        wire.send(head)
        for byte in (OK + b"X-Drip: ").ljust(1000, b"x"):
            wire.send(bytes([byte]))
            dripped.append(byte)
            wire.pause(0.1)
        return True

    with pytest.raises(OmniFundTimeout):
        response_to(drip, connect_timeout=0.3, read_timeout=0.5, total_timeout=1)
    assert len(dripped) < 15


def test_silence_after_a_slow_start_is_cut_at_the_total_deadline_too() -> None:
    """C4: the read timeout alone would grant another two seconds."""
    silences: list[float] = []
    line = itertools.chain(OK, b"X-Slow: ", itertools.repeat(ord("x")))

    def slow_start(_request: kit.Request, wire: kit.Wire) -> bool:
        drip_until = time.monotonic() + 1.7
        while time.monotonic() < drip_until:
            wire.send(bytes([next(line)]))
            wire.pause(0.1)
        began = time.monotonic()
        wire.socket.recv(1)  # returns when the client closes the connection
        silences.append(time.monotonic() - began)
        return False

    with pytest.raises(OmniFundTimeout):
        response_to(slow_start, connect_timeout=0.5, read_timeout=2, total_timeout=2.5)
    wait_until(lambda: bool(silences), what="the client to close the connection")
    assert silences[0] < 1.5


def test_silence_is_cut_at_the_read_timeout() -> None:
    """C3"""
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", kit.slow(kit.json_answer({}), 30))
        client = HTTPClient(provider.url, read_timeout=0.3)
        started = time.monotonic()
        with pytest.raises(OmniFundTimeout):
            post(client)
        assert time.monotonic() - started < client.total_timeout / 3
        assert len(provider.received("/token")) == 1


def test_a_host_that_never_accepts_is_given_up_at_the_connect_timeout(
    full_listener: tuple[str, int],
) -> None:
    """C2"""
    client = HTTPClient(f"http://127.0.0.1:{full_listener[1]}", connect_timeout=0.3)
    started = time.monotonic()
    with pytest.raises(OmniFundUnavailable) as caught:
        post(client)
    assert caught.value.sent is False
    assert time.monotonic() - started < client.total_timeout / 3


def test_a_dripping_tls_handshake_is_cut_at_the_connect_timeout() -> None:
    """C4"""
    dripped: list[int] = []

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            for byte in b"\x16\x03\x03\x40\x00".ljust(1000, b"x"):
                connection.sendall(bytes([byte]))
                dripped.append(byte)
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        with pytest.raises(OmniFundUnavailable) as caught:
            post(HTTPClient(f"https://localhost:{listener.getsockname()[1]}", connect_timeout=0.5))
        thread.join()
    assert caught.value.sent is False
    assert len(dripped) < 20


def test_a_silent_name_server_is_given_up_at_the_connect_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """C2, C4: the C library's own limit is half a minute. No test can silence a name server."""
    wake, woken = threading.Event(), []

    def silent(*_arguments: Any, **_options: Any) -> Any:
        woken.append(wake.wait(20))
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    with pytest.raises(OmniFundUnavailable) as caught:
        post(HTTPClient("http://localhost:1", connect_timeout=0.3))
    assert caught.value.sent is False
    assert woken == []
    wake.set()


def test_all_addresses_of_a_host_share_the_connect_timeout(
    monkeypatch: pytest.MonkeyPatch, full_listener: tuple[str, int]
) -> None:
    """C4"""
    with ScriptedProvider() as good:
        (found,) = socket.getaddrinfo("127.0.0.1", good.port, type=socket.SOCK_STREAM)
        addresses = [(*found[:4], full_listener)] * 8
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: addresses)
        client = HTTPClient(good.url, connect_timeout=0.8)
        started = time.monotonic()
        with pytest.raises(OmniFundUnavailable):
            post(client)
        assert time.monotonic() - started < len(addresses) * 0.8 / 4
        # The last of four still gets its share.
        addresses[3] = found
        good.on("POST", "/token", kit.json_answer({}))
        assert post(client).status == 200


# --- size ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [kit.endless(), kit.endless(compressed=True), kit.gzip_bomb(), kit.raw_answer(b"x" * 65537)],
    ids=["endless", "endless compressed", "gzip bomb", "one byte too long"],
)
def test_a_body_over_the_limit_is_cut_whether_compressed_or_not(answer: kit.Answer) -> None:
    """C4"""
    with pytest.raises(InvalidResponse, match="too large"):
        response_to(answer)


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("excess", [1, LIMIT, 10 * LIMIT])
def test_a_long_page_about_being_unavailable_is_cut_and_its_headers_count(
    status: int, compressed: bool, excess: int
) -> None:
    """C4: a proxy's page of 503 may be long, and its ``Retry-After`` is as good as another's."""
    body, headers = secrets.token_bytes(LIMIT + excess), {"Retry-After": "42"}
    if compressed:
        body, headers = gzip.compress(body), {**headers, "Content-Encoding": "gzip"}
    response = response_to(kit.raw_answer(body, status, "text/html", headers=headers))
    assert len(response.body) <= LIMIT
    with pytest.raises(OmniFundUnavailable) as caught:
        raise_if_unavailable(response, now=0)
    assert caught.value.retry_after == 42


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, br", ""])
def test_a_page_about_being_unavailable_need_not_be_decoded(coding: str) -> None:
    """C9: a proxy compresses its page of 503 in a way of its own."""
    headers = {"Retry-After": "42", "Content-Encoding": coding}
    response = response_to(kit.raw_answer(b"{}", 503, "text/html", headers=headers))
    with pytest.raises(OmniFundUnavailable) as caught:
        raise_if_unavailable(response, now=0)
    assert caught.value.retry_after == 42


@pytest.mark.parametrize("compressed", [False, True])
def test_a_body_of_exactly_the_limit_is_accepted(compressed: bool) -> None:
    body, headers = b"x" * LIMIT, {}
    if compressed:
        body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
    assert len(response_to(kit.raw_answer(body, headers=headers)).body) == LIMIT


@pytest.mark.parametrize(
    "wire",
    [
        OK + b"X-Long: " + b"x" * 2 * http.MAX_HEAD_BYTES,
        (b"HTTP/1.1 103 Hints\r\nLink: " + b"x" * 6000 + b"\r\n\r\n") * 50,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * (LIMIT + 1),
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Long: " + b"x" * 3 * http.MAX_HEAD_BYTES,
    ],
    ids=["header", "interim", "chunks", "trailer"],
)
def test_nothing_of_a_response_can_be_without_end(wire: bytes) -> None:
    """C4: the server goes on sending until the client closes the connection."""

    def endless(_request: kit.Request, connection: kit.Wire) -> bool:
        connection.send(wire)
        while True:
            connection.send(wire[-2000:])
            connection.pause(0)

    with pytest.raises(InvalidResponse):
        response_to(endless)


def test_a_compressed_response_that_no_request_asked_for_is_still_read() -> None:
    body = gzip.compress(b'{"a": 1}')
    response = response_to(kit.raw_answer(body, headers={"Content-Encoding": "gzip"}))
    assert response.body == b'{"a": 1}'


# --- broken responses ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (kit.close_without_answer(), OmniFundUnavailable),
        (kit.reset_without_answer(), OmniFundUnavailable),
        (kit.truncated(), InvalidResponse),
        (kit.reset_mid_body(), InvalidResponse),
        (kit.garbage(), InvalidResponse),
        (kit.bad_chunked(), InvalidResponse),
        (kit.huge_headers(), InvalidResponse),
        (kit.sends(b"HTTP/1.1 abc\r\n\r\n"), InvalidResponse),
        (kit.sends(b"HTTP/1.1 20"), InvalidResponse),
        (kit.sends(b""), OmniFundUnavailable),
        (kit.raw_answer(b"{}", headers={"Content-Encoding": "gzip"}), InvalidResponse),
        (kit.raw_answer(b"{}", headers={"Content-Encoding": "br"}), InvalidResponse),
    ],
)
def test_a_broken_response_has_a_name_and_is_requested_once(
    answer: kit.Answer, error: type[OmniFundError]
) -> None:
    """C3, C6"""
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", answer)
        with pytest.raises(error) as caught:
            post(HTTPClient(provider.url))
        assert getattr(caught.value, "sent", True) is True
        assert len(provider.received("/token")) == 1


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Content-Length : 2\r\n\r\n{}",
        b"Content-Length: +2\r\n\r\n{}",
        b"Content-Length: -1\r\n\r\n{}",
        b"Content-Length: 3\r\n\r\n{}",
        b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity\r\n\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 5000,
        b"Content-Encoding: gzip\r\nContent-Length: 30\r\n\r\n"
        + gzip.compress(bytes(range(256)), mtime=0)[:30],
        b"X-Zero: \x00\r\nContent-Length: 2\r\n\r\n{}",
        b"no header\r\n\r\n",
        b"Content-Type: application/js",
    ],
)
def test_what_readers_may_understand_differently_is_invalid(rest: bytes) -> None:
    """C4, C6, D6, K17: RFC 9112 §11.1, §11.2."""
    with pytest.raises(InvalidResponse):
        response_to(kit.sends(OK + rest))


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" * 20,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 000 None\r\n\r\n",
    ],
    ids=["interim", "101", "upgrade", "000"],
)
def test_an_interim_response_without_a_final_one_is_invalid(wire: bytes) -> None:
    """C6, D6"""
    with pytest.raises(InvalidResponse):
        response_to(kit.sends(wire))


def test_a_chunk_of_less_than_no_bytes_is_not_read_until_the_end() -> None:
    """C4: some readers take -1 for all that comes, whatever the limit."""

    def answer(_request: kit.Request, wire: kit.Wire) -> bool:
        wire.send(OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx")
        wire.pause(30)
        return False

    # A client that waits for the end times out instead.
    with pytest.raises(InvalidResponse):
        response_to(answer)


FRAGMENTS = [
    *(b"HTTP/1.1 ", b"HTTP/1.0 ", b"100 Continue", b"103 Hints", b"204 No", b"\r\n", b"\r\n\r\n"),
    *(b"Content-Length: 3", b"Content-Length: ", b"Transfer-Encoding: chunked", b"3\r\nabc\r\n"),
    *(b"0\r\n\r\n", b"Content-Encoding: gzip", gzip.compress(b"abc", mtime=0), b"Date: ", b"\x00"),
    *(b"Mon, 01 Jan 99999999999999999999 00:00:00 +99999999999999999999", b"Connection: close"),
]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=20)), max_size=8).map(
        b"".join
    ),
    st.booleans(),
)
def test_whatever_bytes_come_only_errors_of_the_package_are_raised(junk: bytes, ok: bool) -> None:
    """C6, K17"""
    provider, client = _junk_server()
    provider.on("POST", "/token", kit.sends(OK * ok + junk))
    with contextlib.suppress(OmniFundError):
        assert isinstance(post(client), Response)


_junk: list[tuple[ScriptedProvider, HTTPClient]] = []


def _junk_server() -> tuple[ScriptedProvider, HTTPClient]:
    # One for all examples; Hypothesis does not allow fixtures that are made anew for each test.
    if not _junk:
        provider = ScriptedProvider().__enter__()
        _junk.append((provider, HTTPClient(provider.url)))
    return _junk[0]


# --- nothing is sent twice -------------------------------------------------------------------


def test_a_refused_connection_is_tried_once_more_and_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """C2"""
    honest, lookups = socket.getaddrinfo, []

    def counting(*arguments: Any, **options: Any) -> Any:
        lookups.append(arguments)
        return honest(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", counting)
    with pytest.raises(OmniFundUnavailable) as caught:
        post(HTTPClient(f"http://localhost:{free_port()}"))
    assert caught.value.sent is False
    assert len(lookups) == 2


@pytest.mark.parametrize("host", ["no-such-host.invalid", "no..host.invalid", "x" * 64])
def test_an_unknown_or_impossible_host_means_unavailable(host: str) -> None:
    """C2"""
    with pytest.raises(OmniFundUnavailable) as caught:
        post(HTTPClient(f"http://{host}"))
    assert caught.value.sent is False


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("answer", [kit.close_without_answer(), kit.reset_without_answer()])
def test_a_kept_connection_that_dies_under_a_request_is_not_tried_again(
    method: str, answer: kit.Answer
) -> None:
    """C3: OmniFund may have acted on the request."""
    with ScriptedProvider() as provider:
        provider.on(method, "/token", kit.json_answer({}), answer)
        client = HTTPClient(provider.url)
        client.send(method, "/token", headers={}, max_bytes=LIMIT)
        with pytest.raises(OmniFundUnavailable) as caught:
            client.send(method, "/token", headers={}, max_bytes=LIMIT)
        assert caught.value.sent is True
        assert (provider.connections, len(provider.requests)) == (1, 2)


@pytest.mark.parametrize("breaking", [TcpProxy.cut, TcpProxy.reset])
def test_a_connection_that_died_while_idle_is_replaced_silently(
    breaking: Callable[[TcpProxy], None],
) -> None:
    with ScriptedProvider() as provider, TcpProxy(provider.port) as network:
        provider.on("POST", "/token", kit.json_answer({}))
        client = HTTPClient(f"http://localhost:{network.port}")
        post(client)
        breaking(network)
        wait_until(lambda: network.open_connections == 0, what="the connection to break")
        assert post(client).status == 200
        assert len(provider.requests) == 2


# --- which connection is used ----------------------------------------------------------------


def test_many_requests_use_one_connection() -> None:
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", kit.json_answer({}))
        client = HTTPClient(provider.url)
        for _ in range(20):
            post(client)
        assert (provider.connections, len(provider.requests)) == (1, 20)


def test_many_requests_cost_one_tls_handshake(certificates: Certificates) -> None:
    with ScriptedProvider(tls=certificates.good) as provider:
        provider.on("POST", "/token", kit.json_answer({}))
        client = HTTPClient(provider.url, ca_bundle=str(certificates.bundle))
        for _ in range(5):
            post(client)
        assert provider.tls_handshakes == 1


def test_a_connection_that_broke_is_not_used_again() -> None:
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", kit.truncated(), kit.json_answer({"a": 1}))
        client = HTTPClient(provider.url)
        with pytest.raises(InvalidResponse):
            post(client)
        assert post(client).body == b'{"a": 1}'
        assert provider.connections == 2


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_an_interim_response_is_not_the_response(interim: bytes) -> None:
    """D6: the final one would be taken for that of the next request (RFC 9110 §15.2)."""

    def answer(request: kit.Request, wire: kit.Wire) -> bool:
        wire.send(b"HTTP/1.1 " + interim + b"\r\nLink: </a>\r\n\r\n")
        return kit.json_answer({"n": request.body.decode()})(request, wire)

    with ScriptedProvider() as provider:
        provider.on("POST", "/token", answer)
        client = HTTPClient(provider.url)
        for body in ("a=1", "a=2"):
            assert post(client, body).body == f'{{"n": "{body}"}}'.encode()
        assert provider.connections == 1


FORGED = kit.plain(b"another!")


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(
    "surplus",
    [
        *(b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nX-Rest: ", b"}", b"\n", b"x" * 9, FORGED),
        b"HTTP/1.1 103 Hints\r\n\r\n" + FORGED,
        b"x" * READ_BYTES + FORGED,
        b"x" * (READ_BYTES - len(kit.plain(b"{}"))) + FORGED,
    ],
    ids=["half", "open", "brace", "line", "junk", "response", "interim", "later", "next read"],
)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_what_comes_after_a_response_is_never_taken_for_the_next_one(
    certificates: Certificates, secure: bool, surplus: bytes, chunked: bool
) -> None:
    """D6: the next request may be another merchant's."""
    response = OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"

    def answer(_request: kit.Request, wire: kit.Wire) -> bool:
        wire.send((response if chunked else kit.plain(b"{}")) + surplus)
        return True

    with ScriptedProvider(tls=certificates.good if secure else None) as provider:
        provider.on("POST", "/token", answer, answer, kit.json_answer({"a": 1}))
        client = HTTPClient(provider.url, ca_bundle=str(certificates.bundle) if secure else None)
        bodies = [post(client).body for _ in range(3)]
        assert bodies == [b"{}", b"{}", b'{"a": 1}']
        assert provider.connections == 3


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_what_an_idle_connection_receives_is_never_taken_for_a_response(
    certificates: Certificates, secure: bool
) -> None:
    """D6"""
    idle, forged = threading.Event(), threading.Event()

    def answer(_request: kit.Request, wire: kit.Wire) -> bool:
        wire.send(kit.plain(b"{}"))
        idle.wait(10)
        wire.send(FORGED)
        forged.set()
        return True

    with ScriptedProvider(tls=certificates.good if secure else None) as provider:
        provider.on("POST", "/token", answer, kit.json_answer({"a": 1}))
        client = HTTPClient(provider.url, ca_bundle=str(certificates.bundle) if secure else None)
        assert post(client).body == b"{}"
        idle.set()
        assert forged.wait(10)
        assert post(client).body == b'{"a": 1}'
        assert provider.connections == 2


def test_threads_that_share_a_client_get_their_own_responses() -> None:
    """D6"""

    def echo(request: kit.Request, wire: kit.Wire) -> bool:
        return kit.raw_answer(request.body)(request, wire)

    with ScriptedProvider() as provider:
        provider.on("POST", "/token", echo)
        client = HTTPClient(provider.url)
        sent = [f"n={number}" for number in range(400)]
        with ThreadPoolExecutor(16) as pool:
            received = list(pool.map(lambda body: post(client, body).body.decode(), sent))
        assert received == sent
        assert provider.connections <= 16


def test_only_so_many_idle_connections_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_IDLE_CONNECTIONS", 2)
    with ScriptedProvider() as provider, TcpProxy(provider.port) as network:
        release = threading.Event()
        held = [kit.hold(release, kit.json_answer({}))] * 6
        provider.on("POST", "/token", *held, kit.json_answer({}))
        client = HTTPClient(f"http://localhost:{network.port}")
        with ThreadPoolExecutor(6) as pool:
            responses = [pool.submit(post, client) for _ in range(6)]
            provider.wait_for("/token", 6)
            release.set()
            assert all(response.result().status == 200 for response in responses)
        wait_until(lambda: network.open_connections == 2, what="the others to be closed")
        assert post(client).status == 200
        assert network.connections == 6


@pytest.mark.parametrize(("pause", "connections"), [(20, 1), (31, 2)])
def test_an_idle_connection_is_used_again_but_not_when_it_is_old(
    monkeypatch: pytest.MonkeyPatch, pause: float, connections: int
) -> None:
    """The deadline is each exchange's own, also on a connection that is older than it."""
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", kit.json_answer({}))
        client = HTTPClient(provider.url, total_timeout=5, connect_timeout=1, read_timeout=1)
        post(client)
        before = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: before() + pause)
        assert post(client).status == 200
        assert provider.connections == connections


FORKING = """
import os, sys
from omnifund.http import HTTPClient

client = HTTPClient(sys.argv[1], ca_bundle=sys.argv[2])

def send(body):
    sent = client.send("POST", "/token", headers={}, body=body, max_bytes=100)
    return sent.body == body.encode()

fine = send("before")
child = os.fork()
fine = all([fine, *(send(f"{os.getpid()}-{number}") for number in range(50))])
if child == 0:
    os._exit(0 if fine else 1)
sys.exit(os.waitpid(child, 0)[1] or not fine)
"""


def test_a_client_works_on_in_a_forked_process(certificates: Certificates) -> None:
    """D6: gunicorn's preload; parent and child must not share a connection."""

    def echo(request: kit.Request, wire: kit.Wire) -> bool:
        return kit.raw_answer(request.body)(request, wire)

    with ScriptedProvider(tls=certificates.good) as provider:
        provider.on("POST", "/token", echo)
        arguments = [provider.url, str(certificates.bundle)]
        subprocess.run([sys.executable, "-c", FORKING, *arguments], check=True, timeout=30)
        assert len(provider.requests) == 101
        assert provider.connections == 2


# --- the clock and the log -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("date", "ahead"),
    [
        ("Thu, 01 Jan 1970 00:16:40 GMT", 500),
        ("Thu, 01 Jan 1970 00:16:40", 500),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999999999", None),
        ("soon", None),
    ],
)
def test_the_clock_is_compared_with_omnifunds(date: str, ahead: float | None) -> None:
    """K17"""
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", kit.json_answer({}, 200, {"Date": date}))
        client = HTTPClient(provider.url, clock=lambda: 1500)
        assert client.clock_ahead is None
        post(client)
        assert client.clock_ahead == ahead


def test_headers_are_not_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """D2"""
    with caplog.at_level("DEBUG"):
        response_to(kit.json_answer({"token": "canary"}, 302, {"Location": "/?code=canary"}))
    assert "canary" not in caplog.text
