"""The servers that are measured, each with a Redis of its own, and the provider that all ask."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

import certifi
import trustme

from benchmarks.browser import Browser, Door
from benchmarks.meters import ProviderControl, RedisMeter, children
from tests.support.processes import answers, die_with_parent, free_port, wait_until
from tests.support.programs import node
from tests.support.servers import REPOSITORY, Granian, Gunicorn
from tests.support.valkey import ValkeyServer

PEERS: Final = ("app", "granian", "textbook", "floor", "passport", "passport-safe")
PYTHON_PEERS: Final = PEERS[:4]
HOST: Final = "app.example.test"
THREADS: Final = 64
"""Of each worker, as ``gunicorn.conf.py`` has it."""
_NODE: Final = Path(__file__).parent / "node_passport"
_SCRIPTS: Final = {"passport": _NODE / "server.js", "passport-safe": _NODE / "safe.js"}


class _Server(Protocol):
    process: subprocess.Popen[bytes]

    def __enter__(self) -> Self: ...
    def __exit__(self, *_error: object) -> None: ...


@dataclass
class Provider:
    """The provider, running. ``bundle``: certifi's authorities and the one that signed for it."""

    url: str
    plain_port: int
    bundle: Path
    authority: Path
    control: ProviderControl


@contextlib.contextmanager
def provider() -> Iterator[Provider]:
    """Run the provider in a process of its own."""
    https_port, plain_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        ca = trustme.CA()
        certificate, authority, bundle = (
            folder / each for each in ("server.pem", "authority.pem", "bundle.pem")
        )
        ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
        ca.cert_pem.write_to_path(authority)
        # All the authorities of the web, as in production: loading them is part of the cost.
        bundle.write_bytes(Path(certifi.where()).read_bytes() + authority.read_bytes())
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.provider"),
                *(str(https_port), str(plain_port), str(certificate)),
            ],
            cwd=REPOSITORY,
            preexec_fn=die_with_parent,
        )
        try:
            wait_until(lambda: answers(https_port), what="the provider")
            control = ProviderControl(plain_port)
            yield Provider(
                f"https://localhost:{https_port}", plain_port, bundle, authority, control
            )
        finally:
            process.kill()
            process.wait()


@dataclass
class Peer:
    """One server, running. ``started_in``: seconds from its start to its first answer."""

    name: str
    port: int
    host: str
    valkey: ValkeyServer
    store: RedisMeter
    provider: Provider
    started_in: float
    server: _Server

    @property
    def kind(self) -> str:
        """What it is, whichever interpreter runs it: the first word of its name."""
        return self.name.partition(" ")[0]

    @property
    def pids(self) -> list[int]:
        """The processes that serve: gunicorn's workers, or the one process itself."""
        return children(self.server.process.pid) or [self.server.process.pid]

    def door(self) -> Door:
        """Return a connection of one's own, with nothing asked yet."""
        return Door(self.port)

    def browser(self, server: Door, provider: Door) -> Browser:
        """Return somebody with no cookies."""
        return Browser(server, provider, self.host)


class Node:
    """A Passport peer, as a process."""

    process: subprocess.Popen[bytes]

    def __init__(self, script: Path, environment: dict[str, str], port: int) -> None:
        self._script = script
        self._environment = {
            "PATH": os.environ["PATH"],
            "NODE_ENV": "production",
            "PORT": str(port),
            **environment,
        }
        self._port = port

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            node(self._script),
            env=self._environment,
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        wait_until(lambda: answers(self._port), seconds=20, what="Node")
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def peer(
    name: str, provider: Provider, *, workers: int = 1, arguments: tuple[str, ...] = ()
) -> Iterator[Peer]:
    """Run one of ``PEERS`` with an empty Redis.

    ``name`` may end in the version of another interpreter: ``app 3.13``, for which
    ``install_python`` has made an environment. ``arguments``: more of gunicorn's.
    """
    kind, _, version = name.partition(" ")
    port = free_port()
    with ValkeyServer() as valkey:
        environment = {
            "OMNIFUND_BASE_URL": provider.url,
            "OMNIFUND_CLIENT_ID": "1_bench",
            "OMNIFUND_CLIENT_SECRET": secrets.token_urlsafe(32),
            "REDIS_URL": valkey.url,
            "SECRET_KEY": secrets.token_urlsafe(48),
        }
        server: _Server
        host = f"localhost:{port}"
        if kind in _SCRIPTS:
            environment["NODE_EXTRA_CA_CERTS"] = str(provider.authority)
            server = Node(_SCRIPTS[kind], environment, port)
        else:
            target = f"benchmarks.{kind}:create_app()"
            environment["REQUESTS_CA_BUNDLE"] = str(provider.bundle)
            if kind in ("app", "granian"):
                target, host = "app:create_app()", HOST
                environment |= _production(provider)
            server = (Granian if kind == "granian" else Gunicorn)(
                target,
                environment,
                workers=workers,
                threads=THREADS,
                port=port,
                arguments=arguments,
                python=_environment(version) if version else Path(sys.executable),
            )
        started = time.perf_counter()
        with server:
            started_in = time.perf_counter() - started
            store = RedisMeter(valkey.client())
            yield Peer(name, port, host, valkey, store, provider, started_in, server)


def install_python(interpreter: Path) -> str:
    """Make an environment of ``interpreter`` for the Python peers; return its version, ``3.13``.

    Raises ``subprocess.CalledProcessError`` if it is not an interpreter that the app can run on.
    """
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.run(
        [interpreter, "-c", asked], check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()
    subprocess.run(
        [
            *("sh", REPOSITORY / "tools" / "make_venv.sh", _environment(version).parents[1]),
            REPOSITORY / "requirements-bench.txt",
        ],
        env=os.environ | {"PYTHON": str(interpreter)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return version


def _environment(version: str) -> Path:
    return REPOSITORY / ".venv" / f"bench-{version}" / "bin" / "python"


def _production(provider: Provider) -> dict[str, str]:
    """The app as behind a proxy that speaks https, with every safeguard on."""
    return {
        "OMNIFUND_ENVIRONMENT": "production",
        "OMNIFUND_REDIRECT_URI": f"https://{HOST}/callback",
        "OMNIFUND_CA_BUNDLE": str(provider.bundle),
        "TRUSTED_PROXIES": "1",
        # The address itself is for the question whether it has started.
        "ALLOWED_HOSTS": f"{HOST},127.0.0.1",
    }
