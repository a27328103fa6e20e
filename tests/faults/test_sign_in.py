"""Signing in: simultaneous requests, failures, and many merchants (group B)."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import pytest
import redis
import requests

from omnifund.authorization import CLOCK_SKEW_SECONDS, PENDING_SECONDS, WAIT_SECONDS
from tests.faults import provider as kit
from tests.faults.network import TcpProxy
from tests.support.browsing import query_of
from tests.support.merchant import Merchant
from tests.support.processes import wait_until
from tests.support.rig import Rig, fleet, rig
from tests.support.valkey import ValkeyServer

TOKEN = "/oauth/v2/token"


def test_twenty_identical_callbacks_at_once_are_one_token_request_and_one_session(
    redis_url: str,
) -> None:
    """B2"""
    with fleet(redis_url, workers=4) as running:
        for _ in range(5):
            merchant = Merchant(running)
            callback = merchant.authorize()
            before = running.provider.code_requests
            pages = merchant.in_parallel(callback, 20)
            assert {page.headers.get("Location") for page in pages} == {"/dashboard"}, pages
            sessions = {page.cookies.get("omnifund_session") for page in pages} - {None}
            assert running.provider.code_requests == before + 1
            assert len(sessions) == 1
        with redis.Redis.from_url(redis_url) as client:
            assert len(client.keys("omnifund:*:session")) == 5


def test_a_browser_that_leaves_during_the_exchange_gets_its_session_next_time(
    redis_url: str,
) -> None:
    """B14"""
    with fleet(redis_url, workers=2) as running:
        running.provider.delay = 0.8
        merchant = Merchant(running)
        callback = merchant.authorize()
        with pytest.raises(requests.Timeout):
            merchant.get(callback, timeout=0.3)
        with redis.Redis.from_url(redis_url) as client:
            wait_until(lambda: len(client.keys("omnifund:*:session")) == 1, what="the sign-in")
        answer = merchant.get(callback)
        assert answer.headers["Location"] == "/dashboard"
        assert merchant.get("/session").json()["signed_in"] is True
        assert running.provider.code_requests == 1


@pytest.mark.parametrize("works", [True, False])
def test_a_second_click_while_the_first_is_under_way_ends_where_the_first_one_does(
    redis_url: str, works: bool
) -> None:
    """B2: of a double click the browser shows the response to the last."""
    with fleet(redis_url, workers=2) as running:
        merchant = Merchant(running)
        callback = merchant.authorize()
        release = threading.Event()
        token = {"access_token": kit.new_token(), "token_type": "bearer", "expires_in": 3600}
        answer = kit.json_answer(token) if works else kit.json_answer({}, 503)
        running.provider.next_token_answer(kit.hold(release, answer))
        tabs = merchant.copy(), merchant.copy()
        with ThreadPoolExecutor(2) as pool, redis.Redis.from_url(redis_url) as client:
            client.config_resetstat()
            first = pool.submit(tabs[0].get, callback)
            running.provider.wait_for(TOKEN)
            second = pool.submit(tabs[1].get, callback)
            # It reads how long it may wait, twice: so it is waiting.
            wait_until(
                lambda: client.info("commandstats").get("cmdstat_pttl", {}).get("calls", 0) > 1,
                what="the second callback to wait",
            )
            release.set()
        assert first.result().status_code == (303 if works else 503)
        assert second.result().status_code == (303 if works else 400)
        assert len(running.provider.received(TOKEN)) == 1
        if works:
            session = second.result().cookies["omnifund_session"]
            assert session == first.result().cookies["omnifund_session"]


def test_a_reload_after_a_failed_sign_in_waits_for_nothing(redis_url: str) -> None:
    """B2"""
    with rig(redis_url) as running, redis.Redis.from_url(redis_url) as client:
        merchant = Merchant(running)
        callback = merchant.authorize()
        running.provider.next_token_answer(kit.json_answer({"error": "invalid_grant"}, 400))
        assert merchant.get(callback).status_code == 400
        client.config_resetstat()
        assert merchant.get(callback).status_code == 400
        assert client.info("commandstats")["cmdstat_pttl"]["calls"] == 1


def test_a_callback_whose_worker_has_died_is_not_waited_for_forever(redis_url: str) -> None:
    """B14"""
    with rig(redis_url) as running:
        merchant = Merchant(running)
        callback = merchant.authorize()
        release = threading.Event()
        running.provider.next_token_answer(kit.hold(release, kit.json_answer({}, 503)))
        with ThreadPoolExecutor(1) as pool, redis.Redis.from_url(redis_url) as client:
            first = pool.submit(merchant.get, callback)
            running.provider.wait_for(TOKEN)
            (mark,) = client.keys("omnifund:attempt:*")
            client.expire(mark, PENDING_SECONDS + CLOCK_SKEW_SECONDS - WAIT_SECONDS)
            second = merchant.copy().get(callback)
            release.set()
            assert first.result().status_code == 503
        assert second.status_code == 400


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (kit.json_answer({"error": "invalid_grant"}, 400), 400),
        (kit.json_answer({"error": "invalid_client"}, 400), 502),
        (kit.json_answer({"error": "redirect_uri_mismatch"}, 400), 502),
        (kit.json_answer({}, 429, {"Retry-After": "9"}), 503),
        (kit.json_answer({}, 500), 503),
        (kit.json_answer({}), 502),
        (kit.raw_answer(b"<h1>", 200, "text/html"), 502),
        (kit.close_without_answer(), 503),
        (kit.truncated(), 502),
    ],
)
def test_a_failed_exchange_is_one_clear_page_and_keeps_the_session_before(
    redis_url: str, answer: kit.Answer, status: int
) -> None:
    """C3, C6, C7, C8, C9"""
    with rig(redis_url) as running:
        merchant = running.merchant()
        before = merchant.session_id
        running.provider.next_token_answer(answer)
        page = merchant.sign_in()
        assert page.status_code == status
        # Where only the operator can fix it, another try would end here once more.
        way_on = "Go to the home page" if "In this app" in page.text else "Sign in again"
        ways_on = re.findall(r'<a class="button[^>]*>([^<]*)', page.text)
        assert set(ways_on) == {way_on, "Go to the dashboard"}
        is_first = "In this app" in page.text or status in (503, 504)
        assert ways_on.index("Go to the dashboard") == (0 if is_first else 1)
        assert page.headers["X-Request-ID"] in page.text
        if status == 503:
            assert int(page.headers["Retry-After"]) > 0
        assert merchant.session_id == before
        assert merchant.get("/session").json()["signed_in"] is True
        # The code is not sent a second time, however often the page is reloaded.
        callback = merchant.authorize()
        running.provider.next_token_answer(answer)
        for _ in range(3):
            merchant.get(callback)
        assert len(running.provider.received(TOKEN)) == 3


def test_a_provider_that_is_too_slow_is_504_and_the_code_is_not_sent_again(redis_url: str) -> None:
    """C3"""
    with rig(redis_url, omnifund_read_timeout=0.3) as running:
        running.provider.next_token_answer(kit.slow(kit.json_answer({}), 30))
        merchant = Merchant(running)
        callback = merchant.authorize()
        page = merchant.get(callback)
        assert page.status_code == 504
        assert "may or may not have processed the request" in page.text
        assert merchant.get(callback).status_code == 400
        assert len(running.provider.received(TOKEN)) == 1
        metrics = merchant.get("/metrics").text
        assert 'event="token:request:ambiguous"' in metrics


@pytest.mark.parametrize("is_signed_in", [True, False])
def test_a_timeout_asks_only_those_who_are_signed_out_to_sign_in(
    redis_url: str, *, is_signed_in: bool
) -> None:
    """L17: for a merchant with a session, the dashboard is the first way on."""
    with rig(redis_url, omnifund_read_timeout=0.3) as running:
        merchant = running.merchant() if is_signed_in else Merchant(running)
        callback = merchant.authorize()
        running.provider.next_token_answer(kit.slow(kit.json_answer({}), 30))
        page = merchant.get(callback)
        assert page.status_code == 504
        ways_on = re.findall(r'<a class="button[^>]*>([^<]*)', page.text)
        expected = ["Go to the dashboard", "Sign in again"] if is_signed_in else ["Sign in again"]
        assert ways_on == expected


@pytest.mark.parametrize("parameter", ["state", "code", "error", "iss"])
def test_a_repeated_parameter_is_refused_without_a_token_request(
    redis_url: str, parameter: str
) -> None:
    """B8"""
    with rig(redis_url) as running:
        merchant = Merchant(running)
        callback = merchant.authorize()
        value = running.provider.url if parameter == "iss" else "x"
        answer = merchant.get(
            f"{callback}&{parameter}={value}&{parameter}={value}",
        )
        assert answer.status_code == 400
        assert running.provider.received(TOKEN) == []


def test_a_thousand_merchants_in_all_kinds_of_trouble_see_only_their_own(redis_url: str) -> None:
    """D6: workers are killed, requests canceled, refreshes due; no page is another merchant's."""
    merchants_count, seed = 1000, 20261124
    dice = random.Random(seed)
    with fleet(redis_url, workers=4) as running:
        provider = running.provider
        owners: dict[str, str] = {}

        def api(request: kit.Request) -> kit.Answer:
            token = (request.header("Authorization") or "").removeprefix("Bearer ")
            member = {"id": 1, "company": f"owner-{owners.get(token, 'nobody')}-"}
            return kit.json_answer({"hydra:member": [member]})

        provider._api = api  # type: ignore[method-assign]  # an API that says whose token it got
        merchants = []
        for number in range(merchants_count):
            merchant = Merchant(running)
            merchant.sign_in()
            owners[merchant.stored.token.access_token] = str(number)
            merchants.append(merchant)
        stop = threading.Event()

        def trouble() -> None:
            while not stop.wait(0.7):
                os.kill(dice.choice(running.server.worker_pids()), signal.SIGKILL)

        def visit(number: int) -> str:
            merchant, own = merchants[number], f"owner-{number}-"
            try:
                answer = requests.get(
                    f"{running.url}/customers",
                    headers={"Cookie": f"omnifund_session={merchant.session_id}"},
                    allow_redirects=False,
                    timeout=dice.choice([0.02, 5, 5, 5]),
                )
            except requests.RequestException:
                return "broke off"
            if answer.status_code != 200:
                return f"status {answer.status_code}"
            return "own" if own in answer.text and answer.text.count("owner-") == 1 else "foreign"

        killer = threading.Thread(target=trouble)
        killer.start()
        numbers = [dice.randrange(merchants_count) for _ in range(2000)]
        try:
            with ThreadPoolExecutor(16) as pool:
                outcomes = list(pool.map(visit, numbers))
        finally:
            stop.set()
            killer.join()
    assert set(outcomes) <= {"own", "broke off"}
    assert outcomes.count("own") > 1000


