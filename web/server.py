"""gunicorn's worker, with a page of the app for each request that gunicorn cannot read."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker
from werkzeug.test import create_environ, run_wsgi_app

from web import incoming

# By the first line that fits; what has none is not the client's mistake.
_STATUSES: Final[dict[type[Exception], int | None]] = {
    errors.ConfigurationProblem: None,
    errors.InvalidResponseHeader: None,
    errors.InvalidResponseHeaderName: None,
    errors.LimitRequestLine: 414,
    errors.LimitRequestHeaders: 431,
    errors.ExpectationFailed: 417,
    errors.ParseException: 400,
}


class Worker(ThreadWorker):
    """A ``gthread`` worker. gunicorn's own pages quote the request, which may hold a cookie."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Respond to a request that could not be read."""
        status = next((_STATUSES[kind] for kind in _STATUSES if isinstance(exc, kind)), None)
        if status is None:
            super().handle_error(req, client, addr, exc)
            return
        environ = create_environ("/unreadable-request")
        environ["REMOTE_ADDR"] = addr[0] if addr else ""
        environ[incoming.REFUSED_STATUS] = status
        body, status_line, headers = run_wsgi_app(self.wsgi, environ)
        head = [f"HTTP/1.1 {status_line}", "Connection: close"]
        head += [f"{name}: {value}" for name, value in headers]
        with suppress(OSError):
            client.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + b"".join(body))
