"""Log lines: structlog's events and the libraries' records, one line each, on standard output.

A thread of each process writes the lines, so that no request waits for standard output. A line that
finds the queue full, or cannot be written, is lost; the request is not.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import secrets
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from typing import Any, Final

import structlog
from flask import Flask, Request, Response, g, has_app_context, request
from structlog.typing import EventDict

from config import Settings
from web import current

log: Any = structlog.get_logger("omnifund")

QUEUED_LINES: Final = 10_000
_FLUSH_SECONDS: Final = 1.0
_GATHER_SECONDS: Final = 0.02
_WHOLE_BYTES: Final = os.pathconf("/", "PC_PIPE_BUF")  # that a pipe takes as a whole

_SECRETS: Final = re.compile(
    r"((?:code|state|access_token|refresh_token|client_secret|password|code_verifier"
    r"|omnifund_session)=)[^&;\s\"']+"
)
# gunicorn quotes the header line that it rejects, which may be a cookie.
_REJECTED: Final = re.compile(r"(Invalid request from ip=\S*): .*", re.DOTALL)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
_PROBES: Final = frozenset({"health.healthz", "health.readyz"})


class LineWriter(logging.Handler):
    """Formats a record in the thread that logs it, and writes lines in a thread of its own.

    By ``os.write``: what Python buffers fails once more when the process exits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.start()
        # Threads do not survive a fork, and the parent writes what the parent has queued.
        os.register_at_fork(after_in_child=self.start)

    def start(self) -> None:
        """Begin to write lines in this process."""
        self._lines: queue.SimpleQueue[bytes | threading.Event] = queue.SimpleQueue()
        self._hurry = threading.Event()
        threading.Thread(target=self._write_lines, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, unless so many wait that the reader must be standing still."""
        if self._lines.qsize() < QUEUED_LINES:
            encoding = sys.__stdout__.encoding if sys.__stdout__ else "utf-8"
            with suppress(Exception):
                self._lines.put(f"{self.format(record)}\n".encode(encoding, "backslashreplace"))

    def flush(self) -> None:
        """Wait for the lines to be written, but not for a reader that stands still.

        ``logging`` calls this when the process exits.
        """
        written = threading.Event()
        self._hurry.set()
        self._lines.put(written)
        written.wait(_FLUSH_SECONDS)

    def _write_lines(self) -> None:
        while True:
            found = [self._lines.get()]
            # Waking this thread for each line takes more CPU than making the line.
            self._hurry.wait(_GATHER_SECONDS)
            while not self._lines.empty():
                found.append(self._lines.get())
            text = b""
            for each in found:
                line = b"" if isinstance(each, threading.Event) else each
                if not line or len(text) + len(line) > _WHOLE_BYTES:
                    _write(text)  # A longer write may be torn apart by another process's.
                    text = b""
                if isinstance(each, threading.Event):
                    each.set()
                text += line
            _write(text)


def _write(text: bytes) -> None:
    with suppress(OSError):
        while text and sys.__stdout__:
            text = text[os.write(1, text) :]


_line_writer = cache(LineWriter)


def configure(settings: Settings) -> None:
    """Send every log record of this process, the libraries' included, through the queue."""
    formatter = structlog.stdlib.ProcessorFormatter
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, formatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer: list[Any] = (
        [structlog.processors.JSONRenderer(default=repr)]
        if settings.log_format == "json"
        else [_escape, structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
    )
    writer = _line_writer()
    writer.setFormatter(
        formatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _add_request_id,
                structlog.processors.format_exc_info,
                formatter.remove_processors_meta,
                _redact,
                *renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [writer]
    root.setLevel(settings.log_level)
    # Otherwise a line that cannot be formatted is reported on standard error, with what it holds.
    logging.raiseExceptions = False
    # Authlib logs the code verifier at DEBUG.
    logging.getLogger("authlib").setLevel(max(logging.INFO, root.level))
    adopt_server()


def adopt_server() -> None:
    """Give gunicorn's own lines, also those of its master process, the form of all others.

    gunicorn sets up its logger before it imports the app, and again on SIGHUP.
    """
    root, server = logging.getLogger(), logging.getLogger("gunicorn.error")
    server.setLevel(max(server.level, root.level))
    for handler in list(server.handlers):
        if isinstance(handler, logging.FileHandler):
            handler.setFormatter(root.handlers[0].formatter)
        else:
            server.removeHandler(handler)
            server.propagate = True


def begin(request: Request) -> None:
    """Give a request its ID. Its time counts from here on, reading the session included."""
    g.started = time.perf_counter()
    given = (
        request.environ.get("HTTP_X_REQUEST_ID", "") if current.settings().trusted_proxies else ""
    )
    g.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def init_app(app: Flask) -> None:
    """Log every request when its response is ready."""

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        is_probe = request.endpoint in _PROBES and response.status_code == 200
        (log.debug if is_probe else log.info)(
            "http:request:answered",
            method=request.method,
            # Never the query: it may hold a code and a state.
            path=request.path,
            status=response.status_code,
            milliseconds=round((time.perf_counter() - g.started) * 1000, 1),
        )
        return response


# --- processors ----------------------------------------------------------------------------------


def _add_request_id(_logger: Any, _method: str, event: EventDict) -> EventDict:
    if has_app_context() and (request_id := g.get("request_id")) is not None:
        event["request_id"] = request_id
    return event


def _redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Mask what looks like a secret parameter, wherever a library has put it."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _SECRETS.sub(r"\1***", _REJECTED.sub(r"\1", value))
    return event


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _escape(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Escape what would move a terminal's cursor or reorder its text; a traceback keeps lines."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            lines = value.split("\n") if name == "exception" else [value]
            event[name] = "\n".join("".join(map(_printable, line)) for line in lines)
    return event