# --- a code is sent once, byte for byte, or not at all ---------------------------------------


def with_code(callback: str, code: str) -> str:
    """The callback with another code, spelled as given."""
    before, _, rest = callback.partition("code=")
    return f"{before}code={code}{rest[rest.index('&') :] if '&' in rest else ''}"


@pytest.mark.parametrize("in_another_browser", [False, True])
def test_a_code_with_another_state_is_not_sent_again(
    redis_url: str, in_another_browser: bool
) -> None:
    """K10"""
    with fleet(redis_url, workers=2) as running:
        merchant = Merchant(running)
        first = merchant.authorize()
        code = query_of(first)["code"]
        assert merchant.get(first).status_code == 303
        other = Merchant(running) if in_another_browser else merchant
        for _ in range(3):
            page = other.get(with_code(other.authorize(), code))
            assert page.status_code == 400, page
        assert len(running.provider.received(TOKEN)) == 1
        assert merchant.status()["signed_in"] is True
        # Its own code works as always.
        assert other.sign_in().status_code == 303


def test_of_one_code_in_twenty_browsers_at_the_same_time_one_is_sent(redis_url: str) -> None:
    """K10"""
    with fleet(redis_url, workers=2) as running:
        merchants = [Merchant(running) for _ in range(20)]
        callbacks = [merchant.authorize() for merchant in merchants]
        code = query_of(callbacks[0])["code"]

        def finish(number: int) -> int:
            return merchants[number].get(with_code(callbacks[number], code)).status_code

        with ThreadPoolExecutor(20) as pool:
            statuses = sorted(pool.map(finish, range(20)))
        assert len(running.provider.received(TOKEN)) == 1
        # PKCE: OmniFund rejects it from every browser but the first, with the same status.
        assert statuses in ([303] + [400] * 19, [400] * 20)


