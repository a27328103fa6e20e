"""``OmniFund``: the calls that an app which takes the package away begins with."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import requests

from omnifund.client import OmniFund, SignIn
from omnifund.errors import (
    AccessDenied,
    ConnectionNotFound,
    InvalidGrant,
    InvalidState,
    OmniFundUnavailable,
    OwnerMismatch,
    ReauthorizationRequired,
)
from omnifund.events import Event, ignore
from omnifund.http import HTTPClient
from omnifund.token_store import RedisTokenStore
from pytest_omnifund import Clock
from redis_url import connect
from tests.faults.provider import HonestProvider

TOKEN = "/oauth/v2/token"


@dataclass
class Browser:
    """A cookie jar, and nothing else."""

    cookies: dict[str, str] = field(default_factory=dict)

    def take(self, cookies: list[Any]) -> None:
        for cookie in cookies:
            if cookie["max_age"] == 0:
                del self.cookies[cookie["key"]]
            else:
                self.cookies[cookie["key"]] = cookie["value"]


@dataclass
class App:
    """A host without a web framework: one browser, and the events that were reported."""

    omnifund: OmniFund
    provider: HonestProvider
    clock: Clock
    browser: Browser = field(default_factory=Browser)
    events: list[Event] = field(default_factory=list)

    def start(
        self, next: str = "/", *, owner: str | None = None, browser: Browser | None = None
    ) -> str:
        """Start a sign-in, keep the cookies, be approved; return the callback's query string."""
        browser = browser or self.browser
        started = self.omnifund.create_authorization_request(browser.cookies, next, owner=owner)
        browser.take(list(started.cookies))
        approved = requests.get(started.url, allow_redirects=False, timeout=10)
        return urlsplit(approved.headers["Location"]).query

    def finish(
        self,
        query_string: str | bytes,
        current: str | None = None,
        *,
        owner: str | None = None,
        cookies: Mapping[str, str] | None = None,
    ) -> SignIn:
        jar = self.browser.cookies if cookies is None else cookies
        return self.omnifund.handle_callback(query_string, jar, current=current, owner=owner)

    def sign_in(self, current: str | None = None) -> str:
        """Sign in; return the connection ID."""
        return self.finish(self.start(), current).connection_id


def client(redis_url: str, base_url: str, **changes: Any) -> OmniFund:
    values: dict[str, Any] = {
        "base_url": base_url,
        "client_id": "an id",
        "client_secret": "a secret",
        "redirect_uri": "http://localhost:8000/callback",
        "secret_keys": [secrets.token_urlsafe(48)],
        **changes,
    }
    on_event = values.get("on_event", ignore)
    return OmniFund(RedisTokenStore(connect(redis_url), on_event), **values)


@pytest.fixture
def app(redis_url: str) -> Iterator[App]:
    clock, events = Clock(), list[Event]()

    def on_event(event: Event, **_facts: Any) -> None:
        events.append(event)

    with HonestProvider(clock=clock) as provider:
        omnifund = client(redis_url, provider.url, clock=clock, on_event=on_event)
        yield App(omnifund, provider, clock, events=events)


def test_a_sign_in_ends_with_a_connection_id_that_opens_the_api(app: App) -> None:
    done = app.finish(app.start("/orders?page=2"))
    assert (done.next, done.is_new) == ("/orders?page=2", True)
    assert app.omnifund.api.customers(done.connection_id).items
    assert app.events[0] is Event.SIGN_IN_STARTED
    assert Event.SIGN_IN_SUCCEEDED in app.events


def test_nothing_that_is_returned_shows_a_secret_in_its_repr(app: App) -> None:
    """D2"""
    done = app.finish(app.start())
    started = app.omnifund.create_authorization_request(app.browser.cookies)
    shown = repr(done) + repr(started)
    request = started.request
    for secret in (done.connection_id, request.state, request.code_verifier):
        assert secret not in shown


@pytest.mark.parametrize(
    "next", [None, "", "https://evil.example", "//evil.example", "/callback?code=x", "/c%61llback"]
)
def test_next_is_checked_inside(app: App, next: str | None) -> None:
    """G2, K6: the page of the redirect URI is never where a sign-in leads."""
    started = app.omnifund.create_authorization_request({}, next)
    assert started.request.next == "/"
    assert app.omnifund.sign_in_with_password("merchant", "made up", next).next == "/"


