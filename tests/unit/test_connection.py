"""What is read of an answer, and what is sent of a request, without a network."""

from __future__ import annotations

import contextlib
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnifund.connection import MAX_HEAD_BYTES, Reading, compose
from omnifund.errors import InvalidResponse

LIMIT = 1000
OK = b"HTTP/1.1 200 OK\r\n"

GOOD = {
    "length": (OK + b"content-length: 2\r\n\r\n{}", b"{}", True),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "chunks": (
        OK + b"Transfer-Encoding: Chunked\r\n\r\n1;a=b\r\n{\r\n1\r\n}\r\n0\r\nX-More: no\r\n\r\n",
        b"{}",
        True,
    ),
    "until it closes": (OK + b"\r\n{}", b"{}", False),
    "closes": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}", b"{}", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}", False),
    "interim": (
        b"HTTP/1.1 103 Hints\r\nX-More: no\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}",
        b"{}",
        True,
    ),
    "upgrade offered": (
        OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{}",
        b"{}",
        True,
    ),
    "gzip": (
        OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"{}", mtime=0),
        b"{}",
        False,
    ),
}


def read(wire: bytes, *, piece: int | None = None) -> Reading:
    reading = Reading(LIMIT)
    size = piece or len(wire)
    for begin in range(0, len(wire), size):
        reading.feed(wire[begin : begin + size])
    if not reading.is_complete:
        reading.feed(b"")
    return reading


@pytest.mark.parametrize(("wire", "body", "can_be_kept"), GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("piece", [None, 1, 7])
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(
    wire: bytes, body: bytes, can_be_kept: bool, piece: int | None
) -> None:
    reading = read(wire, piece=piece)
    assert reading.is_complete
    assert (reading.body, reading.can_be_kept) == (body, can_be_kept)
    assert "X-More" not in reading.headers


def test_headers_have_one_name_however_they_are_written() -> None:
    reading = read(OK + b"set-cookie: a\r\nSET-COOKIE:  b \r\nContent-Length: 0\r\n\r\n")
    assert reading.headers == {"Set-Cookie": "a, b", "Content-Length": "0"}


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Content-Length : 2\r\n\r\n{}",
        b"Content-Length: +2\r\n\r\n{}",
        b"Content-Length: -1\r\n\r\n{}",
        b"Content-Length: 3\r\n\r\n{}",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity\r\n\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"X-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
        b"X-Zero: \x00\r\nContent-Length: 2\r\n\r\n{}",
        b"no header\r\n\r\n",
        b"Content-Type: application/js",
    ],
)
def test_what_one_reader_may_understand_so_and_the_next_otherwise_is_nonsense(rest: bytes) -> None:
    """C6, D6: RFC 9112 §11.1, §11.2."""
    with pytest.raises(InvalidResponse):
        read(OK + rest)


@pytest.mark.parametrize(
    "wire",
    [
        OK + b"X-Long: " + b"x" * MAX_HEAD_BYTES,
        (b"HTTP/1.1 103 Hints\r\nLink: " + b"x" * 6000 + b"\r\n\r\n") * 11,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * LIMIT + b"1\r\nx\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Long: " + b"x" * 2 * MAX_HEAD_BYTES,
    ],
    ids=["header", "interim", "chunks", "trailer"],
)
def test_nothing_of_an_answer_can_be_without_end(wire: bytes) -> None:
    """C4"""
    with pytest.raises(InvalidResponse, match="too large"):
        read(wire, piece=4096)


def test_no_answer_at_all_is_told_apart_from_half_of_one() -> None:
    with pytest.raises(ConnectionResetError):
        Reading(LIMIT).feed(b"")
    with pytest.raises(InvalidResponse, match="cut short"):
        read(b"HTTP/1.1 20")


@given(st.binary(max_size=200), st.integers(1, 50))
def test_whatever_comes_is_an_answer_or_nonsense(junk: bytes, piece: int) -> None:
    """C6"""
    with contextlib.suppress(InvalidResponse):
        assert read(OK + junk, piece=piece).is_complete


def test_a_request_is_composed_as_it_goes_over_the_wire() -> None:
    assert compose("POST", "/token?a=b", {"Host": "a:1", "Accept": "*/*"}, "c=d") == (
        b"POST /token?a=b HTTP/1.1\r\nHost: a:1\r\nAccept: */*\r\nContent-Length: 3\r\n\r\nc=d"
    )
    assert compose("GET", "/", {"Host": "a"}) == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("evil", ["\r\nX-Evil: 1", "\n", "\r", "\x00", "\x7f", "\u00e4"])
def test_nothing_can_be_put_between_the_lines_of_a_request(evil: str) -> None:
    """D5, D6"""
    for parts in (
        (f"POST{evil}", "/token", {"Host": "a"}),
        ("POST", f"/token{evil}", {"Host": "a"}),
        ("POST", "/token", {"Host": f"a{evil}"}),
        ("POST", "/token", {"Host": "a", f"X{evil}": "b"}),
    ):
        with pytest.raises(ValueError, match="cannot be sent"):
            compose(*parts)
    with pytest.raises(ValueError, match="cannot be sent"):
        compose("GET", "/two words", {"Host": "a"})
