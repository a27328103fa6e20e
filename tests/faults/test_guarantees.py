"""The app's guarantees, checked after every step of journeys that Hypothesis makes up."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.faults import provider as kit
from tests.faults.network import TcpProxy
from tests.support.merchant import Merchant
from tests.support.rig import rig
from tests.support.valkey import ValkeyServer

IDLE, LIFETIME, TOKEN_LIFE = 1800, 20_000, 3600


def machine(valkey: ValkeyServer) -> type[RuleBasedStateMachine]:
    """Return the state machine over this Valkey."""

    class Journey(RuleBasedStateMachine):
        """One browser with tabs; what it should see is kept beside it."""

        def __init__(self) -> None:
            super().__init__()
            self.stack = contextlib.ExitStack()
            valkey.flush()
            self.network = self.stack.enter_context(TcpProxy(valkey.port))
            self.rig = self.stack.enter_context(
                rig(
                    f"redis://127.0.0.1:{self.network.port}",
                    session_idle_seconds=IDLE,
                    session_lifetime_seconds=LIFETIME,
                    expires_in=TOKEN_LIFE,
                )
            )
            self.browser = Merchant(self.rig)
            self.tabs: list[tuple[str, float]] = []
            self.starts: list[tuple[str, float]] = []
            self.used: list[str] = []
            self.signed_in_at: float | None = None
            self.redis_is_up = True
            self.revoked = False
            self.pages: list[str] = []

        def teardown(self) -> None:
            self.stack.close()

        # --- what should be -----------------------------------------------------------------

        @property
        def now(self) -> float:
            return self.rig.clock.now

        @property
        def should_be_signed_in(self) -> bool:
            return self.signed_in_at is not None and self.now < self.signed_in_at + LIFETIME

        def open(self, url: str) -> Any:
            answer = self.browser.get(url)
            self.pages.append(f"{answer.headers} {answer.text}")
            return answer

        # --- what may happen ----------------------------------------------------------------

        @initialize()
        def arrive(self) -> None:
            assert self.open(self.rig.url).status_code == 200

        @rule()
        def start_a_sign_in_in_a_new_tab(self) -> None:
            # Two starts of one browser are never at the very same moment.
            self.rig.clock.advance(0.01)
            self.tabs.append((self.browser.authorize(), self.now))
            self.starts.append(self.tabs[-1])
            # A browser keeps seven attempts, finished ones among them.
            self.tabs = [tab for tab in self.tabs if tab in self.starts[-7:]]

        @precondition(lambda self: self.tabs)
        @rule(which=st.integers(0, 6))
        def finish_a_tab(self, which: int) -> None:
            url, started_at = self.tabs.pop(which % len(self.tabs))
            asked = self.rig.provider.code_requests
            answer = self.open(url)
            if self.now > started_at + 600:
                assert answer.status_code == 400
            elif not self.redis_is_up:
                assert answer.status_code == 503
            else:
                assert answer.status_code == 303
                self.used.append(url)
                self.signed_in_at, self.revoked = self.now, False
                asked += 1
            assert self.rig.provider.code_requests == asked

        @precondition(lambda self: self.tabs)
        @rule(which=st.integers(0, 6))
        def deny_in_a_tab(self, which: int) -> None:
            url, started_at = self.tabs.pop(which % len(self.tabs))
            answer = self.open(url.replace("&code=", "&error=access_denied&ignored="))
            expected = 403 if self.redis_is_up else 503
            assert answer.status_code == (400 if self.now > started_at + 600 else expected)

        @precondition(lambda self: self.used and self.redis_is_up)
        @rule(which=st.integers(0, 50))
        def repeat_a_finished_callback(self, which: int) -> None:
            asked = self.rig.provider.code_requests
            answer = self.open(self.used[which % len(self.used)])
            assert answer.status_code in (303, 400)
            assert self.rig.provider.code_requests == asked

        @rule()
        def forge_a_callback(self) -> None:
            answer = self.open(f"{self.rig.url}/callback?code=forged&state={'A' * 43}")
            assert answer.status_code == 400

        @rule(path=st.sampled_from(["/customers", "/transactions", "/dashboard"]))
        def open_a_page(self, path: str) -> None:
            answer = self.open(self.rig.url + path)
            if not self.redis_is_up and "omnifund_session" in self.browser.cookies:
                assert answer.status_code == 503
            elif self.should_be_signed_in and answer.status_code != 200:
                # The one reason for which a merchant is signed out before the session ends.
                assert self.revoked
                assert answer.headers["Location"].startswith("/login?next=")
                self.signed_in_at = None

        @precondition(lambda self: self.should_be_signed_in and self.redis_is_up)
        @rule()
        def refresh_on_demand(self) -> None:
            has_expired = self.browser.stored.token.expired(self.now)
            answer = self.browser.post_form("/token/refresh")
            if not self.revoked:
                assert answer.headers["Location"] == "/dashboard"
            elif has_expired:
                self.signed_in_at = None
                assert answer.headers["Location"].startswith("/login?next=")
            else:
                # As far as this app can tell, the access token still works.
                assert answer.headers["Location"] == "/dashboard"

        @precondition(
            lambda self: self.should_be_signed_in and self.redis_is_up and not self.revoked
        )
        @rule(status=st.sampled_from([500, 503, 429]))
        def fail_a_refresh(self, status: int) -> None:
            self.rig.provider.next_token_answer(kit.json_answer({}, status))
            assert self.browser.post_form("/token/refresh").status_code == 503
            # The half minute after a failure is over.
            with valkey.client() as client:
                for key in client.keys("omnifund:*:lock"):
                    client.delete(key)

        @precondition(lambda self: self.should_be_signed_in and self.redis_is_up)
        @rule()
        def sign_out(self) -> None:
            assert self.browser.post_form("/logout").status_code == 303
            self.signed_in_at = None

        @precondition(lambda self: self.should_be_signed_in)
        @rule()
        def omnifund_revokes_the_connection(self) -> None:
            self.rig.provider.revoke_access_tokens()
            self.rig.provider.revoke_refresh_tokens()
            self.revoked = True

        @rule(seconds=st.sampled_from([1, 59, 601, 1700, 3541, 3600, LIFETIME]))
        def let_time_pass(self, seconds: int) -> None:
            self.rig.clock.advance(seconds)

        @precondition(lambda self: self.redis_is_up)
        @rule()
        def lose_redis(self) -> None:
            self.network.refuse()
            self.redis_is_up = False

        @precondition(lambda self: not self.redis_is_up)
        @rule()
        def get_redis_back(self) -> None:
            self.network.accept()
            self.redis_is_up = True

        # --- what must always hold ------------------------------------------------------------

        @invariant()
        def the_session_is_what_it_should_be(self) -> None:
            answer = self.browser.get("/session")
            if not self.redis_is_up:
                has_cookie = "omnifund_session" in self.browser.cookies
                assert answer.status_code == (503 if has_cookie else 200)
            else:
                assert answer.json()["signed_in"] is self.should_be_signed_in

        @invariant()
        def redis_holds_one_session_at_most_and_no_key_forever(self) -> None:
            with valkey.client() as client:
                keys = client.keys("omnifund:*")
                assert all(client.ttl(key) > 0 for key in keys)
                for part in (b":session", b":token"):
                    assert sum(key.endswith(part) for key in keys) <= 1

        @invariant()
        def no_token_is_on_a_page_or_readable_in_redis(self) -> None:
            provider = self.rig.provider
            secrets = [*provider._access, *provider._refresh]
            pages = "".join(self.pages)
            with valkey.client() as client:
                dump = b"".join(client.dump(key) or b"" for key in client.keys("omnifund:*"))
            for secret in secrets:
                assert secret not in pages
                assert secret.encode() not in dump
            self.pages.clear()

    return Journey


def test_the_guarantees_hold_on_every_journey(valkey: ValkeyServer) -> None:
    """B1, B2, B3, B4, B11, B12, D1, D3, E10, E11, F2, F5, F8, K24"""
    run_state_machine_as_test(
        machine(valkey),
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            # The same journeys everywhere: with real servers a replay proves little.
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_machine_would_notice_a_lost_session(valkey: ValkeyServer) -> None:
    """The check itself can fail: a session that vanishes is seen."""
    journey = machine(valkey)()
    try:
        journey.start_a_sign_in_in_a_new_tab()  # type: ignore[attr-defined]  # a rule of the class above
        journey.finish_a_tab(which=0)  # type: ignore[attr-defined]  # as above
        with redis.Redis.from_url(valkey.url) as client:
            client.delete(*client.keys("omnifund:*:session"))
        with pytest.raises(AssertionError):
            journey.the_session_is_what_it_should_be()  # type: ignore[attr-defined]  # as above
    finally:
        journey.teardown()