@pytest.mark.parametrize(
    "code",
    ["%ff", "a%ff", "%c3", "%ed%a0%80", "%00", "a%0d%0ab", "a%20b", "a+b", "%7f", "%C3%A9", ""],
)
def test_a_code_that_cannot_be_sent_byte_for_byte_is_not_sent(redis_url: str, code: str) -> None:
    """K11, B10"""
    with rig(redis_url) as running:
        merchant = Merchant(running)
        page = merchant.get(with_code(merchant.authorize(), code))
        assert page.status_code == 400, page
        assert running.provider.received(TOKEN) == []
        assert merchant.status() == {"signed_in": False}


@pytest.mark.parametrize("code", ["a%2Bb%2F%3D%26c%3Dd", "%25ff", "~!*'()", "a%22%5C%3C%3E"])
def test_a_code_arrives_as_it_came(redis_url: str, code: str) -> None:
    """K11: the test above can fail."""
    with rig(redis_url) as running:
        merchant = Merchant(running)
        merchant.get(with_code(merchant.authorize(), code))
        (sent,) = running.provider.received(TOKEN)
        assert sent.form["code"] == unquote(code)


# --- what a server can send ------------------------------------------------------------------


@pytest.mark.parametrize(("name", "answer"), list(kit.odd_token_responses()))
def test_an_odd_token_response_is_one_clear_page_and_keeps_the_session_before(
    redis_url: str, name: str, answer: kit.Answer
) -> None:
    """K17"""
    with rig(redis_url) as running:
        merchant = running.merchant()
        before = merchant.session_id
        running.provider.next_token_answer(answer)
        page = merchant.sign_in()
        assert page.status_code == 502, (name, page)
        assert page.headers["X-Request-ID"] in page.text
        assert merchant.session_id == before
        assert merchant.get("/customers").status_code == 200


