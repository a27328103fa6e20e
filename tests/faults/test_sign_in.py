"""Signing in: simultaneous requests, failures, and many merchants (group B)."""

from __future__ import annotations

import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import requests

from omnifund.authorization import CLOCK_SKEW_SECONDS, PENDING_SECONDS, WAIT_SECONDS
from tests.faults import provider as kit
from tests.support.merchant import Merchant
from tests.support.processes import wait_until
from tests.support.rig import fleet, rig

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
        assert way_on in page.text
        assert "Go to the dashboard" in page.text
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
        everybody = []
        for number in range(merchants_count):
            merchant = Merchant(running)
            merchant.sign_in()
            owners[merchant.stored.token.access_token] = str(number)
            everybody.append(merchant)
        stop = threading.Event()

        def trouble() -> None:
            assert running.server is not None
            while not stop.wait(0.7):
                os.kill(dice.choice(running.server.worker_pids()), signal.SIGKILL)

        def visit(number: int) -> str:
            merchant, own = everybody[number], f"owner-{number}-"
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
