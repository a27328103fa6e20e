"""Connections of a product's own users, in every store, against a provider that rotates tokens."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from omnifund.client import OmniFund, SignIn
from omnifund.connections import Resealed, StoredToken
from omnifund.errors import (
    ConnectionEnded,
    ConnectionNotFound,
    ConnectionUnreadable,
    OmniFundUnavailable,
    OwnerMismatch,
    ReauthorizationRequired,
    RefreshRejected,
    StoreUnavailable,
)
from omnifund.events import Event
from omnifund.refresh import FAILURES_IN_A_ROW
from omnifund.token import Token
from pytest_omnifund import Clock
from tests.faults import provider as kit
from tests.faults.provider import HonestProvider
from tests.stores.conftest import Database

TOKEN = "/oauth/v2/token"
DAY = 24 * 3600


@dataclass
class Product:
    """A product with users of its own, in one browser. ``keys``: its secret keys."""

    database: Database
    provider: HonestProvider
    clock: Clock
    keys: list[str] = field(default_factory=lambda: [secrets.token_urlsafe(48)])
    cookies: dict[str, str] = field(default_factory=dict)
    omnifund: OmniFund = field(init=False)

    def __post_init__(self) -> None:
        self.omnifund = self.process()

    def process(self, **changes: Any) -> OmniFund:
        """Return the client of another process of the product."""
        values: dict[str, Any] = {
            "base_url": self.provider.url,
            "client_id": "an id",
            "client_secret": "a secret",
            "redirect_uri": "http://localhost:8000/callback",
            "secret_keys": self.keys,
            "sign_in_seconds": None,
            "clock": self.clock,
            "on_event": self.database.on_event,
        }
        return OmniFund(self.database.open(), **(values | changes))

    def approve(self, owner: str) -> str:
        """Start to connect; return the query of the callback."""
        started = self.omnifund.create_authorization_request(self.cookies, owner=owner)
        self.cookies |= {cookie["key"]: cookie["value"] for cookie in started.cookies}
        approved = requests.get(started.url, allow_redirects=False, timeout=10)
        return urlsplit(approved.headers["Location"]).query

    def connect(self, owner: str) -> SignIn:
        """Connect ``owner``'s account."""
        return self.omnifund.handle_callback(self.approve(owner), self.cookies, owner=owner)

    def customers(self, owner: str) -> int:
        """Return how many customers the product sees."""
        return len(self.omnifund.api.customers(owner).items)

    def during_a_refresh(self, act: Callable[[], object]) -> None:
        """Have ``act`` happen once, while OmniFund's response to a refresh is on its way."""
        oauth = self.omnifund.oauth
        honest = oauth.refresh

        def refresh(token: Token) -> Token:
            del oauth.__dict__["refresh"]
            try:
                return honest(token)
            finally:
                act()

        oauth.__dict__["refresh"] = refresh

    def without_storing(self, seconds: float) -> None:
        """Have the store refuse refreshed tokens for so long, by a clock that waiting moves."""
        store, refresher = self.omnifund.tokens.store, self.omnifund.refresher
        honest, now = store.replace, [0.0]

        def replace(*arguments: Any, **options: Any) -> bool:
            if now[0] < seconds:
                raise StoreUnavailable("the database is away")
            return honest(*arguments, **options)

        def sleep(pause: float) -> None:
            now[0] += pause

        store.__dict__["replace"] = replace
        refresher.monotonic, refresher.sleep = lambda: now[0], sleep


@pytest.fixture
def product(database: Database) -> Iterator[Product]:
    clock = Clock()
    with HonestProvider(clock=clock) as provider:
        yield Product(database, provider, clock)


