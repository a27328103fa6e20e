"""Who is measured: the app, the textbook, the floor and Node's Passport.

Each has its own Redis and its own provider over HTTPS, so that nobody is counted for another.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import secrets
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import certifi
import trustme

from config import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET
from tests.faults.provider import HonestProvider
from tests.support.processes import die_with_parent, free_port, wait_until
from tests.support.servers import Gunicorn
from tests.support.valkey import ValkeyServer

PASSPORT: Final = Path(__file__).parent / "passport"

GUNICORN_APPS: Final = {
    "app": "app:create_app()",
    "textbook": "benchmarks.textbook:create_app()",
    "floor": "benchmarks.floor:create_app()",
}


@dataclass
class Authority:
    """A certificate authority of the benchmark's own.

    ``bundle`` holds the public authorities too: reading them is part of what is measured.
    """

    bundle: Path
    server: ssl.SSLContext
    client: ssl.SSLContext

    @classmethod
    def make(cls, folder: Path) -> Authority:
        """Make it; the bundle goes into ``folder``."""
        authority = trustme.CA()
        bundle = folder / "authorities.pem"
        bundle.write_bytes(Path(certifi.where()).read_bytes() + authority.cert_pem.bytes())
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(server)
        return cls(bundle, server, ssl.create_default_context(cafile=str(bundle)))


@dataclass
class Peer:
    """A running application. ``pids`` do its work; ``cold_start``: seconds to its first answer."""

    name: str
    port: int
    valkey: ValkeyServer
    provider: HonestProvider
    authority: Authority
    pids: list[int] = field(default_factory=list)
    cold_start: float = 0.0

    def __post_init__(self) -> None:
        self._shared = self.connections()
        # Connected before anything is counted.
        self.redis = self.valkey.client()
        self.redis.ping()

    def connections(self) -> tuple[http.client.HTTPConnection, http.client.HTTPConnection]:
        """Return new connections to this peer and to its provider."""
        provider = urlsplit(self.provider.url)
        return (
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=60),
            http.client.HTTPSConnection(
                "localhost", provider.port, timeout=60, context=self.authority.client
            ),
        )

    def reconnect(self) -> None:
        """Have the shared browsers connect anew to this peer."""
        self._shared[0].close()

    def browser(self, *, alone: bool = False) -> Browser:
        """Return a browser without cookies; all share their connections unless it is ``alone``."""
        return Browser(self, *(self.connections() if alone else self._shared))


@dataclass
class Browser:
    """As little of a browser as a sign-in needs: cookies, and no following of redirects."""

    peer: Peer
    to_peer: http.client.HTTPConnection
    to_provider: http.client.HTTPConnection
    cookies: dict[str, str] = field(default_factory=dict)
    address: str = field(
        # One for each merchant, as in life: rate limits count addresses.
        default_factory=lambda: ".".join(str(random.randrange(1, 255)) for _ in range(4))
    )

    def get(self, path: str) -> tuple[int, str]:
        """Open ``path``; return the status and where the answer leads."""
        headers = {
            "Host": f"localhost:{self.peer.port}",
            "Accept": "text/html",
            "X-Forwarded-For": self.address,
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
        }
        self.to_peer.request("GET", path, headers=headers)
        answer = self.to_peer.getresponse()
        answer.read()
        for cookie in answer.headers.get_all("Set-Cookie") or []:
            name, _, rest = cookie.partition("=")
            self.cookies[name] = rest.partition(";")[0]
        return answer.status, answer.headers.get("Location", "")

    def sign_in(self) -> None:
        """Sign in, and open the page that it leads to."""
        authorize = _below_the_host(self.get("/login")[1])
        self.to_provider.request("GET", authorize)
        approved = self.to_provider.getresponse()
        approved.read()
        status, page = self.get(_below_the_host(approved.headers["Location"]))
        if status not in (302, 303) or self.get(urlsplit(page).path)[0] != 200:
            raise RuntimeError(f"{self.peer.name} did not sign in: {status} {page}")

    def close(self) -> None:
        """Close its connections."""
        self.to_peer.close()
        self.to_provider.close()


def _below_the_host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


@contextlib.contextmanager
def running(
    name: str, authority: Authority, *, delay: float = 0.0, expires_in: int = 3600, workers: int = 1
) -> Iterator[Peer]:
    """Run the peer ``name``. ``delay``: seconds that its provider takes for a token."""
    with contextlib.ExitStack() as stack:
        valkey = stack.enter_context(ValkeyServer())
        provider = stack.enter_context(
            HonestProvider(tls=authority.server, delay=delay, expires_in=expires_in)
        )
        port = free_port()
        environment = _environment(port, valkey, provider, authority)
        started = time.perf_counter()
        if name == "passport":
            pids = stack.enter_context(_node(environment))
            wait_until(lambda: _answers(port), seconds=20, what="Passport")
        else:
            server = stack.enter_context(
                Gunicorn(
                    GUNICORN_APPS[name], environment, workers=workers, port=port, ready_path="/"
                )
            )
            pids = server.worker_pids()
        cold_start = time.perf_counter() - started
        yield Peer(name, port, valkey, provider, authority, pids, cold_start)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _environment(
    port: int, valkey: ValkeyServer, provider: HonestProvider, authority: Authority
) -> dict[str, str]:
    bundle = str(authority.bundle)
    return {
        # Not local: the inspector is off, as in production, and everything else is on.
        "OMNIFUND_ENVIRONMENT": "sandbox",
        "OMNIFUND_BASE_URL": provider.url,
        "OMNIFUND_CLIENT_ID": DEMO_CLIENT_ID,
        "OMNIFUND_CLIENT_SECRET": DEMO_CLIENT_SECRET,
        "OMNIFUND_REDIRECT_URI": f"http://localhost:{port}/callback",
        "OMNIFUND_CA_BUNDLE": bundle,
        "REQUESTS_CA_BUNDLE": bundle,
        "NODE_EXTRA_CA_CERTS": bundle,
        "NODE_ENV": "production",
        "PORT": str(port),
        "REDIS_URL": valkey.url,
        "SECRET_KEY": secrets.token_urlsafe(48),
        "TRUSTED_PROXIES": "1",
    }


@contextlib.contextmanager
def _node(environment: dict[str, str]) -> Iterator[list[int]]:
    process = subprocess.Popen(
        ["node", "server.js"],
        cwd=PASSPORT,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    try:
        yield [process.pid]
    finally:
        process.kill()
        process.wait()


def install_passport() -> str | None:
    """Install the Node peer's packages if need be; return why it cannot be measured, if so."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return "there is no Node on this machine"
    if not (PASSPORT / "node_modules").is_dir():
        command = ["npm", "ci", "--no-audit", "--no-fund", "--silent"]
        if subprocess.run(command, cwd=PASSPORT, check=False).returncode != 0:
            return "npm ci failed"
    return None