def test_a_reload_gets_the_same_connection_and_exchanges_nothing(app: App) -> None:
    """B3"""
    query = app.start()
    first = app.finish(query)
    for current in (None, first.connection_id):
        again = app.finish(query, current)
        assert (again.connection_id, again.is_new) == (first.connection_id, False)
    assert len(app.provider.received(TOKEN)) == 1
    assert app.events[-1] is Event.SIGN_IN_REPEATED


def test_of_twenty_callbacks_at_the_same_time_one_exchanges_the_code(app: App) -> None:
    """B2"""
    query = app.start()

    def finish(_number: int) -> str | None:
        try:
            return app.finish(query).connection_id
        except InvalidState:
            return None

    with ThreadPoolExecutor(20) as pool:
        connections = set(pool.map(finish, range(20)))
    assert len(connections - {None}) == 1
    assert len(app.provider.received(TOKEN)) == 1


def test_back_to_an_older_callback_keeps_the_newer_sign_in(app: App) -> None:
    older = app.start()
    first = app.finish(older).connection_id
    second = app.sign_in(current=first)
    assert app.finish(older, second).connection_id == second
    with pytest.raises(ReauthorizationRequired):
        app.omnifund.api.customers(first)


def test_a_sign_in_that_fails_leaves_the_one_before_alone(app: App) -> None:
    """B1, B4"""
    connection_id = app.sign_in()
    for query in (f"code=x&state={'A' * 43}", "error=access_denied"):
        with pytest.raises(InvalidState):
            app.finish(query, connection_id)
    denied = app.start().replace("code=", "error=access_denied&ignored=")
    with pytest.raises(AccessDenied):
        app.finish(denied, connection_id)
    assert app.omnifund.api.customers(connection_id).items


def test_the_password_grant_ends_with_a_connection_too(app: App) -> None:
    first = app.omnifund.sign_in_with_password("merchant", "made up").connection_id
    second = app.omnifund.sign_in_with_password("merchant", "made up", "/x", current=first)
    assert second.next == "/x"
    assert app.omnifund.api.customers(second.connection_id).items
    with pytest.raises(ReauthorizationRequired):
        app.omnifund.api.customers(first)


def test_disconnecting_is_final(app: App) -> None:
    """E6"""
    connection_id = app.sign_in()
    app.omnifund.disconnect(connection_id)
    with pytest.raises(ReauthorizationRequired):
        app.omnifund.api.customers(connection_id)


def test_a_connection_ends_after_the_time_that_the_app_says(app: App, redis_url: str) -> None:
    omnifund = client(redis_url, app.provider.url, sign_in_seconds=1000)
    app.omnifund = omnifund
    connection_id = app.sign_in()
    with redis.Redis.from_url(redis_url) as direct:
        assert 990 <= direct.ttl(RedisTokenStore.key(connection_id)) <= 1000


def test_what_the_host_stores_goes_into_the_same_round_trip(app: App, redis_url: str) -> None:
    """K25: and the connection before is still there then."""
    first = app.sign_in()

    def also(connection_id: str) -> list[tuple[str, ...]]:
        assert app.omnifund.tokens.load(first)
        return [("SET", "beside", connection_id)]

    query, cookies = app.start(), app.browser.cookies
    second = app.omnifund.handle_callback(query, cookies, current=first, also=also)
    with redis.Redis.from_url(redis_url) as direct:
        assert direct.get("beside") == second.connection_id.encode()
    with pytest.raises(ConnectionNotFound):
        app.omnifund.tokens.load(first)


