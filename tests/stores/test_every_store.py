"""M4: one test suite for every ``TokenStore``: what one guarantees, all do."""

from __future__ import annotations

import math
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from omnifund.redis_client import OPTIONS
from omnifund.token_store import NEVER, RedisTokenStore, Swap, TokenStore
from tests.support.processes import wait_until
from tests.support.servers import REPOSITORY
from tests.support.valkey import ValkeyServer

OLD, NEW, OTHER = b"\x00old\xff", b"\x00new\xff", b"\x00other\xff"


def save(
    store: TokenStore,
    connection_id: str = "user 1",
    record: bytes = OLD,
    *,
    refreshed_at: int | None = None,
    seconds: int | None = None,
    completes: dict[str, bytes] | None = None,
    swap: Swap | None = None,
    also: Sequence[Any] = (),
) -> bytes | None:
    return store.save(
        connection_id,
        record,
        refreshed_at=refreshed_at,
        seconds=seconds,
        completes=completes or {},
        swap=swap,
        also=also,
    )


def replace(
    store: TokenStore, old: bytes, new: bytes, refreshed_at: int | None = None, lock: bytes = b""
) -> bool:
    return store.replace("user 1", old, new, refreshed_at=refreshed_at, lock=lock)


class TestRecords:
    """M4"""

    def test_what_was_saved_is_loaded_byte_for_byte(self, store: TokenStore) -> None:
        every_byte = bytes(range(256)) * 40
        assert store.load("user 1") is None
        save(store, record=every_byte)
        assert store.load("user 1") == every_byte
        assert store.load("user 2") is None
        assert store.load("USER 1") is None

    def test_saving_again_replaces(self, store: TokenStore) -> None:
        save(store, record=OLD)
        save(store, record=NEW)
        assert store.load("user 1") == NEW

    @pytest.mark.parametrize("owner", ["ü", "a b", "x" * 255, "{}*?[", "'; --", "💳", "1\n2"])
    def test_any_owner_has_a_connection_of_its_own(self, store: TokenStore, owner: str) -> None:
        save(store, owner, NEW, refreshed_at=1)
        save(store, owner[:-1] + "_", OLD, refreshed_at=1)
        assert store.load(owner) == NEW
        assert owner in store.list_ids()
        assert store.delete(owner, listed=True)
        assert store.load(owner) is None
        assert store.list_ids() == [owner[:-1] + "_"]

    def test_a_record_ends_after_its_seconds(self, store: TokenStore) -> None:
        save(store, seconds=1)
        assert store.load("user 1") == OLD
        wait_until(lambda: store.load("user 1") is None)
        # Its place is free for a new one, which does not end with it.
        save(store, record=NEW, seconds=None)
        assert store.load("user 1") == NEW

    def test_deleting_is_final_and_may_be_repeated(self, store: TokenStore) -> None:
        save(store)
        assert store.delete("user 1", listed=False)
        assert store.load("user 1") is None
        assert not store.delete("user 1", listed=False)
        assert not replace(store, OLD, NEW)
        assert store.load("user 1") is None

    def test_only_what_was_seen_is_deleted(self, store: TokenStore) -> None:
        save(store, record=NEW)
        assert not store.delete("user 1", OLD, listed=False)
        assert store.load("user 1") == NEW
        assert store.delete("user 1", NEW, listed=False)
        assert store.load("user 1") is None


