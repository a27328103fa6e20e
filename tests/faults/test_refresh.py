"""Refreshing: many requests at the same time, and failures in the middle (group E)."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest
import redis
import requests
from pydantic import SecretStr

from app import create_app
from omnifund.refresh import FAILURE_PAUSE_SECONDS, SAVE_SECONDS, WAIT_SECONDS
from omnifund.token_store import RedisTokenStore
from tests.faults import provider as kit
from tests.faults.network import TcpProxy
from tests.support.browsing import Page
from tests.support.processes import wait_until
from tests.support.rig import Rig, fleet, rig
from tests.support.servers import serve
from tests.support.valkey import ValkeyServer

TOKEN = "/oauth/v2/token"


class TestOneRefresh:
    @pytest.mark.parametrize("workers", [1, 4])
    @pytest.mark.parametrize("expires_in", [30, 0], ids=["still alive", "expired"])
    def test_however_many_ask_over_processes_there_is_one_refresh_and_no_failure(
        self, redis_url: str, workers: int, expires_in: int
    ) -> None:
        """E2"""
        with fleet(redis_url, workers=workers) as running:
            # A race of one in a hundred should show: this makes a hundred, 1450 requests in all.
            for count in (1, 2, 5, 50) * 25:
                running.provider.expires_in = expires_in
                merchant = running.merchant()
                running.provider.expires_in = 3600
                before = running.provider.refreshes
                answers = merchant.in_parallel("/customers", count)
                assert [answer.status_code for answer in answers] == [200] * count
                assert running.provider.refreshes == before + 1
                assert merchant.stored.token.generation == 1
            assert running.provider.rejections == 0

    def test_a_rejected_access_token_is_replaced_once_for_all_requests(
        self, redis_url: str
    ) -> None:
        """E2, E13"""
        with fleet(redis_url, workers=4) as running:
            for count in (1, 5, 50):
                merchant = running.merchant()
                running.provider.revoke_access_tokens()
                before = running.provider.refreshes
                answers = merchant.in_parallel("/customers", count)
                assert [answer.status_code for answer in answers] == [200] * count
                assert running.provider.refreshes == before + 1

    def test_a_slow_provider_is_still_asked_once(self, redis_url: str) -> None:
        """E3: slower than a request waits, so some are told to come back; none is signed out."""

        def visit() -> Page:
            with merchant.copy() as tab:
                return tab.get("/customers")

        with fleet(redis_url, workers=2, expires_in=0) as running, ThreadPoolExecutor(10) as pool:
            merchant = running.merchant()
            running.provider.expires_in, release = 3600, threading.Event()
            running.provider.next_token_answer(kit.hold(release, honest(running)))
            answers = as_completed([pool.submit(visit) for _ in range(10)])
            early = [next(answers).result() for _ in range(9)]
            release.set()
            assert [answer.status_code for answer in early] == [503] * 9
            assert all("Retry-After" in answer.headers for answer in early)
            assert next(answers).result().status_code == 200
            assert running.provider.refreshes == 1
            assert merchant.get("/customers").status_code == 200

    def test_while_the_old_token_is_valid_no_request_waits(self, redis_url: str) -> None:
        """E2: each looks at the lock once, and goes on."""
        with (
            rig(redis_url, flow_inspector=False) as running,
            redis.Redis.from_url(redis_url) as client,
        ):
            merchant = running.merchant()
            running.clock.advance(3550)
            release = threading.Event()
            running.provider.next_token_answer(kit.hold(release, kit.json_answer({}, 503)))
            with ThreadPoolExecutor(1) as pool:
                first = pool.submit(merchant.get, "/customers")
                running.provider.wait_for(TOKEN, 2)
                client.config_resetstat()
                answers = merchant.in_parallel("/customers", 5)
                assert [answer.status_code for answer in answers] == [200] * 5
                assert looks_at_the_lock(client) == 5
                release.set()
                assert first.result().status_code == 200

    @pytest.mark.parametrize("step", [300, -300])
    def test_a_clock_that_is_stepped_causes_no_refresh_loop(
        self, redis_url: str, step: int
    ) -> None:
        """E1"""
        with rig(redis_url, expires_in=120) as running:
            merchant = running.merchant()
            running.clock.advance(step)
            for _ in range(5):
                assert merchant.get("/customers").status_code == 200
            assert running.provider.refreshes <= 1

    def test_tokens_that_arrive_expired_cause_no_refresh_loop(self, redis_url: str) -> None:
        """C11"""
        with rig(redis_url, expires_in=0) as running:
            merchant = running.merchant()
            for _ in range(5):
                merchant.get("/customers")
            assert running.provider.refreshes <= 2


class TestTrouble:
    @pytest.mark.parametrize("status", [500, 503, 429])
    def test_while_the_token_lives_a_failed_refresh_is_not_noticed(
        self, redis_url: str, status: int
    ) -> None:
        """E11"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            running.clock.advance(3550)
            running.provider.next_token_answer(kit.json_answer({}, status))
            for _ in range(5):
                assert merchant.get("/customers").status_code == 200
            assert len(running.provider.received(TOKEN)) == 2

    def test_once_it_has_expired_a_failed_refresh_is_503_and_the_session_stays(
        self, redis_url: str
    ) -> None:
        """E11"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            running.clock.advance(3600)
            running.provider.next_token_answer(kit.json_answer({}, 500))
            for _ in range(5):
                answer = merchant.get("/customers")
                assert answer.status_code == 503
                assert 0 < int(answer.headers["Retry-After"]) <= FAILURE_PAUSE_SECONDS
            # Asked once for the code and once for the refresh: the failure is remembered.
            assert len(running.provider.received(TOKEN)) == 2
            assert merchant.get("/session").json()["signed_in"] is True
            assert merchant.get("/dashboard").status_code == 200
            end_the_lock(redis_url)
            assert merchant.get("/customers").status_code == 200

    @pytest.mark.parametrize(
        ("answer", "status"),
        [
            (kit.raw_answer(b"<h1>", 200, "text/html"), 502),
            (kit.json_answer({"error": "invalid_client"}, 400), 502),
            (kit.close_without_answer(), 503),
        ],
        ids=["nonsense", "misconfigured", "closed"],
    )
    def test_other_failures_keep_the_session_too(
        self, redis_url: str, answer: kit.Answer, status: int
    ) -> None:
        """E11, C8"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            running.clock.advance(3600)
            running.provider.next_token_answer(answer)
            assert merchant.get("/customers").status_code == status
            assert merchant.get("/session").json()["signed_in"] is True
            end_the_lock(redis_url)
            # After a closed connection the refresh token may be valid or not; here it is.
            assert merchant.get("/customers").status_code == 200

    def test_a_refresh_that_times_out_is_remembered_as_one(self, redis_url: str) -> None:
        """E11, C3, K22"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            running.clock.advance(3600)
            running.provider.next_token_answer(kit.slow(kit.json_answer({}), 30))
            # The sign-in has had the usual time.
            hasty = running.settings.model_copy(update={"omnifund_read_timeout": 0.3})
            with serve(create_app(hasty, clock=running.clock)) as server:
                merchant.site = server.url
                for _ in range(3):
                    page = merchant.get("/customers")
                    assert page.status_code == 504
                    assert 0 < int(page.headers["Retry-After"]) <= FAILURE_PAUSE_SECONDS
                assert len(running.provider.received(TOKEN)) == 2
                assert merchant.get("/session").json()["signed_in"] is True

    def test_an_answer_without_a_refresh_token_keeps_the_old_one(self, redis_url: str) -> None:
        """E12"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            old = merchant.stored.token
            fresh = {"access_token": kit.new_token(), "token_type": "bearer", "expires_in": 3600}
            running.provider.next_token_answer(kit.json_answer(fresh))
            assert merchant.post_form("/token/refresh").status_code == 303
            new = merchant.stored.token
            assert (new.access_token, new.refresh_token) == (
                fresh["access_token"],
                old.refresh_token,
            )

    def test_without_any_refresh_token_expiry_means_signing_in_again(self, redis_url: str) -> None:
        """E12"""
        with rig(redis_url) as running:
            only_access = {"access_token": kit.new_token(), "token_type": "bearer"}
            running.provider.next_token_answer(kit.json_answer(only_access))
            merchant = running.merchant()
            assert merchant.get("/session").json()["refreshable"] is False
            running.clock.advance(299)
            assert merchant.get("/dashboard").status_code == 200
            running.clock.advance(1)
            assert merchant.get("/customers").headers["Location"] == "/login?next=/customers"
            assert running.provider.refreshes == 0

    def test_a_rejected_refresh_ends_the_connection_with_a_reason(self, redis_url: str) -> None:
        """E10"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            running.provider.revoke_refresh_tokens()
            running.clock.advance(3600)
            answer = merchant.get("/transactions?page=3")
            assert answer.headers["Location"] == "/login?next=/transactions%3Fpage%3D3"
            with redis.Redis.from_url(redis_url) as client:
                assert client.keys("omnifund:{*") == []
            assert merchant.get("/session").json() == {"signed_in": False}
            merchant.sign_in()
            assert "You had to sign in again" in merchant.get("/dashboard").text

    def test_a_rejected_refresh_does_not_count_when_another_request_has_refreshed(
        self, redis_url: str
    ) -> None:
        """E10: the other one had lost the lock, but stored its token before this response came."""
        with rig(redis_url) as running:
            merchant = running.merchant()
            running.clock.advance(3600)
            release = threading.Event()
            rejection = kit.json_answer({"error": "invalid_grant"}, 400)
            running.provider.next_token_answer(kit.hold(release, rejection))
            with ThreadPoolExecutor(1) as pool:
                late = pool.submit(merchant.get, "/customers")
                running.provider.wait_for(TOKEN, 2)
                end_the_lock(redis_url)
                assert merchant.get("/customers").status_code == 200
                release.set()
                assert late.result().status_code == 200
            assert merchant.get("/session").json()["signed_in"] is True


class TestApi:
    def test_a_second_401_is_shown_and_not_refreshed_again(self, redis_url: str) -> None:
        """E13"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            refusal = kit.json_answer({"error": "invalid_grant"}, 401)
            running.provider.next_api_answer(refusal, refusal)
            assert merchant.get("/customers").status_code == 502
            assert running.provider.refreshes == 1
            assert merchant.get("/session").json()["signed_in"] is True

    @pytest.mark.parametrize(
        ("answer", "status"),
        [
            (kit.json_answer({}, 403), 403),
            (kit.json_answer({}, 404), 404),
            (kit.json_answer({}, 500), 503),
            (kit.json_answer({}, 503, {"Retry-After": "7"}), 503),
            (kit.json_answer({}, 429), 503),
            (kit.json_answer({}, 418), 502),
            (kit.json_answer([]), 502),
            (kit.json_answer({"hydra:member": {}}), 502),
            (kit.raw_answer(b"<p>", 200, "text/html"), 502),
            (kit.truncated(), 502),
            (kit.redirect_to("http://localhost:1/", 302), 502),
            (kit.close_without_answer(), 503),
        ],
    )
    def test_other_answers_are_shown_and_nothing_is_refreshed(
        self, redis_url: str, answer: kit.Answer, status: int
    ) -> None:
        """E13, D5"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            running.provider.next_api_answer(answer)
            shown = merchant.get("/customers")
            assert shown.status_code == status
            assert running.provider.refreshes == 0
            assert merchant.get("/session").json()["signed_in"] is True

    def test_odd_members_do_not_break_a_page(self, redis_url: str) -> None:
        odd = [
            {"id": 1},
            {"id": "2", "company": None, "paymentAccounts": "none", "amount": "x"},
            {"id": 3, "customer": [], "tranDate": "yesterday", "amount": 1e400, "status": {}},
            {"id": 4, "tranDate": 1e30, "amount": True, "firstName": "<b>Ada</b>"},
            {"no": "id"},
            "text",
            None,
        ]
        page = {"hydra:member": odd, "hydra:totalItems": "many", "hydra:view": {"hydra:next": 7}}
        with rig(redis_url) as running:
            merchant = running.merchant()
            for path in ("/customers", "/transactions", "/transactions?kind=pending"):
                body = json.dumps(page).replace("Infinity", "1e400").encode()
                running.provider.next_api_answer(kit.raw_answer(body))
                answer = merchant.get(path)
                assert answer.status_code == 200, answer.text
                assert "<b>Ada</b>" not in answer.text


class TestInTheMiddle:
    def test_a_slow_read_that_ends_after_a_refresh_does_not_bring_the_old_token_back(
        self, redis_url: str
    ) -> None:
        """E5"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            release = threading.Event()
            running.provider.next_api_answer(kit.hold(release, kit.json_answer({}, 403)))
            with ThreadPoolExecutor(1) as pool:
                slow = pool.submit(merchant.get, "/customers")
                running.provider.wait_for("/api/customers")
                merchant.post_form("/token/refresh")
                refreshed = merchant.stored
                release.set()
                assert slow.result().status_code == 403
            assert merchant.stored == refreshed

    def test_a_sign_out_during_a_refresh_is_final(self, redis_url: str) -> None:
        """E6, F3"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            token = merchant.csrf_token()
            release = threading.Event()
            answer = kit.json_answer(
                {"access_token": kit.new_token(), "token_type": "bearer", "expires_in": 3600}
            )
            running.provider.next_token_answer(kit.hold(release, answer))
            running.clock.advance(3600)
            cookie = {"Cookie": f"omnifund_session={merchant.session_id}"}
            with ThreadPoolExecutor(1) as pool:
                late = pool.submit(merchant.in_parallel, "/customers", 1)
                running.provider.wait_for(TOKEN, 2)
                merchant.post(
                    f"{running.url}/logout", data={"csrf_token": token}, headers=cookie, timeout=30
                )
                release.set()
                (answer_late,) = late.result()
            assert answer_late.headers["Location"] == "/login?next=/customers"
            assert "omnifund_session" not in answer_late.cookies
            with redis.Redis.from_url(redis_url) as client:
                assert client.keys("omnifund:{*") == []

    def test_saving_is_tried_again_when_redis_fails_after_omnifund_has_answered(
        self, redis_url: str, valkey: ValkeyServer
    ) -> None:
        """E7"""
        with TcpProxy(valkey.port) as network:
            url = f"redis://127.0.0.1:{network.port}"
            with rig(redis_url=url, omnifund_read_timeout=10) as running:
                merchant = running.merchant()
                running.clock.advance(3600)
                running.provider.next_token_answer(*break_after(network.refuse, running))
                with ThreadPoolExecutor(1) as pool:
                    request = pool.submit(merchant.get, "/customers")
                    running.provider.wait_for(TOKEN, 2)
                    wait_until(lambda: network.refused > 1, what="a save that fails")
                    network.accept()
                    assert request.result().status_code == 200
                assert merchant.stored.token.generation == 1

    def test_when_saving_fails_for_good_this_request_is_still_served(
        self, redis_url: str, valkey: ValkeyServer
    ) -> None:
        """E7"""
        with (
            TcpProxy(valkey.port) as network,
            rig(f"redis://127.0.0.1:{network.port}") as running,
        ):
            merchant = running.merchant()
            running.clock.advance(3600)
            running.provider.next_token_answer(*break_after(network.refuse, running))
            started = time.monotonic()
            assert merchant.get("/customers").status_code == 200
            assert time.monotonic() - started >= SAVE_SECONDS
            assert network.refused > 2
            network.accept()
            # The new refresh token is lost: one clean sign-in, to the same page.
            end_the_lock(redis_url)
            # The app may need a moment to reach Redis again, and says so with 503.
            wait_until(lambda: merchant.get("/customers").status_code != 503, what="Redis")
            assert merchant.get("/customers").headers["Location"] == "/login?next=/customers"

    def test_a_worker_killed_between_the_answer_and_the_save_costs_one_clean_sign_in(
        self, redis_url: str, valkey: ValkeyServer
    ) -> None:
        """E8"""
        with TcpProxy(valkey.port) as network:
            through = f"redis://127.0.0.1:{network.port}"
            with fleet(redis_url, workers=2, expires_in=0, store_url=through) as running:
                merchant = running.merchant()
                running.provider.expires_in = 3600
                running.provider.next_token_answer(*break_after(network.freeze, running))
                with ThreadPoolExecutor(1) as pool:
                    killed = pool.submit(merchant.get, "/customers")
                    running.provider.wait_for(TOKEN, 2)
                    for worker in running.server.worker_pids():
                        os.kill(worker, signal.SIGKILL)
                    with pytest.raises(Exception, match="Connection"):
                        killed.result()
                network.cut()
                network.thaw()
                end_the_lock(redis_url)
                wait_until(lambda: answers_again(running), what="a new worker")
                answer = merchant.get("/customers?page=1")
                assert answer.headers["Location"] == "/login?next=/customers%3Fpage%3D1"
                assert merchant.sign_in("/customers").headers["Location"] == "/customers"
                assert merchant.get("/customers").status_code == 200

    def test_a_process_that_dies_before_sending_holds_others_up_for_a_bounded_time(
        self, redis_url: str
    ) -> None:
        """E4"""
        with rig(redis_url) as running, redis.Redis.from_url(redis_url) as client:
            merchant = running.merchant()
            dead = running.tokens.acquire_refresh_lock(merchant.session_id, seconds=25)
            assert dead.acquired
            running.clock.advance(3550)
            assert merchant.get("/customers").status_code == 200
            running.clock.advance(50)
            client.config_resetstat()
            assert merchant.get("/customers").status_code == 503
            assert 1 < looks_at_the_lock(client) <= WAIT_SECONDS / 0.05 + 1
            assert merchant.get("/session").json()["signed_in"] is True
            end_the_lock(redis_url)
            assert merchant.get("/customers").status_code == 200
            assert running.provider.refreshes == 1

    def test_a_stop_during_a_refresh_lets_it_finish(self, redis_url: str) -> None:
        """E9"""
        with fleet(redis_url, workers=2, expires_in=0) as running:
            merchant = running.merchant()
            running.provider.expires_in, running.provider.delay = 3600, 1
            with ThreadPoolExecutor(1) as pool:
                request = pool.submit(merchant.get, "/customers")
                running.provider.wait_for(TOKEN, 2)
                assert running.server.stop() == 0
                assert request.result().status_code == 200
            assert merchant.stored.token.generation == 1

    def test_a_browser_that_leaves_during_a_refresh_loses_nothing(self, redis_url: str) -> None:
        """E9, B14"""
        with fleet(redis_url, workers=1, expires_in=0) as running:
            merchant = running.merchant()
            running.provider.expires_in, running.provider.delay = 3600, 1
            with pytest.raises(Exception, match="timed out"):
                merchant.get(f"{running.url}/customers", timeout=0.5)
            wait_until(lambda: merchant.stored.token.generation == 1, what="the refresh")
            assert running.provider.refreshes == 1


# --- failures that are remembered ----------------------------------------------------------------


def headline(page: Page) -> tuple[int, str]:
    return page.status_code, page.headline


def retry_after(page: Page) -> int:
    return int(page.headers["Retry-After"])


def lock_of(redis_url: str) -> bytes | None:
    """The one refresh lock, or what is left of a failure, or ``None``."""
    with redis.Redis.from_url(redis_url) as client:
        keys = client.keys("omnifund:*:lock")
        assert len(keys) <= 1
        if not keys:
            return None
        assert 0 < client.pttl(keys[0]) <= 3_600_000
        value: bytes = client.get(keys[0])
        return value


class TestOddResponses:
    """K17: whatever OmniFund sends, the lock is released and a valid token is kept."""

    @pytest.mark.parametrize(("name", "answer"), list(kit.odd_token_responses()))
    def test_the_lock_is_released_and_the_valid_token_is_kept(
        self, redis_url: str, name: str, answer: kit.Answer
    ) -> None:
        """K17"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            before = merchant.stored
            running.clock.advance(3550)
            running.provider.next_token_answer(answer)
            for _ in range(3):
                assert merchant.get("/customers").status_code == 200, name
            assert len(running.provider.received(TOKEN)) == 2
            assert merchant.stored == before
            mark = lock_of(redis_url)
            assert mark is not None
            assert mark.startswith(b"failed ")
            end_the_lock(redis_url)
            assert merchant.get("/customers").status_code == 200
            assert merchant.stored.token.generation == 1

    @pytest.mark.parametrize(("name", "answer"), list(kit.odd_token_responses())[::4])
    def test_after_it_has_expired_the_page_says_what_is_wrong(
        self, redis_url: str, name: str, answer: kit.Answer
    ) -> None:
        """K17"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            running.clock.advance(3600)
            running.provider.next_token_answer(answer)
            for _ in range(2):
                page = merchant.get("/customers")
                assert headline(page) == (502, "OmniFund sent an invalid response"), name
            assert merchant.status()["signed_in"] is True
            end_the_lock(redis_url)
            assert merchant.get("/customers").status_code == 200


class TestPause:
    """K22: the pause remembers what failed and for how long; a repair counts immediately."""

    @pytest.mark.parametrize(
        ("answer", "status", "words"),
        [
            (
                kit.json_answer({"error": "invalid_client"}, 400),
                502,
                "This app isn't configured correctly for OmniFund",
            ),
            (kit.json_answer({}), 502, "OmniFund sent an invalid response"),
            (kit.json_answer({}, 503), 503, "OmniFund is unavailable right now"),
            (kit.json_answer({}, 429), 503, "OmniFund is unavailable right now"),
            (kit.close_without_answer(), 503, "OmniFund is unavailable right now"),
        ],
        ids=["invalid_client", "nonsense", "503", "429", "closed"],
    )
    def test_every_page_during_the_pause_says_what_the_first_one_said(
        self, redis_url: str, answer: kit.Answer, status: int, words: str
    ) -> None:
        """K22"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            running.clock.advance(3600)
            running.provider.next_token_answer(answer)
            pages = [merchant.get("/customers") for _ in range(3)]
            pages.append(merchant.post_form("/token/refresh"))
            assert {headline(page) for page in pages} == {(status, words)}
            if "invalid_client" in words:
                assert all("invalid_client" in page.text for page in pages)
            assert len(running.provider.received(TOKEN)) == 2
            assert merchant.status()["signed_in"] is True
            assert merchant.get("/dashboard").status_code == 200

    @pytest.mark.parametrize(
        ("asked", "low", "high"), [("77", 60, 77), ("3", 20, 30), ("999999", 3580, 3600)]
    )
    def test_the_pause_is_as_long_as_omnifund_asks_for(
        self, redis_url: str, asked: str, low: int, high: int
    ) -> None:
        """K22, C9"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            running.clock.advance(3600)
            header = {"Retry-After": asked}
            running.provider.next_token_answer(kit.json_answer({}, 503, header))
            first, *later = [merchant.get("/customers") for _ in range(3)]
            assert retry_after(first) == min(int(asked), 3600)
            waits = [retry_after(page) for page in later]
            assert all(low <= wait <= high for wait in waits), waits
            assert waits == sorted(waits, reverse=True)
            # So does Redis: nothing is tried before.
            with redis.Redis.from_url(redis_url) as client:
                (key,) = client.keys("omnifund:*:lock")
                assert low * 1000 <= client.pttl(key) <= high * 1000

    @pytest.mark.parametrize(
        "answer",
        [
            kit.json_answer({"error": "invalid_client"}, 400),
            kit.json_answer({}, 503, {"Retry-After": "3600"}),
        ],
        ids=["invalid_client", "unavailable for an hour"],
    )
    @pytest.mark.parametrize("state", ["expired", "about to expire"])
    def test_new_credentials_count_immediately(
        self, redis_url: str, answer: kit.Answer, state: str
    ) -> None:
        """K22: the operator corrects the secret and restarts the app."""
        with rig(redis_url) as running:
            merchant = running.merchant()
            running.clock.advance(3600 if state == "expired" else 3550)
            running.provider.next_token_answer(answer)
            merchant.get("/customers")
            repaired = running.settings.model_copy(
                update={"omnifund_client_secret": SecretStr("corrected")}
            )
            app = create_app(repaired, clock=running.clock)
            with serve(app) as server:
                again = merchant.copy()
                again.site = server.url
                assert again.get("/customers").status_code == 200
            (*_, last) = running.provider.received(TOKEN)
            assert last.form["client_secret"] == "corrected"
            assert merchant.stored.token.generation == 1

    def test_the_same_credentials_after_a_restart_change_nothing(self, redis_url: str) -> None:
        """K22: the test above can fail."""
        with rig(redis_url) as running:
            merchant = running.merchant()
            running.clock.advance(3600)
            running.provider.next_token_answer(kit.json_answer({"error": "invalid_client"}, 400))
            merchant.get("/customers")
            with serve(create_app(running.settings, clock=running.clock)) as server:
                again = merchant.copy()
                again.site = server.url
                assert again.get("/customers").status_code == 502
            assert len(running.provider.received(TOKEN)) == 2


class TestNoRefresh:
    """K23, K24: a connection that cannot be refreshed lasts as long as its access token."""

    @pytest.mark.parametrize("error", ["unauthorized_client", "unsupported_grant_type"])
    def test_a_client_that_may_not_refresh_uses_the_token_and_signs_in_once(
        self, redis_url: str, error: str
    ) -> None:
        """K23"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            refusal = kit.json_answer({"error": error}, 400)
            running.clock.advance(3550)
            running.provider.next_token_answer(*[refusal] * 5)
            assert merchant.get("/customers").status_code == 200
            assert merchant.post_form("/token/refresh").headers["Location"] == "/dashboard"
            assert "Not refreshed" in merchant.get("/dashboard").text
            running.clock.advance(49)
            assert merchant.get("/customers").status_code == 200
            running.clock.advance(1)
            page = merchant.get("/customers")
            assert page.headers["Location"] == "/login?next=/customers", page
            assert merchant.status() == {"signed_in": False}
            running.provider._next["token"].clear()
            assert merchant.sign_in("/customers").headers["Location"] == "/customers"
            assert merchant.get("/customers").status_code == 200

    @pytest.mark.parametrize("error", ["unauthorized_client", "unsupported_grant_type"])
    def test_without_a_try_before_it_expires_it_is_one_sign_in_too(
        self, redis_url: str, error: str
    ) -> None:
        """K23: every hour, and no page says that OmniFund is unavailable."""
        with rig(redis_url) as running:
            merchant = running.merchant()
            for _ in range(3):
                running.clock.advance(3600)
                running.provider.next_token_answer(kit.json_answer({"error": error}, 400))
                page = merchant.get("/customers")
                assert page.headers["Location"] == "/login?next=/customers", page
                assert merchant.sign_in("/customers").status_code == 303
                assert merchant.get("/customers").status_code == 200

    def test_after_a_refused_refresh_the_access_token_is_used_until_it_expires(
        self, redis_url: str
    ) -> None:
        """K24, E10"""
        with rig(redis_url) as running:
            merchant = running.merchant()
            before = merchant.stored.token
            running.provider.revoke_refresh_tokens()
            running.clock.advance(3550)
            for path in ("/customers", "/dashboard", "/transactions"):
                assert merchant.get(path).status_code == 200
            assert running.provider.refreshes == 1
            assert merchant.status()["refreshable"] is False
            assert merchant.stored.token.access_token == before.access_token
            running.clock.advance(49)
            assert merchant.get("/customers").status_code == 200
            running.clock.advance(1)
            assert merchant.get("/customers").headers["Location"] == "/login?next=/customers"
            assert running.provider.refreshes == 1

    @pytest.mark.parametrize("has_refresh_token", [True, False])
    def test_refresh_now_that_cannot_work_is_a_notice(
        self, redis_url: str, has_refresh_token: bool
    ) -> None:
        """K24"""
        with rig(redis_url) as running:
            token = {
                "access_token": kit.new_token(),
                "token_type": "bearer",
                "expires_in": 3600,
                **({"refresh_token": kit.new_token()} if has_refresh_token else {}),
            }
            running.provider.next_token_answer(kit.json_answer(token))
            merchant = running.merchant()
            for _ in range(2):
                assert merchant.post_form("/token/refresh").headers["Location"] == "/dashboard"
                page = merchant.get("/dashboard")
                assert "Not refreshed" in page.text
                assert "Tokens refreshed" not in page.text
            assert merchant.status()["signed_in"] is True
            assert running.provider.refreshes == int(has_refresh_token)

    def test_a_refused_refresh_of_a_token_that_the_api_rejects_ends_the_connection(
        self, redis_url: str
    ) -> None:
        """K24: it does not work, whatever its expiry says."""
        with rig(redis_url) as running:
            merchant = running.merchant()
            running.provider.revoke_access_tokens()
            running.provider.revoke_refresh_tokens()
            assert merchant.get("/customers").headers["Location"] == "/login?next=/customers"
            assert merchant.status() == {"signed_in": False}