class TestOwners:
    def test_with_an_owner_the_connection_id_is_the_owner(self, product: Product) -> None:
        done = product.connect("user 1")
        assert (done.connection_id, done.is_new) == ("user 1", True)
        assert product.customers("user 1")
        with pytest.raises(ConnectionNotFound):
            product.customers("user 2")

    def test_users_of_one_browser_keep_their_own(self, product: Product) -> None:
        """M1: within ten minutes, so that the browser still has the first one's cookie."""
        product.connect("user 1")
        product.connect("user 2")
        first = product.omnifund.tokens.load("user 1").token.access_token
        assert first != product.omnifund.tokens.load("user 2").token.access_token
        assert product.customers("user 1")
        assert product.customers("user 2")

    def test_another_users_callback_is_refused(self, product: Product) -> None:
        """M1"""
        query = product.approve("user 1")
        with pytest.raises(OwnerMismatch):
            product.omnifund.handle_callback(query, product.cookies, owner="user 2")
        assert product.provider.code_requests == 0

    def test_connecting_again_replaces(self, product: Product) -> None:
        product.connect("user 1")
        before = product.omnifund.tokens.load("user 1")
        product.connect("user 1")
        after = product.omnifund.tokens.load("user 1")
        assert after.token.access_token != before.token.access_token
        assert product.omnifund.tokens.list_ids() == ["user 1"]

    def test_a_refresh_that_is_late_does_not_undo_connecting_again(self, product: Product) -> None:
        """E6"""
        product.connect("user 1")
        stale = product.omnifund.tokens.load("user 1")
        lock = product.omnifund.tokens.acquire_refresh_lock("user 1", seconds=30)
        product.connect("user 1")
        late = product.omnifund.tokens.prepare("user 1", stale.token)
        assert not product.omnifund.tokens.replace("user 1", stale, late, lock)
        assert product.customers("user 1")

    def test_two_callbacks_at_once_leave_one_connection(self, product: Product) -> None:
        """K9"""
        queries = [product.approve("user 1") for _ in range(5)]

        def finish(query: str) -> SignIn:
            return product.omnifund.handle_callback(query, product.cookies, owner="user 1")

        with ThreadPoolExecutor(5) as pool:
            assert {each.connection_id for each in pool.map(finish, queries)} == {"user 1"}
        assert product.omnifund.tokens.list_ids() == ["user 1"]
        assert product.customers("user 1")

    def test_of_ten_times_the_same_callback_one_exchanges_the_code(self, product: Product) -> None:
        """B3"""
        query = product.approve("user 1")

        def finish(_: int) -> bool:
            done = product.omnifund.handle_callback(query, product.cookies, owner="user 1")
            return done.is_new

        with ThreadPoolExecutor(10) as pool:
            assert sorted(pool.map(finish, range(10))) == [False] * 9 + [True]
        assert product.provider.code_requests == 1

    @pytest.mark.parametrize("owner", ["x" * 255, "😀" * 255, "Ünï '; --", "%s :x"])
    def test_any_printable_text_may_be_an_owner(self, product: Product, owner: str) -> None:
        assert product.connect(owner).connection_id == owner
        assert product.customers(owner)
        assert product.omnifund.tokens.list_ids() == [owner]

    @pytest.mark.parametrize("owner", ["", "x" * 256, "a\0b", "\ud800", "a\nb"])
    def test_an_owner_that_cannot_be_a_key_is_refused_at_once(
        self, product: Product, owner: str
    ) -> None:
        with pytest.raises(ValueError, match="printable"):
            product.omnifund.create_authorization_request({}, owner=owner)
        with pytest.raises(ValueError, match="printable"):
            product.omnifund.sign_in_with_password("merchant", "password", owner=owner)
        with pytest.raises(ValueError, match="printable"):
            product.omnifund.handle_callback("", {}, owner=owner)

    def test_the_password_grant_connects_an_owner_too(self, product: Product) -> None:
        product.omnifund.sign_in_with_password("merchant", "password", owner="user 1")
        assert product.customers("user 1")