@pytest.mark.parametrize(
    "scope",
    ["{access}", "read {access} write", "{refresh}", "{access}{refresh}", "read.{access}"],
)
def test_a_token_in_the_scope_is_shown_on_no_page(redis_url: str, scope: str) -> None:
    """K19: guarantee 1, wherever a server puts a secret."""
    with rig(redis_url) as running:
        access, refresh = kit.new_token(), kit.new_token()
        token = {
            "access_token": access,
            "refresh_token": refresh,
            "token_type": "bearer",
            "expires_in": 3600,
            "scope": scope.format(access=access, refresh=refresh),
        }
        running.provider.next_token_answer(kit.json_answer(token))
        merchant = Merchant(running)
        pages = [merchant.sign_in()]
        pages += [merchant.get(path) for path in ("/dashboard", "/session", "/")]
        for page in pages:
            for secret in (access, refresh):
                assert secret not in f"{page.headers} {page.text}", page


@pytest.mark.parametrize("field", ["error", "token_type", "error_description"])
@pytest.mark.parametrize("status", [200, 400])
def test_a_secret_in_another_field_is_shown_on_no_page(
    redis_url: str, field: str, status: int
) -> None:
    """K19: also the code and the client secret, which the server has just received."""
    with rig(redis_url) as running:
        secret = kit.new_token()
        body = {"access_token": secret, "token_type": "bearer", "error": "invalid_client"}

        def answer(request: kit.Request, wire: kit.Wire) -> bool:
            form = request.form
            told = " ".join((secret, form["code"], form["client_secret"]))
            return kit.json_answer({**body, field: told}, status)(request, wire)

        running.provider.next_token_answer(answer)
        merchant = Merchant(running)
        callback = merchant.authorize()
        page = merchant.get(callback)
        assert page.status_code == 502, page
        settings = running.settings
        for each in (
            *(secret, query_of(callback)["code"]),
            settings.omnifund_client_secret.get_secret_value(),
        ):
            assert each not in f"{page.headers} {page.text}"


