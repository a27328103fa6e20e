"""The server in which tests run an app in their own process."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

from tests.support.servers import serve


def test_a_response_is_closed_when_the_client_breaks_off() -> None:
    """Otherwise a style sheet stays open, and some later test fails by a warning."""
    is_gone, is_closed = threading.Event(), threading.Event()

    class Response:
        def __iter__(self) -> Iterator[bytes]:
            yield b"all of it"
            is_gone.wait(10)

        def close(self) -> None:
            is_closed.set()

    def app(_environ: Any, start_response: Any) -> Response:
        start_response("200 OK", [("Content-Length", "9")])
        return Response()

    with serve(app) as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(1000)
        # A reset, as from a browser that has left the page.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        is_gone.set()
        assert is_closed.wait(10)