class TestStates:
    """M5: no such connection, one that cannot be read, and one that OmniFund has ended."""

    def test_there_is_none(self, product: Product) -> None:
        with pytest.raises(ConnectionNotFound):
            product.customers("user 1")
        product.connect("user 1")
        product.omnifund.disconnect("user 1")
        with pytest.raises(ConnectionNotFound):
            product.customers("user 1")
        assert product.omnifund.tokens.list_ids() == []

    def test_it_cannot_be_read_with_another_secret_key(self, product: Product) -> None:
        product.connect("user 1")
        other = product.process(secret_keys=["another key of at least 32 characters"])
        with pytest.raises(ConnectionUnreadable):
            other.api.customers("user 1")
        with pytest.raises(ConnectionUnreadable):
            other.renew("user 1")
        assert Event.RECORD_UNREADABLE in product.database.events
        assert product.provider.refreshes == 0
        # Nothing is lost: with the right key it goes on.
        assert product.customers("user 1")

    def test_another_connections_record_cannot_be_read(self, product: Product) -> None:
        """D4: whoever may write to the database cannot give one user another one's account."""
        product.connect("user 1")
        store = product.database.open()
        record = store.load("user 1")
        assert record is not None
        save: dict[str, Any] = {"seconds": None, "completes": {}, "swap": None, "also": ()}
        store.save("user 2", record, refreshed_at=1, **save)
        with pytest.raises(ConnectionUnreadable):
            product.customers("user 2")

    def test_omnifund_has_ended_it(self, product: Product) -> None:
        """M6: when and why stays, and OmniFund is not bothered again."""
        product.connect("user 1")
        product.provider.revoke_refresh_tokens()
        product.clock.advance(3 * DAY)
        noticed_at = int(product.clock())
        for _ in range(3):
            with pytest.raises(ConnectionEnded, match="invalid_grant") as ended:
                product.customers("user 1")
            assert ended.value.ended_at == noticed_at
            assert isinstance(ended.value, ReauthorizationRequired)
            product.clock.advance(DAY)
        assert product.provider.rejections == 1
        # Connecting again is all that it takes.
        product.connect("user 1")
        assert product.customers("user 1")

    def test_while_the_access_token_works_nobody_is_cut_off(self, product: Product) -> None:
        """E7"""
        product.connect("user 1")
        product.provider.revoke_refresh_tokens()
        for _ in range(2):
            with pytest.raises(RefreshRejected):
                product.omnifund.renew("user 1")
        assert product.customers("user 1")
        product.clock.advance(3600)
        expired_at = int(product.clock())
        product.clock.advance(60)
        with pytest.raises(ConnectionEnded, match="expired") as ended:
            product.customers("user 1")
        assert ended.value.ended_at == expired_at

    def test_an_older_backup_is_found_out_and_marked(self, product: Product) -> None:
        """M6: its refresh token has been used since."""
        product.connect("user 1")
        old = product.omnifund.tokens.load("user 1")
        product.clock.advance(DAY)
        assert product.customers("user 1")
        restored = old.token
        product.omnifund.tokens.save("user 1", restored, seconds=None)
        with pytest.raises(ConnectionEnded, match="invalid_grant"):
            product.customers("user 1")
        with pytest.raises(ConnectionEnded, match="invalid_grant"):
            product.customers("user 1")


class TestRenewing:
    def test_now(self, product: Product) -> None:
        """M8"""
        product.connect("user 1")
        first = product.omnifund.tokens.load("user 1").token
        second = product.omnifund.renew("user 1").token
        assert second.access_token != first.access_token
        assert second == product.omnifund.tokens.load("user 1").token

    def test_of_many_over_two_processes_one_refreshes(self, product: Product) -> None:
        """E1"""
        product.connect("user 1")
        product.clock.advance(3600)
        processes = [product.omnifund, product.process()]

        def read(number: int) -> int:
            return len(processes[number % 2].api.customers("user 1").items)

        with ThreadPoolExecutor(20) as pool:
            assert all(pool.map(read, range(40)))
        assert product.provider.refreshes == 1

    def test_of_real_processes_one_refreshes(self, product: Product) -> None:
        """E1: with nothing in common but the database."""
        if product.database.url.startswith("postgresql"):
            product.database.open()
        product.connect("user 1")
        product.clock.advance(3600)
        code = f"""
import sys
sys.path.insert(0, {str(kit.__file__).rsplit("/tests/", 1)[0]!r})
from omnifund.client import OmniFund
from tests.stores.conftest import Database
omnifund = OmniFund(
    Database({product.database.url!r}, bytes).open(), base_url={product.provider.url!r},
    client_id="an id", client_secret="a secret", redirect_uri="http://localhost:8000/callback",
    secret_keys={product.keys!r}, sign_in_seconds=None, clock=lambda: {product.clock()!r},
)
print("ready", flush=True)
sys.stdin.readline()
print(len(omnifund.api.customers("user 1").items))
"""
        command = [sys.executable, "-W", "ignore", "-c", code]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running = [subprocess.Popen(command, **pipes) for _ in range(3)]
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        seen = [process.communicate(timeout=30)[0].strip() for process in running]
        assert len(set(seen)) == 1
        assert int(seen[0]) > 0
        assert product.provider.refreshes == 1

    def test_a_failure_is_remembered_by_all(self, product: Product) -> None:
        """C9, K16: OmniFund is not asked again before its pause has passed."""
        product.connect("user 1")
        product.clock.advance(3600)
        product.provider.next_token_answer(kit.json_answer({}, 503, {"Retry-After": "120"}))
        for omnifund in (product.omnifund, product.process(), product.process()):
            with pytest.raises(OmniFundUnavailable) as refused:
                omnifund.api.customers("user 1")
            assert 100 < refused.value.retry_after <= 120
        assert len(product.provider.received(TOKEN)) == 2


