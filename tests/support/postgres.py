"""A real PostgreSQL server that tests may stop, kill, and bring back."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

import psycopg

from tests.support.processes import die_with_parent, free_port, wait_until


def find_postgres() -> Path | None:
    """Return the folder of PostgreSQL's programs, or ``None``. Debian keeps it out of ``PATH``."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


class PostgresServer:
    """One server on a port of its own, which writes nothing to disk for good."""

    def __init__(self) -> None:
        programs = find_postgres()
        assert programs is not None, "no PostgreSQL; `make test` installs one"
        self._programs = programs
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="postgres-")
        self._process: subprocess.Popen[bytes] | None = None
        # PostgreSQL does not start as root; Debian's package brings a user for it.
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self._folder.name, user.pw_uid, user.pw_gid)
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    @property
    def url(self) -> str:
        """Its address, as SQLAlchemy takes it."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start, or start again with the same data, and wait until it answers."""
        data = f"{self._folder.name}/data"
        if not (Path(self._folder.name) / "made").exists():
            initdb = [str(self._programs / "initdb"), "-D", data, "-U", "postgres", "-A", "trust"]
            subprocess.run(
                [*initdb, "-E", "UTF8", "--no-sync"],
                check=True,
                cwd=self._folder.name,
                stdout=subprocess.DEVNULL,
                **self._as_user,
            )
            (Path(self._folder.name) / "made").touch()
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        command = [str(self._programs / "postgres"), "-D", data, "-p", str(self.port)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self._process = subprocess.Popen(
            command,
            cwd=self._folder.name,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
            **self._as_user,
        )
        wait_until(self._answers, seconds=30, what="PostgreSQL")

    def _answers(self) -> bool:
        try:
            with psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres") as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    def stop(self) -> None:
        """End at once, as a crash does; what was committed is there again after a start."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=10)
            self._process = None

    def flush(self) -> None:
        """Drop every table."""
        with psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres") as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    def dump(self) -> bytes:
        """Return what a backup contains."""
        command = [str(self._programs / "pg_dump"), "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(
            [*command, "-U", "postgres", "postgres"], check=True, capture_output=True
        ).stdout

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        self._folder.cleanup()