class TestReplacing:
    def test_only_what_was_seen_is_replaced(self, store: TokenStore) -> None:
        save(store, record=OTHER)
        assert not replace(store, OLD, NEW)
        assert store.load("user 1") == OTHER
        assert replace(store, OTHER, NEW)
        assert store.load("user 1") == NEW

    def test_nothing_is_replaced_where_nothing_is(self, store: TokenStore) -> None:
        assert not replace(store, OLD, NEW)
        assert store.load("user 1") is None

    def test_the_same_again_is_a_success(self, store: TokenStore) -> None:
        """C12: the response to the first one may have been lost."""
        save(store)
        assert replace(store, OLD, NEW)
        assert replace(store, OLD, NEW)
        assert store.load("user 1") == NEW

    def test_of_twenty_at_once_one_succeeds(self, store: TokenStore) -> None:
        save(store)
        candidates = [secrets.token_bytes(40) for _ in range(20)]
        with ThreadPoolExecutor(20) as pool:
            results = list(pool.map(lambda new: replace(store, OLD, new), candidates))
        assert results.count(True) == 1
        assert store.load("user 1") == candidates[results.index(True)]

    def test_it_keeps_the_end(self, store: TokenStore) -> None:
        save(store, seconds=1)
        assert replace(store, OLD, NEW)
        assert store.load("user 1") == NEW
        wait_until(lambda: store.load("user 1") is None)

    def test_it_releases_its_own_lock_and_no_other(self, store: TokenStore) -> None:
        save(store)
        store.lock("user 1", b"mine", 30)
        assert replace(store, OLD, NEW, lock=b"another's")
        assert store.lock("user 1", b"next", 30).holder == b"mine"
        assert replace(store, NEW, OLD, lock=b"mine")
        assert store.lock("user 1", b"next", 30).holder == b"next"


class TestList:
    def test_the_longest_without_a_refresh_come_first(self, store: TokenStore) -> None:
        for owner, moment in (("b", 300), ("c", 100), ("a", 200)):
            save(store, owner, refreshed_at=moment)
        assert store.list_ids() == ["c", "a", "b"]
        assert store.list_ids(200) == ["c", "a"]
        assert store.list_ids(99) == []

    def test_a_refresh_moves_a_connection_to_the_end(self, store: TokenStore) -> None:
        save(store, "user 1", refreshed_at=100)
        save(store, "user 2", refreshed_at=200)
        assert replace(store, OLD, NEW, refreshed_at=300)
        assert store.list_ids() == ["user 2", "user 1"]
        assert store.list_ids(200) == ["user 2"]

    def test_what_ends_by_itself_is_not_listed(self, store: TokenStore) -> None:
        save(store, seconds=100)
        assert store.list_ids() == []
        assert replace(store, OLD, NEW)
        assert store.list_ids() == []

    def test_what_cannot_be_refreshed_is_listed_but_never_due(self, store: TokenStore) -> None:
        save(store, refreshed_at=NEVER)
        assert store.list_ids() == ["user 1"]
        assert store.list_ids(4_000_000_000) == []

    def test_replacing_without_a_moment_keeps_its_place(self, store: TokenStore) -> None:
        save(store, refreshed_at=100)
        assert replace(store, OLD, NEW)
        assert store.list_ids(100) == ["user 1"]

    def test_a_late_refresh_brings_nothing_back_into_the_list(self, store: TokenStore) -> None:
        """E6"""
        save(store, refreshed_at=100)
        store.delete("user 1", listed=True)
        assert not replace(store, OLD, NEW, refreshed_at=200)
        assert store.list_ids() == []

    def test_what_was_saved_again_meanwhile_stays(self, store: TokenStore) -> None:
        save(store, refreshed_at=300)
        store.unlist("user 1", 200)
        assert store.list_ids() == ["user 1"]
        store.delete("user 1", listed=True)
        store.unlist("user 1", 300)
        assert store.list_ids() == []


