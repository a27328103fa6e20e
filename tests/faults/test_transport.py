"""The transport against servers and networks that really misbehave."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from omnifund.connection import READ_BYTES
from omnifund.errors import (
    OmniFundError,
    InvalidResponse,
    OmniFundTimeout,
    OmniFundUnavailable,
)
from omnifund.transport import Answer, Transport
from tests.faults import provider as kit
from tests.faults.certificates import Certificates
from tests.faults.network import TcpProxy
from tests.faults.provider import ScriptedProvider
from tests.support.processes import free_port, wait_until

LIMIT = 64 * 1024


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


def post(transport: Transport, body: str = "grant_type=x") -> Answer:
    return transport.send("POST", "/token", headers={}, body=body, max_bytes=LIMIT)


def answer_to(answer: kit.Answer, **options: float) -> Answer:
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", answer)
        return post(Transport(provider.url, **options))  # type: ignore[arg-type]  # times only


def test_a_good_answer_arrives_whole() -> None:
    answer = answer_to(kit.json_answer({"a": 1}, 201, {"X-More": "yes"}))
    assert (answer.status, answer.body, answer.headers["X-More"]) == (201, b'{"a": 1}', "yes")


def test_many_requests_use_one_connection() -> None:
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", kit.json_answer({}))
        transport = Transport(provider.url)
        for _ in range(20):
            post(transport)
        assert (provider.connections, len(provider.requests)) == (1, 20)


def test_many_requests_cost_one_tls_handshake(certificates: Certificates) -> None:
    with ScriptedProvider(tls=certificates.good) as provider:
        provider.on("POST", "/token", kit.json_answer({}))
        transport = Transport(provider.url, ca_bundle=str(certificates.bundle))
        for _ in range(5):
            post(transport)
        assert provider.tls_handshakes == 1


@pytest.mark.parametrize("headers_too", [False, True])
def test_dripping_bytes_are_cut_at_the_total_deadline(headers_too: bool) -> None:
    """C4"""
    started = time.monotonic()
    with pytest.raises(OmniFundTimeout):
        answer_to(
            kit.drip(b"x" * 1000, every=0.1, headers_too=headers_too),
            connect_timeout=0.3,
            read_timeout=0.5,
            total_timeout=1,
        )
    assert time.monotonic() - started < 2


def test_silence_after_a_slow_start_is_cut_at_the_total_deadline_too() -> None:
    """C4: the read time-out alone would grant another two seconds."""

    def slow_start(_request: kit.Request, wire: kit.Wire) -> bool:
        for byte in b"HTTP/1.1 200 OK\r\n":
            wire.send(bytes([byte]))
            wire.pause(0.1)
        wire.pause(30)
        return False

    started = time.monotonic()
    with pytest.raises(OmniFundTimeout):
        answer_to(slow_start, connect_timeout=0.5, read_timeout=2, total_timeout=2.5)
    assert time.monotonic() - started < 3


def test_silence_is_cut_at_the_read_time_out() -> None:
    """C3"""
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", kit.slow(kit.json_answer({}), 30))
        started = time.monotonic()
        with pytest.raises(OmniFundTimeout):
            post(Transport(provider.url, read_timeout=0.3))
        assert time.monotonic() - started < 2
        assert len(provider.received("/token")) == 1


@pytest.mark.parametrize(
    "answer",
    [kit.endless(), kit.endless(compressed=True), kit.gzip_bomb(), kit.raw_answer(b"x" * 65537)],
    ids=["endless", "endless compressed", "gzip bomb", "one byte too long"],
)
def test_a_body_over_the_limit_is_cut_whether_compressed_or_not(answer: kit.Answer) -> None:
    """C4"""
    with pytest.raises(InvalidResponse, match="too large"):
        answer_to(answer)


def test_a_body_of_exactly_the_limit_is_accepted() -> None:
    assert len(answer_to(kit.raw_answer(b"x" * LIMIT)).body) == LIMIT


def test_a_compressed_answer_that_nobody_asked_for_is_still_read() -> None:
    body = gzip.compress(b'{"a": 1}')
    answer = answer_to(kit.raw_answer(body, headers={"Content-Encoding": "gzip"}))
    assert answer.body == b'{"a": 1}'


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed_and_the_other_host_gets_nothing(status: int) -> None:
    """C5, D5"""
    with ScriptedProvider() as elsewhere, ScriptedProvider() as provider:
        provider.on("POST", "/token", kit.redirect_to(f"{elsewhere.url}/token", status))
        assert post(Transport(provider.url)).status == status
        assert (elsewhere.connections, len(provider.requests)) == (0, 1)


def test_a_refused_connection_is_tried_once_more_and_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """C2"""
    honest, asked = socket.getaddrinfo, []

    def counting(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments)
        return honest(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", counting)
    with pytest.raises(OmniFundUnavailable) as caught:
        post(Transport(f"http://localhost:{free_port()}"))
    assert caught.value.sent is False
    assert len(asked) == 2


def test_a_host_that_never_accepts_is_given_up_at_the_connect_time_out() -> None:
    """C2"""
    # A full backlog: the kernel lets further connections wait.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        started = time.monotonic()
        with pytest.raises(OmniFundUnavailable) as caught:
            post(Transport(f"http://127.0.0.1:{port}", connect_timeout=0.3, read_timeout=0.5))
        for each in waiting:
            each.close()
    assert caught.value.sent is False
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("host", ["no-such-host.invalid", "no..host.invalid", "x" * 64])
def test_an_unknown_or_impossible_host_means_unavailable(host: str) -> None:
    """C2"""
    with pytest.raises(OmniFundUnavailable) as caught:
        post(Transport(f"http://{host}"))
    assert caught.value.sent is False


@pytest.mark.parametrize("which", ["expired", "foreign", "untrusted"])
def test_a_bad_certificate_is_never_accepted(certificates: Certificates, which: str) -> None:
    """C2"""
    context: ssl.SSLContext = getattr(certificates, which)
    with ScriptedProvider(tls=context) as provider:
        provider.on("POST", "/token", kit.json_answer({}))
        with pytest.raises(OmniFundUnavailable) as caught:
            post(Transport(provider.url, ca_bundle=str(certificates.bundle)))
        assert caught.value.sent is False
        assert provider.requests == []


def test_without_a_bundle_only_public_authorities_are_trusted(certificates: Certificates) -> None:
    """C2"""
    with ScriptedProvider(tls=certificates.good) as provider:
        with pytest.raises(OmniFundUnavailable):
            post(Transport(provider.url))
        assert provider.requests == []


def test_a_plain_http_server_is_not_spoken_to_in_clear() -> None:
    """C2"""
    with ScriptedProvider() as provider:
        with pytest.raises(OmniFundUnavailable) as caught:
            post(Transport(provider.url.replace("http:", "https:"), connect_timeout=0.5))
        assert caught.value.sent is False
        assert provider.received("/token") == []


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
        (kit.sends(b""), OmniFundUnavailable),
        (kit.raw_answer(b"{}", headers={"Content-Encoding": "gzip"}), InvalidResponse),
        (kit.raw_answer(b"{}", headers={"Content-Encoding": "br"}), InvalidResponse),
    ],
)
def test_a_broken_answer_has_a_name_and_is_asked_for_once(
    answer: kit.Answer, error: type[OmniFundError]
) -> None:
    """C3, C6"""
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", answer)
        with pytest.raises(error) as caught:
            post(Transport(provider.url, read_timeout=2))
        assert getattr(caught.value, "sent", True) is True
        assert len(provider.received("/token")) == 1


def test_a_connection_that_broke_is_not_used_again() -> None:
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", kit.truncated(), kit.json_answer({"a": 1}))
        transport = Transport(provider.url)
        with pytest.raises(InvalidResponse):
            post(transport)
        assert post(transport).body == b'{"a": 1}'
        assert provider.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
    ],
    ids=["length", "no length", "HTTP/1.0"],
)
def test_an_answer_that_ends_its_connection_is_whole_and_the_next_one_gets_another(
    answer: bytes,
) -> None:
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", kit.sends(answer))
        transport = Transport(provider.url)
        for count in (1, 2):
            assert post(transport).body == b"{}"
            assert provider.connections == count


def test_a_chunked_answer_is_put_together_and_its_connection_kept() -> None:
    def chunked(_request: kit.Request, wire: kit.Wire) -> bool:
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send(b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")
        return True

    with ScriptedProvider() as provider:
        provider.on("POST", "/token", chunked)
        transport = Transport(provider.url)
        assert [post(transport).body for _ in range(3)] == [b"{}"] * 3
        assert provider.connections == 1


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_what_comes_after_an_answer_is_never_taken_for_the_next_one(
    certificates: Certificates, secure: bool
) -> None:
    """D6: the next request may be another merchant's."""
    answer, forged = kit.plain(b"{}"), kit.plain(b"another!")

    def surplus(_request: kit.Request, wire: kit.Wire) -> bool:
        # Just what is read at a time; what TLS has decrypted beyond is in no socket.
        wire.send(answer.ljust(READ_BYTES, b"x") + forged)
        return True

    with ScriptedProvider(tls=certificates.good if secure else None) as provider:
        provider.on("POST", "/token", surplus, kit.json_answer({"a": 1}))
        transport = Transport(provider.url, ca_bundle=str(certificates.bundle) if secure else None)
        assert post(transport).body == b"{}"
        assert post(transport).body == b'{"a": 1}'
        assert provider.connections == 2