class TestOwner:
    """M1: the user of the host application who starts is the one who completes."""

    def test_another_users_callback_is_refused_before_the_code_is_sent(self, app: App) -> None:
        """M1: one user starts and signs out of the host; another one signs in, same browser."""
        query = app.start(owner="user 1")
        with pytest.raises(OwnerMismatch):
            app.finish(query, owner="user 2")
        assert app.provider.received(TOKEN) == []
        assert app.events[-1] is Event.SIGN_IN_INVALID
        # It is not used up: user 1 may return and complete it.
        assert app.omnifund.api.customers(app.finish(query, owner="user 1").connection_id).items

    @pytest.mark.parametrize("owner", [None, "user 2", "user 10", "USER 1"])
    def test_a_completed_callback_gives_its_connection_to_no_other_user(
        self, app: App, owner: str | None
    ) -> None:
        """M1: a repeated callback returns the connection ID again, to its owner only."""
        query = app.start(owner="user 1")
        first = app.finish(query, owner="user 1")
        with pytest.raises(OwnerMismatch):
            app.finish(query, owner=owner)
        assert app.finish(query, owner="user 1").connection_id == first.connection_id

    def test_a_callback_without_an_owner_is_not_for_a_user(self, app: App) -> None:
        """M1"""
        with pytest.raises(OwnerMismatch):
            app.finish(app.start(), owner="user 1")
        assert app.provider.received(TOKEN) == []

    def test_the_browser_cannot_read_or_change_the_owner(self, app: App) -> None:
        """M1, D1"""
        query = app.start(owner="user-4711")
        (cookie,) = app.browser.cookies.values()
        assert "user-4711" not in cookie
        # The cookie of another request, moved under this one's name.
        other = Browser()
        app.start(owner="user-2", browser=other)
        mixed = dict(zip(app.browser.cookies, other.cookies.values(), strict=True))
        with pytest.raises(InvalidState):
            app.finish(query, owner="user-2", cookies=mixed)


class TestCodeOnce:
    """K10: a code is sent once, whichever state or browser brings it."""

    def with_code(self, query: str, code: str) -> str:
        return "&".join(
            f"code={code}" if pair.startswith("code=") else pair for pair in query.split("&")
        )

    def code_in(self, query: str) -> str:
        (pair,) = [pair for pair in query.split("&") if pair.startswith("code=")]
        return pair.removeprefix("code=")

    @pytest.mark.parametrize("in_another_browser", [False, True])
    def test_a_used_code_with_another_state_is_not_sent_again(
        self, app: App, in_another_browser: bool
    ) -> None:
        """K10"""
        first = app.start()
        done = app.finish(first)
        other = Browser() if in_another_browser else app.browser
        for _ in range(2):
            second = self.with_code(app.start(browser=other), self.code_in(first))
            with pytest.raises(InvalidState):
                app.finish(second, cookies=other.cookies)
        assert len(app.provider.received(TOKEN)) == 1
        assert app.omnifund.api.customers(done.connection_id).items

    def test_a_code_whose_exchange_failed_is_not_sent_again_either(self, app: App) -> None:
        """K10, C3"""
        app.provider.next_token_answer(lambda _request, _wire: False)
        first = app.start()
        with pytest.raises(OmniFundUnavailable):
            app.finish(first)
        with pytest.raises(InvalidState):
            app.finish(self.with_code(app.start(), self.code_in(first)))
        assert len(app.provider.received(TOKEN)) == 1

    def test_a_code_spelled_in_another_way_is_the_same_code(self, app: App) -> None:
        """K10"""
        first = app.start()
        code = self.code_in(first)
        app.finish(first)
        spelled = f"%{ord(code[0]):02x}{code[1:]}"
        with pytest.raises(InvalidState):
            app.finish(self.with_code(app.start(), spelled))
        assert len(app.provider.received(TOKEN)) == 1

    def test_of_one_code_in_ten_browsers_at_the_same_time_one_is_sent(self, app: App) -> None:
        """K10"""
        browsers = [Browser() for _ in range(10)]
        queries = [app.start(browser=browser) for browser in browsers]
        code = self.code_in(queries[0])

        def finish(number: int) -> str:
            try:
                query = self.with_code(queries[number], code)
                app.finish(query, cookies=browsers[number].cookies)
            except InvalidState:
                return "refused"
            except InvalidGrant:
                return "rejected by OmniFund"
            return "signed in"

        with ThreadPoolExecutor(10) as pool:
            outcomes = sorted(pool.map(finish, range(10)))
        # PKCE: OmniFund rejects the code with any verifier but that of the first browser.
        assert outcomes in (
            ["refused"] * 9 + ["signed in"],
            [*["refused"] * 9, "rejected by OmniFund"],
        )
        assert len(app.provider.received(TOKEN)) == 1


