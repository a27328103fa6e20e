"""A TCP proxy that makes a good network bad. Standard library only."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from typing import Self

_TLS_HANDSHAKE = b"\x16"  # The first byte of a TLS connection (RFC 8446 §5.1).


class TcpProxy:
    """Stands between a client and a server, for any protocol.

    Counts ``connections``, how many were ``refused``, the bytes that were ``taken`` from both
    sides, and those that went ``up`` (to the server) and ``down``.
    """

    def __init__(
        self, target_port: int, *, tls: ssl.SSLContext | None = None, also_plain: bool = False
    ) -> None:
        """``target_port``: where on this machine the server listens.

        ``tls``: a server context, to speak TLS for a server that does not. ``also_plain``: clients
        without TLS are served too.
        """
        self._tls = tls
        self._also_plain = also_plain
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._cut: set[socket.socket] = set()
        self._forgotten: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._closing = threading.Event()
        self._delay = 0.0
        self.connections = 0
        self.refused = 0
        self.taken = 0
        self.up = 0
        self.down = 0

    @property
    def open_connections(self) -> int:
        """How many connections go through now."""
        with self._lock:
            return len(self._open) // 2

    def delay(self, seconds: float) -> None:
        """Hold everything that comes back for so long."""
        self._delay = seconds

    def freeze(self) -> None:
        """Accept and take everything, deliver nothing."""
        self._flowing.clear()

    def forget(self) -> None:
        """Deliver nothing any more on the connections that are open now."""
        with self._lock:
            self._forgotten |= self._open

    def thaw(self) -> None:
        """Deliver again, what was held back first."""
        self._flowing.set()

    def point_to(self, target_port: int) -> None:
        """Connect the next clients to another server, as a host name does that has moved."""
        self._target = ("127.0.0.1", target_port)

    def cut(self) -> None:
        """Close every connection that is open now; what was held back on them is lost."""
        self._end_all(reset=False)

    def reset(self) -> None:
        """Reset every connection that is open now."""
        self._end_all(reset=True)

    def refuse(self) -> None:
        """Reset every new connection at once, and cut the open ones."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        """Take new connections again."""
        self._refusing = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._closing.set()
        self._flowing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with client:
            _reset_when_closed(client)
            if self._refusing:
                self.refused += 1
                return
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                return
            if self._tls is not None and not (
                self._also_plain and client.recv(1, socket.MSG_PEEK) != _TLS_HANDSHAKE
            ):
                try:
                    client = self._tls.wrap_socket(client, server_side=True)
                except OSError:
                    server.close()
                    return
            with server, client:
                server.settimeout(None)
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    _reset_when_closed(each, False)
                with self._lock:
                    self._open |= {client, server}
                down = threading.Thread(target=self._pump, args=(server, client, False))
                down.start()
                self._pump(client, server, True)
                down.join()
            # Not before they are closed: whoever waits for that goes on with what the end causes.
            with self._lock:
                self._open -= {client, server}
                self._cut -= {client, server}
                self._forgotten -= {client, server}

    def _pump(self, source: socket.socket, sink: socket.socket, is_up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.taken += len(data)
                self._flowing.wait()
                if source in self._forgotten:
                    continue
                if source in self._cut:
                    break
                if not is_up and self._delay and self._closing.wait(self._delay):
                    break
                sink.sendall(data)
                if is_up:
                    self.up += len(data)
                else:
                    self.down += len(data)
        # Wakes the pump of the other direction; the sockets are closed when both have ended.
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RD)

    def _end_all(self, *, reset: bool) -> None:
        with self._lock:
            ending = list(self._open)
            self._cut |= self._open
            for each in ending:
                with contextlib.suppress(OSError):
                    _reset_when_closed(each, reset)
                    # Not SHUT_WR: that would send a FIN where an RST is wanted.
                    each.shutdown(socket.SHUT_RD)


def _reset_when_closed(each: socket.socket, reset: bool = True) -> None:
    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", int(reset), 0))
