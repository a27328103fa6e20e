"""The real app and the real Local OmniFund, each on a socket of its own, with a clock that tests
can move; and a person with a browser that has cookies and forms but no scripts.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import requests
from flask import Flask

import app as app_module
import local_omnifund
from config import Settings
from local_omnifund.settings import DEMO_MERCHANT_PASSWORD
from local_omnifund.settings import Settings as LocalSettings
from tests.support.processes import free_port
from tests.support.servers import serve

MERCHANT, PASSWORD = "merchant", DEMO_MERCHANT_PASSWORD


class Clock:
    """Unix seconds that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Stack:
    """Both applications, running. ``settings`` are the app's."""

    url: str
    omnifund_url: str
    app: Flask
    settings: Settings
    clock: Clock
    redis_url: str

    def person(self) -> Person:
        """Return somebody with a fresh browser."""
        return Person(self)


@contextlib.contextmanager
def running_stack(redis_url: str, *, fault_pace: float = 1.0, **overrides: Any) -> Iterator[Stack]:
    """Run both applications; ``overrides`` are settings of the app, by field name.

    ``fault_pace``: how long Local OmniFund's faults take, relative to what people meet.
    """
    clock = Clock()
    port = free_port()
    local = local_omnifund.create_app(
        LocalSettings(redis_url, app_port=port, fault_pace=fault_pace), clock=clock
    )
    with serve(local) as omnifund:
        settings = app_settings(
            redis_url, **{"app_port": port, "omnifund_base_url": omnifund.url, **overrides}
        )
        app = app_module.create_app(settings, clock=clock)
        with serve(app, port=port) as server:
            yield Stack(server.url, omnifund.url, app, settings, clock, redis_url)


def app_settings(redis_url: str, **overrides: Any) -> Settings:
    """Return the app's settings for tests: no ``.env``, a key of its own, no rate limits."""
    values: dict[str, Any] = {
        "redis_url": redis_url,
        "secret_key": secrets.token_urlsafe(48),
        "rate_limits": False,
        "log_level": "WARNING",
        **overrides,
    }
    return Settings(**values)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(values.get("action", ""), values.get("method", "get").lower()))
        elif tag == "input" and self.forms and values.get("name"):
            self.forms[-1].fields[values["name"]] = values.get("value", "")


@dataclass
class Form:
    """A form as it stands on a page, without its buttons."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


@dataclass
class Person:
    """Somebody who uses the app in a browser without scripts."""

    stack: Stack
    browser: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.browser.trust_env = False

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        """Open a page of the app; follows no redirect unless asked."""
        kwargs.setdefault("allow_redirects", False)
        return self.browser.get(urljoin(self.stack.url, path), timeout=30, **kwargs)

    def post(self, path: str, **kwargs: Any) -> requests.Response:
        """Send a request as a form would; follows no redirect unless asked."""
        kwargs.setdefault("allow_redirects", False)
        return self.browser.post(urljoin(self.stack.url, path), timeout=30, **kwargs)

    def submit(
        self,
        page: requests.Response,
        action: str,
        *,
        follow: bool = True,
        **fields: str,
    ) -> requests.Response:
        """Fill in and send the form of ``page`` whose action contains ``action``."""
        form = next(form for form in forms(page) if action in urljoin(page.url, form.action))
        return self.browser.request(
            form.method,
            urljoin(page.url, form.action),
            data={**form.fields, **fields},
            allow_redirects=follow,
            timeout=30,
        )

    def authorize(self, next_path: str = "/dashboard", *, answer: str = "accepted") -> str:
        """Start a sign-in, log in at OmniFund if asked to, answer; return the callback's URL."""
        started = self.get(f"/login?next={next_path}")
        assert started.status_code == 302, started.text
        return self.decide(started.headers["Location"], answer=answer)

    def decide(self, authorization_url: str, *, answer: str = "accepted") -> str:
        """Open OmniFund's page, log in if asked to, press a button; return the callback's URL."""
        page = self.browser.get(authorization_url, timeout=30)
        if "/login" in urlsplit(page.url).path:
            page = self.submit(page, "/login_check", _username=MERCHANT, _password=PASSWORD)
        assert page.status_code == 200, page.text
        answered = self.submit(page, "/oauth/v2/auth", follow=False, **{answer: ""})
        assert answered.status_code == 302, answered.text
        return str(answered.headers["Location"])

    def sign_in(self, next_path: str = "/dashboard") -> requests.Response:
        """Sign in through OmniFund; return the callback's answer."""
        return self.get(self.authorize(next_path))

    def press(self, path: str, action: str, **fields: str) -> requests.Response:
        """Open ``path`` and press the button of the form that leads to ``action``."""
        return self.submit(self.get(path), action, follow=False, **fields)

    def status(self) -> dict[str, Any]:
        """Return what ``/session`` says."""
        answer: dict[str, Any] = self.get("/session").json()
        return answer


def forms(page: requests.Response) -> list[Form]:
    """Return the forms of a page."""
    parser = _Forms()
    parser.feed(page.text)
    return parser.forms


def query_of(url: str) -> dict[str, str]:
    """Return a URL's query; a parameter that is repeated fails the test."""
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert all(len(values) == 1 for values in query.values()), query
    return {name: values[0] for name, values in query.items()}
