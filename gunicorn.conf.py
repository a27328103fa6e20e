"""gunicorn's settings, for the app and for Local OmniFund alike.

gunicorn reads this file from the working directory whichever application it is told to serve. The
command line (``-b``, ``-w``, ``-k``, ``--threads``) and ``WEB_CONCURRENCY`` win over it.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

_SERVES_LOCAL_OMNIFUND = any(word.startswith("local_omnifund:") for word in sys.argv)
_SERVES_THE_APP = any(word.startswith("app:") for word in sys.argv)


def _settings() -> Any:
    """Return what the app's settings say about the server. A bad one ends the start in plain words.

    Other applications have these at their defaults, and gunicorn's own ``WEB_CONCURRENCY``.
    """
    if _SERVES_THE_APP:
        from config import ConfigurationError, at_start

        try:
            return at_start()
        except ConfigurationError as error:
            sys.exit(str(error))
    port = 8000
    if _SERVES_LOCAL_OMNIFUND:
        from local_omnifund.settings import Settings as LocalSettings
        from local_omnifund.settings import SettingsError

        try:
            port = LocalSettings.from_environment().port
        except SettingsError as error:
            sys.exit(str(error))
    processes = int(os.environ.get("WEB_CONCURRENCY") or min(os.cpu_count() or 1, 4))
    return SimpleNamespace(
        app_port=port,
        web_concurrency=processes,
        drain_seconds=1,
        worker_timeout=40,
        keep_alive=75,
    )


_SETTINGS = _settings()

# This machine only: a proxy in front, or a container's port mapping, says otherwise with -b.
bind = f"127.0.0.1:{_SETTINGS.app_port}"
# gunicorn with no worker listens, and never responds: `on_starting` refuses.
workers = _SETTINGS.web_concurrency
# gthread for both; the app's has a page for a request that gunicorn cannot read.
worker_class = "gthread" if _SERVES_LOCAL_OMNIFUND else "web.server.Worker"
# Requests mostly wait for OmniFund, so threads are many and processes few: docs/adr/0014.
threads = 64

# A worker that hangs so long is killed. Above the longest token request, 25 s with every timeout
# at its upper bound.
timeout = _SETTINGS.worker_timeout
graceful_timeout = 30
# Longer than a load balancer keeps an idle connection (60 s is usual): the side that sends requests
# must be the one that closes it, or it sends one into a connection that is being closed.
keepalive = _SETTINGS.keep_alive
max_requests = 50_000
max_requests_jitter = 5_000

# Import once, then fork: a quick start, shared memory, and a bad configuration stops the start
# instead of one worker after another. No connection is made before the fork.
preload_app = True

# OmniFund's redirects carry long descriptions of errors, and browsers send one header with all
# cookies of a host: this app's own (4 KB at most) and those of its neighbors.
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 16_380

if os.access("/dev/shm", os.W_OK):  # noqa: S108 - gunicorn keeps its heartbeat file here; a disk may block
    worker_tmp_dir = "/dev/shm"  # noqa: S108 - as above

# The app writes a line for each request itself, without the query, which may hold a code.
accesslog = None
# For whoever turns gunicorn's own on: no request line, no query, no Referer.
access_log_format = '%(h)s %(t)s "%(m)s %(U)s" %(s)s %(B)s %(M)sms'
# To mount the app below a path, set SCRIPT_NAME in the environment. As a header, gunicorn would
# believe it from this machine, and not every proxy that runs here removes a visitor's own.
forwarder_headers = ""
if _SERVES_LOCAL_OMNIFUND:

    def _without_the_request(record: logging.LogRecord) -> bool:
        """Cut what gunicorn quotes of a request that it cannot read: it may hold a secret."""
        if str(record.msg).startswith("Invalid request from "):
            record.msg, record.args = str(record.msg).partition(": ")[0], ()
        return True

    logging.getLogger("gunicorn.error").addFilter(_without_the_request)

# No control socket: nothing uses it, and it would be left behind in the home directory.
control_socket_disable = True

# --- several workers, one set of numbers; a stop that others can see coming ---------------------

if not _SERVES_LOCAL_OMNIFUND:
    # Each worker counts in files of its own here, and the worker that serves /metrics adds them up.
    # prometheus_client reads the variable when it is imported, so it is set before that.
    _MASTER = os.getpid()
    _FOLDER = Path(os.environ.get("PROMETHEUS_MULTIPROC_DIR", ""))
    if not _FOLDER.name.endswith(f"-{_MASTER}"):  # on SIGHUP the same process reads this file again
        try:
            _FOLDER = Path(tempfile.mkdtemp(prefix="omnifund-app-", suffix=f"-{_MASTER}"))
        except OSError:
            sys.exit(
                "No folder for temporary files can be written to: mount one at /tmp (with "
                "containers: --tmpfs /tmp), or set TMPDIR to one."
            )
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_FOLDER)

    @atexit.register
    def _leave_nothing_behind() -> None:
        # gunicorn's own hook is not called when the start fails. Workers inherit this one.
        if os.getpid() == _MASTER:
            shutil.rmtree(_FOLDER, ignore_errors=True)

    def when_ready(server: Any) -> None:
        """Turn SIGTERM into: unready now, and the usual graceful stop a moment later.

        A load balancer that checks /readyz stops sending requests before the socket is closed.
        """
        from web import health

        stop = signal.getsignal(signal.SIGTERM)

        def drain(_number: int, _frame: FrameType | None) -> None:
            signal.signal(signal.SIGTERM, stop)
            health.announce_stop()
            threading.Thread(target=stop_later, daemon=True).start()

        def stop_later() -> None:
            # Here and not in the signal handler, which may have interrupted the writing of a line.
            seconds = _SETTINGS.drain_seconds
            server.log.info("Stopping in %g s; /readyz returns 503 from now on", seconds)
            time.sleep(seconds)
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(signal.SIGTERM, drain)

    def on_reload(_server: Any) -> None:
        """Keep the form of gunicorn's own lines: gunicorn has set up its logger again."""
        from web import logging

        logging.adopt_server()

    def pre_fork(server: Any, worker: Any) -> None:
        """Give a new worker the lowest number that no living worker has."""
        taken = {other.number for other in server.WORKERS.values()}
        worker.number = next(number for number in itertools.count() if number not in taken)

    def post_fork(_server: Any, worker: Any) -> None:
        """Have a new worker count where the worker stopped that had its number."""
        from web import metrics

        metrics.Worker.begin(worker.number, worker.cfg.threads)

    def child_exit(_server: Any, worker: Any) -> None:
        """Count a worker that has ended, or was killed, no longer."""
        from web import metrics

        metrics.Worker.end(worker.number)


def on_starting(server: Any) -> None:
    """Refuse to run without a worker process."""
    if server.cfg.workers < 1:
        sys.exit("-w or WEB_CONCURRENCY must be a number of processes from 1.")