@pytest.mark.parametrize(
    ("redirect_uri", "secure", "prefix"),
    [
        ("http://localhost:8000/callback", False, "omnifund_attempt_"),
        ("https://app.example.com/callback", True, "__Host-omnifund_attempt_"),
        ("HTTPS://app.example.com/callback", True, "__Host-omnifund_attempt_"),
    ],
)
def test_cookies_are_for_https_if_the_redirect_uri_is(
    redirect_uri: str, secure: bool, prefix: str
) -> None:
    """F4, K32"""
    omnifund = client("redis://localhost:1", "http://localhost:9", redirect_uri=redirect_uri)
    (cookie,) = omnifund.create_authorization_request({}).cookies
    assert cookie["key"].startswith(prefix)
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (secure, True, "lax")


def test_a_pending_request_ends_with_the_browsers_session(app: App) -> None:
    """K8: a cookie without Max-Age or Expires; only a deletion has an age."""
    for _ in range(9):
        started = app.omnifund.create_authorization_request(app.browser.cookies)
        app.browser.take(list(started.cookies))
        *deleted, new = started.cookies
        assert new["max_age"] is None
        assert "expires" not in new
        assert [cookie["max_age"] for cookie in deleted] == [0] * len(deleted)
    assert deleted


def test_states_and_verifiers_of_many_requests_are_distinct() -> None:
    """A4, A8"""
    omnifund = client("redis://localhost:1", "http://localhost:9")
    requests_ = [omnifund.create_authorization_request({}).request for _ in range(1000)]
    assert len({each for one in requests_ for each in (one.state, one.code_verifier)}) == 2000


def test_without_pkce_there_is_no_verifier() -> None:
    """A8"""
    omnifund = client("redis://localhost:1", "http://localhost:9", pkce=False)
    started = omnifund.create_authorization_request({})
    assert started.request.code_verifier == ""
    assert "code_challenge" not in started.url


@pytest.mark.parametrize("secret_keys", [[], ["too short"], ["long enough " * 4, "too short"]])
def test_a_short_secret_key_is_refused_without_being_named(secret_keys: list[str]) -> None:
    """H1"""
    with pytest.raises(ValueError, match="32 characters") as caught:
        client("redis://localhost:1", "http://localhost:9", secret_keys=secret_keys)
    assert "too short" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("client_id", ""), ("client_secret", "")),
        *(("redirect_uri", ""), ("redirect_uri", "/callback")),
        *(("sign_in_seconds", 0), ("sign_in_seconds", -1)),
        *(("never_next", "/login"), ("never_next", ["login"])),
    ],
)
def test_a_setting_that_cannot_work_is_refused_before_a_merchant_meets_it(
    setting: str, value: object
) -> None:
    with pytest.raises(ValueError, match=setting):
        client("redis://localhost:1", "http://localhost:9", **{setting: value})


def test_a_redis_client_that_decodes_is_refused() -> None:
    """It would read no record, and take each callback for a repeated one."""
    decoding = redis.Redis.from_url("redis://localhost:1", decode_responses=True)
    with pytest.raises(ValueError, match="decode_responses=False"):
        RedisTokenStore(decoding)


def test_a_timeout_that_no_refresh_lock_outlives_is_refused() -> None:
    """E4: a longer lock counts as planted, so two processes would refresh at once."""
    url = "http://localhost:9"
    client("redis://localhost:1", url, http_client=HTTPClient(url, total_timeout=50))
    with pytest.raises(ValueError, match="50 seconds"):
        client("redis://localhost:1", url, http_client=HTTPClient(url, total_timeout=51))


def test_an_http_client_for_another_server_is_refused() -> None:
    """The browser would be sent to one server, and the code to the other."""
    other = HTTPClient("http://localhost:8")
    with pytest.raises(ValueError, match="another base URL"):
        client("redis://localhost:1", "http://localhost:9", http_client=other)


def test_an_owner_that_is_no_text_is_refused_at_once() -> None:
    """M1: a user's ID is often a number, and the callback would compare it with text."""
    omnifund, number = client("redis://localhost:1", "http://localhost:9"), 7
    with pytest.raises(ValueError, match="text"):
        omnifund.create_authorization_request({}, owner=number)  # type: ignore[arg-type]  # a mistake
