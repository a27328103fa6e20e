"""``OmniFund``: the calls that an app which takes the package away begins with."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from omnifund.authorization import Query
from omnifund.client import OmniFund, SignIn
from omnifund.errors import InvalidState, ReauthorizationRequired
from omnifund.events import Event
from omnifund.redis_client import connect
from tests.faults.provider import HonestProvider
from tests.support.stack import Clock

TOKEN = "/oauth/v2/token"


@dataclass
class App:
    """A host that has no web framework at all: a cookie jar, and what was observed."""

    omnifund: OmniFund
    provider: HonestProvider
    clock: Clock
    cookies: dict[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def start(self, next_path: str = "/") -> Query:
        """Begin a sign-in, keep the cookies, be approved; return the callback's query."""
        begun = self.omnifund.start(self.cookies, next_path)
        for cookie in begun.cookies:
            if cookie["max_age"] == 0:
                del self.cookies[cookie["key"]]
            else:
                self.cookies[cookie["key"]] = cookie["value"]
        approved = requests.get(begun.url, allow_redirects=False, timeout=10)
        return parse_qsl(urlsplit(approved.headers["Location"]).query)

    def finish(self, query: Query, current: str | None = None) -> SignIn:
        return self.omnifund.finish(query, self.cookies, current=current)

    def sign_in(self, current: str | None = None) -> str:
        """Sign in; return the handle."""
        return self.finish(self.start(), current).handle


def build(redis_url: str, base_url: str, **changes: Any) -> OmniFund:
    values: dict[str, Any] = {
        "base_url": base_url,
        "client_id": "an id",
        "client_secret": "a secret",
        "redirect_uri": "http://localhost:8000/callback",
        "secret_keys": [secrets.token_urlsafe(48)],
        **changes,
    }
    return OmniFund.build(connect(redis_url), **values)


@pytest.fixture
def app(redis_url: str) -> Iterator[App]:
    clock, events = Clock(), list[Event]()

    def observe(event: Event, **_facts: Any) -> None:
        events.append(event)

    with HonestProvider(clock=clock) as provider:
        omnifund = build(redis_url, provider.url, clock=clock, observe=observe)
        yield App(omnifund, provider, clock, events=events)


def test_a_sign_in_ends_with_a_handle_that_opens_the_api(app: App) -> None:
    done = app.finish(app.start("/orders?page=2"))
    assert done.next_path == "/orders?page=2"
    assert app.omnifund.api.customers(done.handle).items
    assert app.events[0] is Event.SIGN_IN_STARTED
    assert Event.SIGN_IN_SUCCEEDED in app.events


def test_nothing_that_is_returned_shows_a_secret_in_its_repr(app: App) -> None:
    query = app.start()
    done = app.finish(query)
    begun = app.omnifund.start(app.cookies)
    shown = repr(done) + repr(begun)
    for secret in (done.handle, begun.attempt.state, begun.attempt.code_verifier):
        assert secret not in shown


def test_a_reload_gets_the_same_handle_and_redeems_nothing(app: App) -> None:
    query = app.start()
    first = app.finish(query)
    assert app.finish(query) == app.finish(query, first.session_id) == first
    assert len(app.provider.received(TOKEN)) == 1
    assert app.events[-1] is Event.SIGN_IN_REPEATED


def test_of_twenty_callbacks_at_once_one_redeems_the_code(app: App) -> None:
    query = app.start()

    def finish(_number: int) -> str | None:
        try:
            return app.finish(query).handle
        except InvalidState:
            return None

    with ThreadPoolExecutor(20) as pool:
        handles = set(pool.map(finish, range(20)))
    assert len(handles - {None}) == 1
    assert len(app.provider.received(TOKEN)) == 1


def test_back_to_an_older_callback_keeps_the_newer_sign_in(app: App) -> None:
    older = app.start()
    first = app.finish(older).handle
    second = app.sign_in(current=first)
    assert app.finish(older, second).handle == second
    with pytest.raises(ReauthorizationRequired):
        app.omnifund.api.customers(first)


def test_a_sign_in_that_fails_leaves_the_one_before_alone(app: App) -> None:
    handle = app.sign_in()
    for query in ([("code", "x"), ("state", "A" * 43)], [("error", "access_denied")]):
        with pytest.raises(InvalidState):
            app.finish(query, handle)
    assert app.omnifund.api.customers(handle).items


def test_the_password_work_flow_ends_with_a_handle_too(app: App) -> None:
    first = app.omnifund.password("merchant", "made up")
    second = app.omnifund.password("merchant", "made up", current=first)
    assert app.omnifund.api.customers(second).items
    with pytest.raises(ReauthorizationRequired):
        app.omnifund.api.customers(first)


def test_signing_out_is_final(app: App) -> None:
    handle = app.sign_in()
    app.omnifund.sign_out(handle)
    with pytest.raises(ReauthorizationRequired):
        app.omnifund.api.customers(handle)
    assert app.events[-1] is Event.SIGNED_OUT


def test_a_sign_in_ends_after_the_time_that_the_app_says(app: App, redis_url: str) -> None:
    omnifund = build(redis_url, app.provider.url, sign_in_seconds=1000)
    app.omnifund = omnifund
    handle = app.sign_in()
    (left,) = omnifund.store.execute(("TTL", omnifund.token_store.key(handle)))
    assert 990 <= left <= 1000


@pytest.mark.parametrize(
    ("redirect_uri", "secure", "prefix"),
    [
        ("http://localhost:8000/callback", False, "omnifund_attempt_"),
        ("https://app.example.com/callback", True, "__Host-omnifund_attempt_"),
    ],
)
def test_cookies_are_for_https_if_the_redirect_uri_is(
    redirect_uri: str, secure: bool, prefix: str
) -> None:
    omnifund = build("redis://localhost:1", "http://localhost:9", redirect_uri=redirect_uri)
    (cookie,) = omnifund.start({}).cookies
    assert cookie["key"].startswith(prefix)
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (secure, True, "lax")


@pytest.mark.parametrize("secret_keys", [[], ["too short"], ["long enough " * 4, "too short"]])
def test_a_short_secret_key_is_refused_without_being_named(secret_keys: list[str]) -> None:
    with pytest.raises(ValueError, match="32 characters") as caught:
        build("redis://localhost:1", "http://localhost:9", secret_keys=secret_keys)
    assert "too short" not in str(caught.value)