# --- keys that this app did not write ------------------------------------------------------------

LOCKS: dict[str, Callable[[redis.Redis, bytes], object]] = {
    "a list": lambda client, key: client.rpush(key, "x"),
    "a hash": lambda client, key: client.hset(key, "x", "y"),
    "text": lambda client, key: client.set(key, "planted"),
    "nothing": lambda client, key: client.set(key, ""),
    "a lock": lambda client, key: client.set(key, b"x" * 16),
    "a failure": lambda client, key: client.set(key, b"failed "),
    "a failure with a reason": lambda client, key: client.set(
        key, b"failed 12345678 ClientMisconfigured <script>"
    ),
    "a failure that is no text": lambda client, key: client.set(key, b"failed \xff\xfe \xff"),
}


class TestPlantedLocks:
    """K30: every wait is bounded by the app's own clock."""

    @pytest.mark.parametrize("value", LOCKS)
    @pytest.mark.parametrize("seconds", [None, 10**9], ids=["no expiry", "a huge expiry"])
    def test_a_planted_lock_holds_no_request_up(
        self, redis_url: str, value: str, seconds: int | None
    ) -> None:
        """K30"""
        with rig(redis_url) as running, redis.Redis.from_url(redis_url) as client:
            merchant = running.merchant()
            key = RedisTokenStore.lock_key(merchant.session_id).encode()
            LOCKS[value](client, key)
            if seconds:
                client.expire(key, seconds)
            running.clock.advance(3600)
            assert merchant.get("/customers").status_code == 200
            assert running.provider.refreshes == 1
            assert not client.exists(key)

    @pytest.mark.parametrize("seconds", [None, 3601, 10**9])
    def test_a_failure_of_this_client_with_an_impossible_end_counts_for_nothing(
        self, redis_url: str, seconds: int | None
    ) -> None:
        """K30: no `Retry-After: 1000000000`."""
        with rig(redis_url) as running, redis.Redis.from_url(redis_url) as client:
            merchant = running.merchant()
            running.clock.advance(3600)
            running.provider.next_token_answer(kit.json_answer({}, 503))
            assert retry_after(merchant.get("/customers")) <= FAILURE_PAUSE_SECONDS
            (key,) = client.keys("omnifund:*:lock")
            client.persist(key)
            if seconds:
                client.expire(key, seconds)
            assert merchant.get("/customers").status_code == 200

    def test_a_lock_that_may_be_real_is_waited_for_and_no_longer(self, redis_url: str) -> None:
        """K30, E4: no more looks at a lock without an owner than fit into the wait."""
        with rig(redis_url) as running, redis.Redis.from_url(redis_url) as client:
            merchant = running.merchant()
            key = RedisTokenStore.lock_key(merchant.session_id)
            client.set(key, b"x" * 16, ex=20)
            running.clock.advance(3600)
            client.config_resetstat()
            page = merchant.get("/customers")
            assert (page.status_code, merchant.status()["signed_in"]) == (503, True)
            assert 1 < looks_at_the_lock(client) <= WAIT_SECONDS / 0.05 + 1

    def test_a_planted_reason_is_not_shown(self, redis_url: str) -> None:
        """K30, B7: not even with the mark of this client, which Redis shows."""
        with rig(redis_url) as running, redis.Redis.from_url(redis_url) as client:
            merchant = running.merchant()
            running.clock.advance(3600)
            running.provider.next_token_answer(kit.json_answer({"error": "invalid_client"}, 400))
            assert merchant.get("/customers").status_code == 502
            (key,) = client.keys("omnifund:*:lock")
            mark = client.get(key)
            words = b"Call 555-0100 to unlock your account"
            client.set(key, mark.replace(b"invalid_client", words), ex=20)
            page = merchant.get("/customers")
            assert page.status_code == 502
            assert "555-0100" not in page.text


# --- helpers -----------------------------------------------------------------------------------


def honest(running: Rig) -> kit.Answer:
    """What the provider answers by itself, made when it is sent."""
    return lambda request, wire: running.provider._token(request)(request, wire)


def break_after(action: Callable[[], None], running: Rig) -> tuple[kit.Answer]:
    """An honest refresh, before whose answer something breaks."""

    def answer(request: kit.Request, wire: kit.Wire) -> bool:
        good = running.provider._token(request)
        action()
        return good(request, wire)

    return (answer,)


def looks_at_the_lock(client: redis.Redis) -> int:
    """How often the lock was asked for since the counts were reset; each time with a PTTL."""
    return int(client.info("commandstats").get("cmdstat_pttl", {}).get("calls", 0))


def end_the_lock(redis_url: str) -> None:
    """As if the pause after a failure, or a dead process's lock, were over."""
    with redis.Redis.from_url(redis_url) as client:
        for key in client.keys("omnifund:*:lock"):
            assert client.pttl(key) > 0
            client.delete(key)


def answers_again(running: Rig) -> bool:
    try:
        return requests.get(f"{running.url}/healthz", timeout=2).ok
    except requests.RequestException:
        return False