class TestKeepingAlive:
    def test_only_what_is_due_is_refreshed(self, product: Product) -> None:
        """M3"""
        product.connect("user 1")
        product.clock.advance(6 * DAY)
        product.connect("user 2")
        assert list(product.omnifund.keep_alive()) == []
        product.clock.advance(DAY)
        assert list(product.omnifund.keep_alive()) == [("user 1", None)]
        assert list(product.omnifund.keep_alive()) == []
        assert product.provider.refreshes == 1
        assert list(product.omnifund.keep_alive(seconds=DAY)) == [("user 2", None)]

    def test_one_that_has_ended_is_told_once_and_does_not_end_the_run(
        self, product: Product
    ) -> None:
        """M2, M3"""
        product.connect("user 1")
        product.provider.revoke_refresh_tokens()
        product.connect("user 2")
        product.clock.advance(13 * DAY)
        first, second = product.omnifund.keep_alive()
        assert first.connection_id == "user 1"
        assert isinstance(first.error, ConnectionEnded)
        assert (second.connection_id, second.error) == ("user 2", None)
        product.clock.advance(13 * DAY)
        assert list(product.omnifund.keep_alive()) == [("user 2", None)]

    def test_one_that_is_refused_while_its_access_token_works_is_told_too(
        self, product: Product
    ) -> None:
        """M3, K24"""
        product.connect("user 1")
        product.provider.revoke_refresh_tokens()
        product.clock.advance(60)
        (told,) = product.omnifund.keep_alive(seconds=60)
        assert isinstance(told.error, RefreshRejected)
        product.customers("user 1")
        assert list(product.omnifund.keep_alive(seconds=60)) == []

    def test_one_that_was_disconnected_meanwhile_is_dropped(self, product: Product) -> None:
        for owner in ("user 1", "user 2"):
            product.connect(owner)
        product.clock.advance(13 * DAY)
        run = product.omnifund.keep_alive()
        assert next(run) == ("user 1", None)
        product.omnifund.disconnect("user 2")
        assert list(run) == []
        assert product.omnifund.tokens.list_ids() == ["user 1"]

    def test_one_that_is_only_in_the_list_is_dropped(self, product: Product) -> None:
        """Half of a deletion has failed."""
        product.connect("user 1")
        product.database.open().delete("user 1", listed=False)
        product.clock.advance(13 * DAY)
        assert list(product.omnifund.keep_alive()) == []
        assert product.omnifund.tokens.list_ids() == []

    def test_one_that_connects_again_meanwhile_stays(self, product: Product) -> None:
        """Between being seen as gone and being dropped from the list."""
        for owner in ("user 1", "user 2"):
            product.connect(owner)
        product.clock.advance(13 * DAY)
        tokens = product.omnifund.tokens
        honest = tokens.load

        def load(owner: str) -> StoredToken:
            try:
                return honest(owner)
            finally:
                if owner == "user 2":
                    product.connect(owner)

        tokens.__dict__["load"] = load
        run = product.omnifund.keep_alive()
        assert next(run) == ("user 1", None)
        product.omnifund.disconnect("user 2")
        assert list(run) == []
        assert honest("user 2").token.generation == 0
        assert sorted(tokens.list_ids()) == ["user 1", "user 2"]

    def test_a_store_that_fails_at_one_that_is_gone_does_not_end_the_run(
        self, product: Product
    ) -> None:
        for owner in ("user 1", "user 2", "user 3"):
            product.connect(owner)
        product.clock.advance(13 * DAY)
        run = product.omnifund.keep_alive()
        assert next(run) == ("user 1", None)
        product.omnifund.disconnect("user 2")

        def fail(*_: object, **__: object) -> None:
            raise StoreUnavailable("the database is away")

        store = product.omnifund.tokens.store
        for name in ("delete", "unlist"):
            store.__dict__[name] = fail
        assert list(run) == [("user 3", None)]

    def test_new_tokens_are_stored_when_the_store_comes_back_in_half_a_minute(
        self, product: Product
    ) -> None:
        """E8: no merchant waits for a job, so it tries for longer than a request."""
        product.connect("user 1")
        product.clock.advance(7 * DAY)
        product.without_storing(seconds=29)
        assert list(product.omnifund.keep_alive()) == [("user 1", None)]
        assert product.omnifund.renew("user 1").token.generation == 2

    def test_new_tokens_that_cannot_be_stored_are_a_failure(self, product: Product) -> None:
        product.connect("user 1")
        product.connect("user 2")
        product.clock.advance(7 * DAY)
        product.without_storing(seconds=31)
        first, second = product.omnifund.keep_alive()
        assert (first.connection_id, second) == ("user 1", ("user 2", None))
        assert isinstance(first.error, StoreUnavailable)
        assert Event.REFRESH_UNSAVED in product.database.events

    def test_several_machines_at_once_refresh_each_once(self, product: Product) -> None:
        """M3, E1"""
        for number in range(10):
            product.connect(f"user {number}")
        product.clock.advance(13 * DAY)
        machines = [product.process() for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            runs = list(pool.map(lambda machine: list(machine.keep_alive()), machines))
        assert all(each.error is None for run in runs for each in run)
        assert product.provider.refreshes == 10

    def test_it_gives_up_while_omnifund_is_away_and_goes_on_the_next_day(
        self, product: Product
    ) -> None:
        for number in range(FAILURES_IN_A_ROW + 2):
            product.connect(f"user {number}")
        product.clock.advance(7 * DAY)
        product.provider.next_token_answer(*[kit.json_answer({}, 503)] * FAILURES_IN_A_ROW)
        run = product.omnifund.keep_alive()
        told = [next(run) for _ in range(FAILURES_IN_A_ROW)]
        with pytest.raises(OmniFundUnavailable):
            next(run)
        assert all(isinstance(each.error, OmniFundUnavailable) for each in told)
        # The next day the pauses after the failures have passed.
        store = product.database.open()
        for each in told:
            failure = store.lock(each.connection_id, b"asking", 30).holder
            store.release(each.connection_id, failure or b"")
        assert {each.error for each in product.omnifund.keep_alive()} == {None}
        assert list(product.omnifund.keep_alive()) == []

    def test_connections_that_end_by_themselves_are_not_kept_alive_silently(
        self, product: Product
    ) -> None:
        """M3: without ``sign_in_seconds=None`` each would be gone after twelve hours."""
        short = product.process(sign_in_seconds=12 * 3600)
        for act in (lambda: list(short.keep_alive()), short.reseal, short.tokens.list_ids):
            with pytest.raises(ValueError, match="sign_in_seconds=None"):
                act()


class TestKeys:
    def test_every_record_moves_to_the_newest_key(self, product: Product) -> None:
        """M15"""
        for owner in ("user 1", "user 2", "user 3"):
            product.connect(owner)
        product.provider.revoke_refresh_tokens()
        product.clock.advance(DAY)
        with pytest.raises(ConnectionEnded):
            product.customers("user 3")
        old, new = product.keys[0], secrets.token_urlsafe(48)
        rotating = product.process(secret_keys=[new, old])
        assert rotating.reseal() == Resealed(newest_key=0, older_key=3, unreadable=0)
        assert rotating.reseal() == Resealed(newest_key=3, older_key=0, unreadable=0)
        without_old = product.process(secret_keys=[new])
        assert without_old.tokens.load("user 1").token.generation == 0
        with pytest.raises(ConnectionEnded):
            without_old.tokens.load("user 3")
        assert product.process(secret_keys=[old]).reseal() == Resealed(0, 0, 3)

    def test_a_refresh_at_the_same_time_is_kept(self, product: Product) -> None:
        """M15, E6"""
        product.connect("user 1")
        stale = product.omnifund.tokens.load("user 1")
        rotating = product.process(secret_keys=["n" * 40, *product.keys])
        assert rotating.reseal().older_key == 1
        late = product.omnifund.tokens.prepare("user 1", stale.token)
        lock = product.omnifund.tokens.acquire_refresh_lock("user 1", seconds=30)
        assert not rotating.tokens.replace("user 1", stale, late, lock)

    def test_it_does_not_count_as_a_refresh(self, product: Product) -> None:
        product.connect("user 1")
        product.clock.advance(8 * DAY)
        rotating = product.process(secret_keys=["n" * 40, *product.keys])
        rotating.reseal()
        assert list(rotating.keep_alive()) == [("user 1", None)]


class TestDuringARefresh:
    """What happens while OmniFund's response to a refresh is on its way."""

    def test_disconnecting_is_final(self, product: Product) -> None:
        product.connect("user 1")
        product.clock.advance(DAY)
        product.during_a_refresh(lambda: product.omnifund.disconnect("user 1"))
        with pytest.raises(ConnectionNotFound):
            product.customers("user 1")
        assert product.provider.refreshes == 1
        with pytest.raises(ConnectionNotFound):
            product.customers("user 1")
        assert product.omnifund.tokens.list_ids() == []

    def test_disconnecting_is_final_when_omnifund_refuses_too(self, product: Product) -> None:
        product.connect("user 1")
        product.clock.advance(DAY)
        product.provider.revoke_refresh_tokens()
        product.during_a_refresh(lambda: product.omnifund.disconnect("user 1"))
        with pytest.raises(ConnectionNotFound):
            product.customers("user 1")
        assert product.omnifund.tokens.list_ids() == []

    def test_connecting_again_wins(self, product: Product) -> None:
        product.connect("user 1")
        product.clock.advance(DAY)
        product.during_a_refresh(lambda: product.connect("user 1"))
        product.customers("user 1")
        assert product.omnifund.tokens.load("user 1").token.generation == 0
        product.clock.advance(8 * DAY)
        assert list(product.omnifund.keep_alive()) == [("user 1", None)]

    def test_connecting_again_wins_when_omnifund_refuses_and_is_kept_alive(
        self, product: Product
    ) -> None:
        product.connect("user 1")
        product.clock.advance(DAY)
        product.provider.revoke_refresh_tokens()
        product.during_a_refresh(lambda: product.connect("user 1"))
        assert product.customers("user 1")
        product.clock.advance(8 * DAY)
        assert list(product.omnifund.keep_alive()) == [("user 1", None)]

    def test_another_key_takes_nothing_away(self, product: Product) -> None:
        """M15: OmniFund has forgotten the old refresh token by then."""
        product.connect("user 1")
        product.clock.advance(DAY)
        rotating = product.process(secret_keys=["n" * 40, *product.keys])
        told = list[Resealed]()
        product.during_a_refresh(lambda: told.append(rotating.reseal()))
        fresh = product.omnifund.renew("user 1").token
        assert told == [Resealed(newest_key=0, older_key=1, unreadable=0)]
        assert rotating.tokens.load("user 1").token == fresh
        assert rotating.reseal() == Resealed(newest_key=0, older_key=1, unreadable=0)
        assert rotating.reseal() == Resealed(newest_key=1, older_key=0, unreadable=0)
        assert rotating.renew("user 1").token.generation == 2

    def test_another_key_is_no_refresh(self, product: Product) -> None:
        """M15, M8: a record is encrypted again after a request has read it."""
        product.connect("user 1")
        stored = product.omnifund.tokens.load("user 1")
        rotating = product.process(secret_keys=["n" * 40, *product.keys])
        assert rotating.reseal().older_key == 1
        product.provider.revoke_access_tokens()
        assert len(rotating.api.customers("user 1", stored=stored).items) > 0
        assert product.provider.refreshes == 1
        rejected = rotating.tokens.load("user 1")
        assert rejected.token.generation == 1

    def test_another_key_is_no_refresh_for_keep_alive(
        self, product: Product, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """M15, M3"""
        for user in ("user 1", "user 2"):
            product.connect(user)
        product.clock.advance(8 * DAY)
        rotating = product.process(secret_keys=["n" * 40, *product.keys])
        load = rotating.tokens.load

        def load_before_another_process_reseals(connection_id: str) -> StoredToken:
            stored = load(connection_id)
            rotating.reseal()
            return stored

        monkeypatch.setattr(rotating.tokens, "load", load_before_another_process_reseals)
        assert list(rotating.keep_alive()) == [("user 1", None), ("user 2", None)]
        assert product.provider.refreshes == 2


def test_the_database_contains_no_secret(product: Product) -> None:
    """M4, D1: whoever reads all of it learns no token."""
    product.connect("user 1")
    product.clock.advance(DAY)
    tokens = [product.omnifund.tokens.load("user 1").token]
    tokens.append(product.omnifund.renew("user 1").token)
    dump = product.database.dump()
    assert len(dump) > 100
    for token in tokens:
        for secret in (token.access_token, token.refresh_token):
            assert secret is not None
            assert secret.encode() not in dump
            assert secret.encode().hex().encode() not in dump
    assert product.keys[0].encode() not in dump