def test_only_so_many_idle_connections_are_kept() -> None:
    with ScriptedProvider() as provider, TcpProxy(provider.port) as network:
        release = threading.Event()
        held = [kit.hold(release, kit.json_answer({}))] * 6
        provider.on("POST", "/token", *held, kit.json_answer({}))
        transport = Transport(f"http://localhost:{network.port}", connections=2)
        with ThreadPoolExecutor(6) as pool:
            answers = [pool.submit(post, transport) for _ in range(6)]
            provider.wait_for("/token", 6)
            release.set()
            assert all(answer.result().status == 200 for answer in answers)
        wait_until(lambda: network.open_connections == 2, what="the others to be closed")
        assert post(transport).status == 200
        assert network.connections == 6


@pytest.mark.parametrize(("pause", "connections"), [(20, 1), (31, 2)])
def test_an_idle_connection_is_used_again_but_not_when_it_is_old(
    monkeypatch: pytest.MonkeyPatch, pause: float, connections: int
) -> None:
    """The deadline is each exchange's own, also on a connection that is older than it."""
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", kit.json_answer({}))
        transport = Transport(provider.url, total_timeout=5, connect_timeout=1, read_timeout=1)
        post(transport)
        before = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: before() + pause)
        assert post(transport).status == 200
        assert provider.connections == connections


@pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_an_interim_answer_is_not_the_answer(interim: bytes) -> None:
    """D6: the answer itself would be taken for that of the next request (RFC 9110 §15.2)."""

    def answer(request: kit.Request, wire: kit.Wire) -> bool:
        wire.send(b"HTTP/1.1 " + interim + b"\r\nLink: </a>\r\n\r\n")
        return kit.json_answer({"n": request.body.decode()})(request, wire)

    with ScriptedProvider() as provider:
        provider.on("POST", "/token", answer)
        transport = Transport(provider.url)
        for body in ("a=1", "a=2"):
            assert post(transport, body).body == f'{{"n": "{body}"}}'.encode()
        assert provider.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" * 20,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 5000,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 30\r\n\r\n"
        + gzip.compress(bytes(range(256)))[:30],
    ],
    ids=["interim", "101", "two lengths", "coding", "trailers", "cut gzip"],
)
def test_an_answer_whose_end_cannot_be_told_is_nonsense(answer: bytes) -> None:
    """C4, C6, D6"""
    with ScriptedProvider() as provider:
        provider.on("POST", "/token", kit.sends(answer))
        with pytest.raises(InvalidResponse):
            post(Transport(provider.url, read_timeout=2))


def test_a_chunk_of_less_than_no_bytes_is_not_read_until_the_end() -> None:
    """C4: -1 is "all that comes" to some, whatever the limit."""

    def answer(_request: kit.Request, wire: kit.Wire) -> bool:
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx")
        wire.pause(30)
        return False

    # Whoever waits for the end gives up as too slow.
    with pytest.raises(InvalidResponse):
        answer_to(answer, read_timeout=1)


