"""Real HTTP servers: a WSGI app in a thread of the test, or gunicorn as an operator starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import requests
from werkzeug.serving import make_server

from local_omnifund.__main__ import QuietRequestHandler
from tests.support.processes import (
    answers,
    die_with_parent,
    end_with_children,
    free_port,
    wait_until,
)

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Server:
    """A server in a thread."""

    port: int
    scheme: str = "http"

    @property
    def url(self) -> str:
        """Its address, by the name that redirect URIs use."""
        return f"{self.scheme}://localhost:{self.port}"


def _always_closed(app: Callable[..., Any]) -> Callable[..., Iterator[bytes]]:
    """Return ``app`` with responses that are closed when Werkzeug's server drops them too.

    Of a browser that breaks off a transfer it reads on, which fails, before it closes the response.
    """

    def respond(environ: Any, start_response: Any) -> Iterator[bytes]:
        response = app(environ, start_response)
        try:
            yield from response
        finally:
            if hasattr(response, "close"):
                response.close()

    return respond


@contextlib.contextmanager
def serve(
    app: Callable[..., Any], *, port: int | None = None, ssl_context: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """Serve a WSGI app on this machine, one thread for each connection."""
    server = make_server(
        "127.0.0.1",
        port or free_port(),
        _always_closed(app),
        threaded=True,
        request_handler=QuietRequestHandler,
        ssl_context=ssl_context,
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Server(server.port, "https" if ssl_context else "http")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Gunicorn:
    """gunicorn with the repository's own settings, started as README says."""

    process: subprocess.Popen[bytes]

    def __init__(
        self,
        app: str,
        environment: Mapping[str, str],
        *,
        workers: int = 2,
        threads: int = 16,
        port: int | None = None,
        arguments: tuple[str, ...] = (),
        stdout: int | None = None,
        python: Path = Path(sys.executable),
    ) -> None:
        """``app``: for example ``app:create_app()``. ``environment``: all the variables it gets.

        ``stdout``: an open file that takes the place of the log. ``python``: the interpreter.
        """
        self._stdout = stdout
        self.port = port or free_port()
        self._workers = workers
        self._folder = tempfile.TemporaryDirectory(prefix="gunicorn-")
        self._log = Path(self._folder.name) / "log"
        self._command = [
            str(python.with_name("gunicorn")),
            *("--config", str(REPOSITORY / "gunicorn.conf.py")),
            *("--bind", f"127.0.0.1:{self.port}"),
            *("--workers", str(workers), "--threads", str(threads)),
            *arguments,
            app,
        ]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._environment = {
            **kept,
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": self._folder.name,
            **environment,
        }

    @property
    def url(self) -> str:
        """Its address, by the name that redirect URIs use."""
        return f"http://localhost:{self.port}"

    @property
    def log(self) -> str:
        """Everything that it has printed so far."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start, and wait until it answers ``/healthz`` and every worker runs."""
        with self._log.open("ab") as log:
            # In a folder of its own, so that a developer's .env is not read.
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._folder.name,
                stdout=log if self._stdout is None else self._stdout,
                stderr=log,
                preexec_fn=die_with_parent,
                start_new_session=True,
            )
        wait_until(self._answers, seconds=60, what=f"gunicorn:\n{self.log}")
        wait_until(lambda: len(self.worker_pids()) >= self._workers, what="every worker")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log
        if not answers(self.port):  # A fraction of the price of an HTTP request.
            return False
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/healthz", timeout=2).ok
        except requests.ConnectionError:
            return False

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def reload(self) -> None:
        """Have every worker replaced as an operator does, and wait until that is done."""
        before = set(self.worker_pids())
        self.process.send_signal(signal.SIGHUP)
        self.wait_for_workers_beside(before)

    def wait_for_workers_beside(self, before: set[int]) -> None:
        """Wait until there are as many workers as there should be, and none of ``before``."""

        def replaced() -> bool:
            now = set(self.worker_pids())
            return len(now) == self._workers and not now & before

        wait_until(replaced, seconds=30, what="new workers")

    def stop(self) -> int:
        """Stop as an operator does; return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        # Tests that are about an orderly stop call ``stop``.
        end_with_children(self.process)
        self._folder.cleanup()


class Granian(Gunicorn):
    """granian by the repository's wrapper, which takes the number of workers from a variable."""

    def __init__(
        self,
        app: str,
        environment: Mapping[str, str],
        *,
        workers: int = 2,
        port: int | None = None,
        stdout: int | None = None,
        python: Path = Path(sys.executable),
        **_gunicorns_own: Any,
    ) -> None:
        """``app``: the app itself. Threads are as many as ``gunicorn.conf.py`` says."""
        super().__init__(app, environment, workers=workers, port=port, stdout=stdout)
        self._environment.setdefault("WEB_CONCURRENCY", str(workers))
        wrapper = str(REPOSITORY / "granian_server.py")
        self._command = [str(python), wrapper, f"127.0.0.1:{self.port}"]