# --- the session before ----------------------------------------------------------------------


class TestNewReplacesOld:
    """K25: guarantee 5, the old session goes only when the new one is stored."""

    def assert_still_signed_in(self, running: Rig, merchant: Merchant, before: str) -> None:
        assert merchant.session_id == before
        assert merchant.status()["signed_in"] is True
        assert merchant.get("/customers").status_code == 200
        assert running.provider.refreshes == 0

    @pytest.mark.parametrize("grant", ["code", "password"])
    def test_a_redis_that_becomes_full_during_a_sign_in(self, grant: str) -> None:
        """K25: a real Valkey with ``maxmemory``, full when the tokens arrive."""
        options = ("--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
        with ValkeyServer(options=options) as store, rig(store.url) as running:
            merchant = running.merchant()
            before = merchant.session_id
            fill = store.client()
            running.provider.next_token_answer(*break_after(lambda: fill_up(fill), running))
            if grant == "code":
                page = merchant.sign_in()
            else:
                fields = {"username": "merchant", "password": "made up"}
                page = merchant.press("/login/password", "/login/password", **fields)
            assert page.status_code == 503, page
            assert "You have not been signed out" in page.text
            assert len(running.provider.received(TOKEN)) == 2
            self.assert_still_signed_in(running, merchant, before)
            fill.delete("filler")
            fill.close()
            assert merchant.sign_in().status_code == 303
            assert merchant.session_id != before
            assert merchant.status()["signed_in"] is True

    @pytest.mark.parametrize("how", ["freeze", "cut", "reset", "refuse"])
    def test_a_redis_that_is_lost_during_a_sign_in(
        self, redis_url: str, valkey: ValkeyServer, how: str
    ) -> None:
        """K25: silent, or connections that end; the new one may or may not have been stored."""
        with (
            TcpProxy(valkey.port) as network,
            rig(f"redis://127.0.0.1:{network.port}") as running,
        ):
            merchant = running.merchant()
            before = merchant.session_id
            running.provider.next_token_answer(*break_after(getattr(network, how), running))
            page = merchant.sign_in()
            network.thaw()
            network.accept()
            wait_until(lambda: merchant.get("/session").status_code == 200, what="Redis")
            if page.status_code == 303:
                # A second connection was made in time, so the sign-in is complete.
                assert how in ("cut", "reset")
                assert merchant.session_id != before
                assert merchant.status()["signed_in"] is True
            else:
                assert page.status_code == 503, page
                self.assert_still_signed_in(running, merchant, before)

    def test_a_response_that_is_lost_after_everything_was_stored(
        self, redis_url: str, valkey: ValkeyServer
    ) -> None:
        """K25: half lost; Redis has stored the new session, and the app cannot know."""
        with (
            TcpProxy(valkey.port) as network,
            rig(f"redis://127.0.0.1:{network.port}") as running,
        ):
            merchant = running.merchant()
            before = merchant.session_id
            delay = network.delay
            running.provider.next_token_answer(*break_after(lambda: delay(5), running))
            page = merchant.sign_in()
            network.delay(0)
            network.cut()
            assert page.status_code == 503, page
            with redis.Redis.from_url(redis_url) as client:
                assert len(client.keys("omnifund:*:session")) == 2
            wait_until(lambda: merchant.get("/session").status_code == 200, what="Redis")
            self.assert_still_signed_in(running, merchant, before)


def fill_up(client: redis.Redis) -> None:
    """Take all the memory that the server may use."""
    for size in (100_000, 100):
        with contextlib.suppress(redis.exceptions.OutOfMemoryError):
            while True:
                client.append("filler", b"x" * size)


def break_after(action: Callable[[], object], running: Rig) -> tuple[kit.Answer]:
    """An honest token response, before which something breaks."""

    def answer(request: kit.Request, wire: kit.Wire) -> bool:
        honest = running.provider._token(request)
        action()
        return honest(request, wire)

    return (answer,)


# --- keys that this app did not write --------------------------------------------------------

PLANTED: dict[str, Callable[[redis.Redis, bytes], object]] = {
    "a list": lambda client, key: client.rpush(key, "x"),
    "a hash": lambda client, key: client.hset(key, "x", "y"),
    "a set": lambda client, key: client.sadd(key, "x"),
    "a stream": lambda client, key: client.xadd(key, {"x": "y"}),
    "text": lambda client, key: client.set(key, "planted"),
    "nothing": lambda client, key: client.set(key, ""),
    "a pickle": lambda client, key: client.set(key, b"cos\nsystem\n(S'true'\ntR."),
}


@pytest.mark.parametrize("value", PLANTED)
@pytest.mark.parametrize("part", ["session", "token"])
def test_an_unreadable_record_counts_as_absent(redis_url: str, part: str, value: str) -> None:
    """K30, D4"""
    with rig(redis_url) as running, redis.Redis.from_url(redis_url) as client:
        merchant = running.merchant()
        form = {"csrf_token": merchant.csrf_token()}
        (key,) = client.keys(f"omnifund:*:{part}")
        client.delete(key)
        PLANTED[value](client, key)
        assert merchant.status() == {"signed_in": False}
        assert merchant.get("/").status_code == 200
        assert merchant.get("/customers").headers["Location"] == "/login?next=/customers"
        assert merchant.post("/logout", form).headers["Location"] == "/"
        assert merchant.sign_in().status_code == 303
        assert merchant.get("/customers").status_code == 200


@pytest.mark.parametrize("value", PLANTED)
@pytest.mark.parametrize("kind", ["attempt", "code", "browser"])
def test_a_planted_claim_makes_no_callback_fail(redis_url: str, kind: str, value: str) -> None:
    """K30: one without an expiry. The next sign-in of the same browser works."""
    with rig(redis_url) as running, redis.Redis.from_url(redis_url) as client:
        merchant = Merchant(running)
        callback = merchant.authorize()
        assert merchant.get(callback).status_code == 303
        (key,) = client.keys(f"omnifund:{kind}:*")
        client.delete(key)
        PLANTED[value](client, key)
        client.config_resetstat()
        assert merchant.get(callback).status_code == (400 if kind == "attempt" else 303)
        assert client.info("commandstats").get("cmdstat_pttl", {}).get("calls", 0) <= 1
        # Later, so that the first of the browser's pending requests is the same one.
        running.clock.advance(1)
        assert merchant.sign_in().status_code == 303
        assert merchant.get("/customers").status_code == 200
        assert len(running.provider.received(TOKEN)) == 2


@pytest.mark.parametrize("value", ["text", "a list"])
def test_a_callback_waits_by_the_apps_clock_and_not_by_a_planted_claim(
    redis_url: str, value: str
) -> None:
    """K30: one that would end in 30 years."""
    with rig(redis_url) as running, redis.Redis.from_url(redis_url) as client:
        merchant = Merchant(running)
        callback = merchant.authorize()
        assert merchant.get(callback).status_code == 303
        (key,) = client.keys("omnifund:attempt:*")
        client.delete(key)
        PLANTED[value](client, key)
        client.expire(key, 10**9)
        client.config_resetstat()
        assert merchant.get(callback).status_code == 400
        # One look at a time, and no more of them than fit into the wait.
        looks = client.info("commandstats")["cmdstat_pttl"]["calls"]
        assert looks <= WAIT_SECONDS / 0.05