@pytest.mark.parametrize("surplus", [b"HTTP/1.1 200", b"}", kit.plain(b"another!"), b"x" * 9])
def test_a_server_that_is_out_of_step_gets_a_new_connection(surplus: bytes) -> None:
    """D6: what came too much has been read, and is in no socket any more."""

    def answer(_request: kit.Request, wire: kit.Wire) -> bool:
        wire.send(kit.plain(b"{}") + surplus)
        return True

    with ScriptedProvider() as provider:
        provider.on("POST", "/token", answer)
        transport = Transport(provider.url)
        for count in (1, 2):
            assert post(transport).body == b"{}"
            assert provider.connections == count


def test_a_silent_name_server_is_given_up_at_the_connect_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """C2, C4: the C library's own limit is half a minute. Nobody here can silence a name server."""
    asleep = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: asleep.wait(20))
    started = time.monotonic()
    with pytest.raises(OmniFundUnavailable) as caught:
        post(Transport("http://localhost:1", connect_timeout=0.3))
    asleep.set()
    assert caught.value.sent is False
    assert time.monotonic() - started < 2


def test_all_addresses_of_a_host_share_the_connect_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """C4"""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, ScriptedProvider() as good:
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(silent.getsockname())
        (found,) = socket.getaddrinfo("127.0.0.1", good.port, type=socket.SOCK_STREAM)
        addresses = [(*found[:4], silent.getsockname())] * 4
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: addresses)
        started = time.monotonic()
        with pytest.raises(OmniFundUnavailable):
            post(Transport(good.url, connect_timeout=0.8))
        assert time.monotonic() - started < 1.5
        # The last of them still gets its share.
        addresses[-1] = found
        good.on("POST", "/token", kit.json_answer({}))
        assert post(Transport(good.url, connect_timeout=0.8)).status == 200
        for each in waiting:
            each.close()


@pytest.mark.parametrize("breaking", [TcpProxy.cut, TcpProxy.reset])
def test_a_connection_that_died_while_idle_is_replaced_silently(
    breaking: Callable[[TcpProxy], None],
) -> None:
    with ScriptedProvider() as provider, TcpProxy(provider.port) as network:
        provider.on("POST", "/token", kit.json_answer({}))
        transport = Transport(f"http://localhost:{network.port}")
        post(transport)
        breaking(network)
        wait_until(lambda: network.open_connections == 0, what="the connection to break")
        assert post(transport).status == 200
        assert len(provider.requests) == 2


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
        post(Transport(provider.url))
        assert trap.connections == 0
        assert provider.requests[0].header("Authorization") is None


@pytest.mark.parametrize("prefix", ["/pay", "/pay/"])
def test_a_path_prefix_of_the_base_url_is_kept(prefix: str) -> None:
    with ScriptedProvider() as provider:
        provider.on("POST", "/pay/token", kit.json_answer({}))
        transport = Transport(provider.url + prefix)
        assert post(transport).status == 200
        assert transport.base_url.endswith("/pay")


@pytest.mark.parametrize(
    "url",
    [
        "http://a/?b",
        "http://a/#b",
        "http://me:secret@a",
        "http:///",
        "http://a b",
        "http://\N{LATIN SMALL LETTER A WITH ACUTE}",
        "http://a/\x7f",
    ],
)
def test_a_base_url_that_is_more_or_less_than_one_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="the base URL"):
        Transport(url)