class TestLock:
    def test_one_of_twenty_acquires_it_and_all_see_who(self, store: TokenStore) -> None:
        save(store)
        holders = [secrets.token_bytes(16) for _ in range(20)]
        with ThreadPoolExecutor(20) as pool:
            states = list(pool.map(lambda mine: store.lock("user 1", mine, 30), holders))
        assert len({state.holder for state in states}) == 1
        assert states[0].holder in holders
        assert {state.record for state in states} == {OLD}
        assert all(0 < state.seconds <= 30 for state in states)

    def test_asking_again_with_the_same_name_is_a_success(self, store: TokenStore) -> None:
        assert store.lock("user 1", b"mine", 30).holder == b"mine"
        assert store.lock("user 1", b"mine", 30).holder == b"mine"

    def test_only_its_holder_releases_it(self, store: TokenStore) -> None:
        store.lock("user 1", b"mine", 30)
        store.release("user 1", b"another's")
        assert store.lock("user 1", b"next", 30).holder == b"mine"
        store.release("user 1", b"mine")
        assert store.lock("user 1", b"next", 30).holder == b"next"

    def test_it_can_be_left_to_a_value_for_some_time(self, store: TokenStore) -> None:
        store.lock("user 1", b"mine", 30)
        store.release("user 1", b"mine", b"failed", 90)
        state = store.lock("user 1", b"next", 30)
        assert state.holder == b"failed"
        assert 80 < state.seconds <= 90

    def test_it_ends_by_itself(self, store: TokenStore) -> None:
        """E4: the process that held it has died."""
        store.lock("user 1", b"dead", 0.2)
        wait_until(lambda: store.lock("user 1", b"next", 30).holder == b"next")

    def test_each_connection_has_its_own(self, store: TokenStore) -> None:
        assert store.lock("user 1", b"mine", 30).holder == b"mine"
        assert store.lock("user 2", b"next", 30).holder == b"next"


class TestClaims:
    def test_of_twenty_at_once_one_gets_all_names(self, store: TokenStore) -> None:
        """B3"""
        values = [secrets.token_bytes(8) for _ in range(20)]
        with ThreadPoolExecutor(20) as pool:
            found = list(pool.map(lambda v: store.claim("a", "b", value=v, seconds=60), values))
        assert all(holders == found[0] for holders in found)
        assert found[0][0] == found[0][1]
        assert found[0][0] in values

    def test_each_name_has_its_own_holder(self, store: TokenStore) -> None:
        assert store.claim("a", value=b"1", seconds=60) == [b"1"]
        assert store.claim("b", "a", value=b"2", seconds=60) == [b"2", b"1"]

    def test_it_is_read_with_what_is_left_of_its_time(self, store: TokenStore) -> None:
        assert store.read_claim("a")[0] is None
        store.claim("a", value=b"1", seconds=60)
        holder, seconds = store.read_claim("a")
        assert holder == b"1"
        assert 50 < seconds <= 60

    def test_it_ends(self, store: TokenStore) -> None:
        store.claim("a", value=b"1", seconds=1)
        wait_until(lambda: store.claim("a", value=b"2", seconds=60) == [b"2"])

    def test_a_value_is_set_only_while_it_is_held(self, store: TokenStore) -> None:
        store.update_claim("a", b"late")
        assert store.read_claim("a")[0] is None
        store.claim("a", value=b"1", seconds=60)
        store.update_claim("a", b"done")
        holder, seconds = store.read_claim("a")
        assert holder == b"done"
        assert 50 < seconds <= 60

    def test_saving_completes_claims_that_are_held(self, store: TokenStore) -> None:
        store.claim("a", value=b"1", seconds=60)
        save(store, completes={"a": b"done", "b": b"never claimed"})
        assert store.read_claim("a")[0] == b"done"
        assert store.read_claim("b")[0] is None

    def test_a_swap_returns_what_was_there(self, store: TokenStore) -> None:
        """K9"""
        assert save(store, swap=Swap("browser", b"1", 60)) is None
        assert save(store, swap=Swap("browser", b"2", 60)) == b"1"
        assert save(store, swap=Swap("browser", b"3", 60)) == b"2"
        assert save(store) is None

    def test_swaps_at_once_form_a_chain(self, store: TokenStore) -> None:
        """K9: none is lost, and none is returned twice."""
        values = [str(number).encode() for number in range(20)]
        with ThreadPoolExecutor(20) as pool:
            swaps = (Swap("browser", value, 60) for value in values)
            found = list(pool.map(lambda swap: save(store, swap=swap), swaps))
        last, _ = store.read_claim("browser")
        assert Counter([*found, last]) == Counter([None, *values])

    def test_the_time_that_is_left_is_never_infinite(self, store: TokenStore) -> None:
        store.claim("a", value=b"1", seconds=60)
        assert math.isfinite(store.read_claim("a")[1])
        assert math.isfinite(store.lock("user 1", b"mine", 30).seconds)


