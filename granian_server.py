"""granian with the settings of gunicorn.conf.py: ``python granian_server.py [HOST:PORT]``."""

import logging
import math
import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels, logger

BIND, sys.argv[1:] = sys.argv[1:], ["app:create_app()"]  # what gunicorn.conf.py is to check
CONF: Any = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("gunicorn.conf.py"))))
_beats = multiprocessing.RawArray("d", [math.inf] * CONF.workers)


def _work(server: Any, app: Any, metrics: Any) -> Any:
    """Take the place that no worker has, in a new one, and show each second that it lives."""
    place = min(set(range(CONF.workers)) - {other.idx for other in server.wrks})
    metrics.Worker.end(place)
    metrics.Worker.begin(place, CONF.threads)

    def beat() -> None:
        while True:
            _beats[place] = time.monotonic()
            time.sleep(1)

    threading.Thread(target=beat, daemon=True).start()
    return _finishing(app)


def _finishing(app: Any) -> Any:
    """Return ``app`` so that the worker's process ends after its last request.

    granian itself does not wait for one whose client has gone: the new tokens would be lost.
    """
    running, finished = set[int](), threading.Condition()

    def serve(environ: Any, start_response: Any) -> Any:
        running.add(id(environ))
        try:
            return app(environ, start_response)
        finally:
            with finished:
                running.discard(id(environ))
                finished.notify_all()

    def finish() -> None:
        threading.main_thread().join()
        with finished:
            finished.wait_for(lambda: not running, CONF.graceful_timeout)
        # As Python does at the end of any other process than one that multiprocessing has forked.
        if (traces := app.extensions.get("traces")) is not None:
            traces.shutdown()
        logging.shutdown()

    threading.Thread(target=finish).start()  # Python waits for it when the process exits.
    return serve


def _watch(server: Any) -> None:
    """Kill workers that hang; granian replaces them."""
    while True:
        time.sleep(1)
        # granian's own handler does this where it was interrupted, perhaps in the event's own lock.
        if server.interrupt_signal:
            server.main_loop_interrupt.set()
        for worker in list(server.wrks):
            if time.monotonic() - _beats[worker.idx] > CONF.timeout:
                _beats[worker.idx] = math.inf
                worker.inner.kill()


def main() -> None:
    """Serve until a signal says stop."""
    from app import create_app  # After gunicorn.conf.py: it sets where metrics are kept.
    from web import metrics

    multiprocessing.set_start_method("fork")
    host, _, port = (BIND or [CONF.bind])[0].rpartition(":")
    if not (host and port.isdecimal()):
        sys.exit("Usage: granian_server.py [HOST:PORT]")
    app = create_app()
    server = Granian(
        "app:create_app()",
        address=host.strip("[]"),
        port=int(port),
        interface=Interfaces.WSGI,
        workers=CONF.workers,
        blocking_threads=CONF.threads,
        backpressure=1000,  # connections, idle ones included: gunicorn's worker_connections
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=max(CONF.keepalive, 1) * 1000),
        log_level=LogLevels(app.extensions["settings"].log_level.lower()),
        log_dictconfig={"incremental": True, "handlers": {}, "loggers": {}},
        respawn_failed_workers=True,
        workers_kill_timeout=CONF.graceful_timeout,
        url_path_prefix=os.environ.get("SCRIPT_NAME"),
    )

    @server.on_startup
    def take_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(server, "interrupt_signal", True))
        # A stop that followed granian's reload was missed in most tries: docs/adr/0019.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        CONF.when_ready(SimpleNamespace(log=logger))

    threading.Thread(target=_watch, args=(server,), daemon=True).start()
    server.serve(target_loader=lambda: _work(server, app, metrics), wrap_loader=False)


if __name__ == "__main__":
    main()
