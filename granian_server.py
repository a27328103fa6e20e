"""granian with the settings of gunicorn.conf.py: ``python granian_server.py [HOST:PORT]``."""

import fcntl
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from granian import Granian
from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels, logger

BIND, sys.argv[1:] = sys.argv[1:], ["app:create_app()"]  # what gunicorn.conf.py is to check
CONF: Any = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("gunicorn.conf.py"))))
# Workers take places: twice as many, as a new one may start before the old one has ended.
_pids, _beats = (multiprocessing.RawArray(kind, 2 * CONF.workers) for kind in "ld")
# The kernel unlocks a place however its worker ends.
_locks = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process


def _work(app: Any, metrics: Any) -> Any:
    """Take a place, in a new worker, and show from then on that it does not hang."""
    for place in range(len(_pids)):
        with suppress(OSError):
            fcntl.lockf(_locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            break
    metrics.Worker.begin(place, CONF.threads)

    def beat() -> None:
        while True:
            _beats[place], _pids[place] = time.monotonic(), os.getpid()
            time.sleep(1)

    threading.Thread(target=beat, daemon=True).start()
    return app


def _watch(server: Any, metrics: Any) -> None:
    """Kill workers that hang, and have the gauges of ended ones forgotten."""
    while True:
        time.sleep(1)
        # granian's own handler does this where it was interrupted, perhaps in the event's own lock.
        if server.interrupt_signal:
            server.main_loop_interrupt.set()
        for place in filter(_pids.__getitem__, range(len(_pids))):
            with suppress(OSError):
                if time.monotonic() - _beats[place] > CONF.timeout:
                    os.kill(_pids[place], signal.SIGKILL)
                fcntl.lockf(_locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                metrics.Worker.end(place)
                _pids[place] = 0
                fcntl.lockf(_locks, fcntl.LOCK_UN, 1, place)


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
        http1_settings=HTTP1Settings(header_read_timeout=max(CONF.keepalive, 1) * 1000),
        log_level=LogLevels(app.extensions["settings"].log_level.lower()),
        log_dictconfig={"incremental": True, "handlers": {}, "loggers": {}},
        respawn_failed_workers=True,
        workers_kill_timeout=CONF.graceful_timeout,
        url_path_prefix=os.environ.get("SCRIPT_NAME"),
    )
    threading.Thread(target=_watch, args=(server, metrics), daemon=True).start()

    @server.on_startup
    def take_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(server, "interrupt_signal", True))
        # A stop that followed granian's reload was missed in most tries: docs/adr/0019.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        CONF.when_ready(SimpleNamespace(log=logger))

    server.serve(target_loader=lambda: _work(app, metrics), wrap_loader=False)


if __name__ == "__main__":
    main()