def test_the_documented_rights_in_redis_are_enough_for_connections(valkey: ValkeyServer) -> None:
    """M4: every method, also those that only connections without an end need."""
    text = (REPOSITORY / "docs" / "connect-your-users.md").read_text()
    (line,) = [line for line in text.splitlines() if "`ACL SETUSER`" in line]
    rights = [f"+{command}" for command in re.findall("`([A-Z]+)`", line)]
    with valkey.client() as client:
        user = ("SETUSER", "connections", "reset", "on", ">pw", "~omnifund:*", *rights)
        client.execute_command("ACL", *user)
        client.execute_command("ACL", "LOG", "RESET")
        url = f"redis://connections:pw@127.0.0.1:{valkey.port}"
        _every_method(RedisTokenStore(redis.Redis.from_url(url, **OPTIONS)))
        denied = {entry["object"] for entry in client.acl_log()}
    assert denied <= {"client|setinfo"}  # redis-py says what it is, and goes on without


def _every_method(store: TokenStore) -> None:
    assert store.claim("omnifund:code:1", value=OLD, seconds=9) == [OLD]
    swap = Swap("omnifund:browser:1", NEW, 9)
    save(store, refreshed_at=1, seconds=9, completes={"omnifund:code:1": NEW}, swap=swap)
    assert store.read_claim("omnifund:code:1")[0] == NEW
    store.update_claim("omnifund:code:1", OTHER)
    assert store.load("user 1") == OLD
    assert store.lock("user 1", b"mine", 9).holder == b"mine"
    store.release("user 1", b"mine", b"failed", 9)
    assert store.lock("user 1", b"mine", 9).holder == b"failed"
    assert replace(store, OLD, NEW, refreshed_at=NEVER, lock=b"failed")
    assert store.list_ids() == ["user 1"]
    assert store.delete("user 1", NEW, listed=False)
    store.unlist("user 1", NEVER)
    assert store.list_ids() == []
    save(store, refreshed_at=1)
    assert store.delete("user 1", listed=True)


def test_a_list_of_another_type_is_begun_again(redis_url: str) -> None:
    """K30: no sign-in is lost, no refresh and no disconnecting fails, and later runs find it."""
    store = RedisTokenStore(redis.Redis.from_url(redis_url, **OPTIONS))
    save(store, refreshed_at=1)
    store.execute(("SET", "omnifund:connections", "x"))
    assert store.list_ids() == []
    assert replace(store, OLD, NEW, refreshed_at=2)
    assert store.delete("user 1", listed=True)
    for swap in (None, Swap("omnifund:browser:1", NEW, 9)):
        store.execute(("SET", "omnifund:connections", "x"))
        save(store, "user 2", refreshed_at=3, swap=swap)
        assert store.list_ids() == ["user 2"]


def test_what_is_no_id_in_the_list_of_redis_ends_no_run(redis_url: str) -> None:
    """K30: whoever writes to Redis does not end `keep_alive` and `reseal` with a traceback."""
    store = RedisTokenStore(redis.Redis.from_url(redis_url, **OPTIONS))
    store.execute(("ZADD", "omnifund:connections", 1, b"\xff", 2, "user 1"))
    unreadable, listed = store.list_ids()
    assert (store.load(unreadable), listed) == (None, "user 1")
