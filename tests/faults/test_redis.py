"""RedisStore against a real Valkey that refuses, stalls, breaks, and moves."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from omnifund.errors import StoreUnavailable
from omnifund.events import Event
from omnifund.redis_client import Command, RedisStore
from redis_url import connect
from tests.faults.certificates import Certificates
from tests.faults.network import TcpProxy
from tests.support.processes import wait_until
from tests.support.topologies import SERVICE, cluster, sentinel_set
from tests.support.valkey import ValkeyServer
from web import health


def failure(store: RedisStore, *commands: Command) -> str:
    """Return what the exception says."""
    with pytest.raises(StoreUnavailable) as caught:
        store.execute(*commands)
    return str(caught.value)


def seconds_to_fail(store: RedisStore, *commands: Command) -> float:
    started = time.monotonic()
    failure(store, *commands)
    return time.monotonic() - started


def pause_writes(client: Any) -> None:
    """Have Redis respond to no write until it is told ``CLIENT UNPAUSE``, which is none."""
    client.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")


@contextlib.contextmanager
def password_server(*options: str) -> Iterator[ValkeyServer]:
    with ValkeyServer(options=("--requirepass", "s3cr:et/@", *options)) as server:
        yield server


# --- one round trip ------------------------------------------------------------------------------


def test_several_commands_are_one_round_trip(redis_url: str) -> None:
    store = RedisStore(connect(redis_url))
    store.execute(("PING",))
    with redis.Redis.from_url(redis_url) as client:
        before = client.info("stats")["total_reads_processed"]
        assert store.execute(("SET", "a", "1"), ("GET", "a"), ("GET", "b")) == [True, b"1", None]
        # One read for the three commands, one for this second INFO.
        assert client.info("stats")["total_reads_processed"] == before + 2


def test_each_round_trip_is_timed(redis_url: str) -> None:
    times: list[float] = []
    store = RedisStore(connect(redis_url), time_round_trip=times.append)
    store.execute(("PING",), ("PING",))
    failure(store, ("NO-SUCH-COMMAND",))
    assert len(times) == 2
    assert all(0 < seconds < 5 for seconds in times)


def test_an_error_among_several_results_is_raised_and_confuses_no_later_one(redis_url: str) -> None:
    events: list[tuple[Event, dict[str, Any]]] = []
    store = RedisStore(connect(redis_url), lambda event, **facts: events.append((event, facts)))
    store.execute(("SET", "word", "not a number"))
    assert failure(store, ("SET", "a", "1"), ("INCR", "word"), ("SET", "b", "2")) == (
        "Redis rejected a command"
    )
    assert events == [(Event.STORE_FAILED, {"reason": "ResponseError"})]
    with redis.Redis.from_url(redis_url) as client:
        connections = client.info("stats")["total_connections_received"]
        assert store.execute(("GET", "a"), ("GET", "b")) == [b"1", b"2"]
        assert client.info("stats")["total_connections_received"] == connections
    unstorable: Any = ("SET", "a", None)
    assert failure(store, unstorable) == "a command has a value that Redis cannot store"


def test_a_key_of_another_type_counts_as_absent_and_is_reported(redis_url: str) -> None:
    """K30"""
    events: list[Event] = []
    store = RedisStore(connect(redis_url), lambda event, **_facts: events.append(event))
    store.execute(("RPUSH", "list", "x"), ("SET", "text", "y"))
    assert store.execute(
        ("GET", "list"), ("GETEX", "list", "EX", 9), ("LRANGE", "text", 0, -1), ("GET", "text")
    ) == [None, None, [], b"y"]
    assert events == [Event.RECORD_UNREADABLE] * 3
    # A command that should have changed something has failed.
    assert failure(store, ("INCR", "list")) == "Redis rejected a command"
    # The key can still be replaced and deleted.
    assert store.execute(("SET", "list", "z"), ("GET", "list"), ("DEL", "list")) == [True, b"z", 1]


@pytest.mark.parametrize("topology", ["stand-alone", "sentinel"])
def test_an_interrupted_request_leaves_no_response_to_the_next_one(
    topology: str, tmp_path: Path
) -> None:
    """D6: the response to a request that was interrupted is not taken for the next one's."""

    class Interrupted(BaseException):
        pass

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    with contextlib.ExitStack() as stack:
        if topology == "sentinel":
            sentinels = stack.enter_context(sentinel_set(tmp_path))
            url, port = sentinels.url, sentinels.master_port()
        else:
            server = stack.enter_context(ValkeyServer())
            url, port = server.url, server.port
        store = RedisStore(connect(f"{url}?socket_timeout=30"))
        store.execute(("SET", "mine", "1"), ("SET", "yours", "2"))
        before = signal.signal(signal.SIGUSR1, interrupt)
        with redis.Redis(port=port) as other, ThreadPoolExecutor(1) as pool:

            def interrupt_what_waits() -> None:
                wait_until(
                    lambda: any("b" in client["flags"] for client in other.client_list()),
                    what="the command to be held up",
                )
                os.kill(os.getpid(), signal.SIGUSR1)

            pause_writes(other)
            try:
                interrupted = pool.submit(interrupt_what_waits)
                with pytest.raises(Interrupted):
                    store.execute(("SET", "mine", "3"))
                interrupted.result()
                # Before its response has come: a connection with bytes to read is given up anyway.
                assert store.execute(("GET", "yours")) == [b"2"]
            finally:
                signal.signal(signal.SIGUSR1, before)
                other.execute_command("CLIENT", "UNPAUSE")
        assert store.execute(("GET", "yours")) == [b"2"]


# --- broken connections --------------------------------------------------------------------------


def test_a_restarted_redis_is_not_noticed() -> None:
    """F6: also with several idle connections to the old process."""
    with ValkeyServer() as server, ThreadPoolExecutor(8) as pool:
        store = RedisStore(connect(server.url))
        barrier = threading.Barrier(8)

        def ping(_number: int) -> object:
            barrier.wait()
            return store.execute(("PING",))

        list(pool.map(ping, range(8)))
        for end in (server.stop, server.kill):
            end()
            server.start()
            assert list(pool.map(ping, range(8))) == [[True]] * 8


def test_a_connection_that_breaks_during_a_request_is_replaced_once(valkey: ValkeyServer) -> None:
    """F6"""
    with TcpProxy(valkey.port) as network, ThreadPoolExecutor(1) as pool:
        store = RedisStore(connect(f"redis://127.0.0.1:{network.port}?socket_timeout=10"))
        store.execute(("SET", "k", "v"))
        taken = network.taken
        network.freeze()
        result = pool.submit(store.execute, ("GET", "k"))
        wait_until(lambda: network.taken > taken, what="the command to be sent")
        network.reset()
        network.thaw()
        assert result.result() == [b"v"]
        assert network.connections == 2


def test_a_host_name_that_has_moved_to_the_new_primary_is_followed() -> None:
    """K26: the connections to the old primary, now a replica, are dropped."""
    with ValkeyServer() as old, ValkeyServer() as new, TcpProxy(old.port) as name:
        store = RedisStore(connect(f"redis://127.0.0.1:{name.port}"))
        store.execute(("SET", "k", "old"))
        with old.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", new.port)
        name.point_to(new.port)
        assert store.execute(("SET", "k", "new"), ("GET", "k")) == [True, b"new"]
        with new.client() as client:
            assert client.get("k") == b"new"


def test_a_replica_that_stays_one_is_named() -> None:
    """K26"""
    with ValkeyServer() as primary, ValkeyServer() as replica:
        store = RedisStore(connect(replica.url))
        store.execute(("PING",))
        with replica.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        assert failure(store, ("SET", "k", "v")) == "Redis is a read-only replica"


def test_a_hundred_threads_far_from_redis_get_a_connection_each(valkey: ValkeyServer) -> None:
    """K29"""
    with TcpProxy(valkey.port) as network, ThreadPoolExecutor(100) as pool:
        network.delay(0.3)
        # On a busy machine a hundred threads may take longer than the usual timeout allows.
        store = RedisStore(connect(f"redis://127.0.0.1:{network.port}?socket_timeout=10"))
        barrier = threading.Barrier(100)

        def visit(number: int) -> bool:
            barrier.wait()
            return store.execute(("SET", f"k{number}", number), ("GET", f"k{number}")) == [
                True,
                str(number).encode(),
            ]

        assert all(pool.map(visit, range(200)))


# --- silence -------------------------------------------------------------------------------------


def test_a_silent_redis_holds_up_one_wave_of_requests_and_no_other() -> None:
    """F5: many more requests than threads, and none waits in a queue for two seconds."""
    with ValkeyServer() as server, ThreadPoolExecutor(8) as pool:
        store = RedisStore(connect(server.url))
        store.execute(("SET", "k", "v"))
        server.pause()
        started = time.monotonic()
        waits = list(pool.map(lambda _n: seconds_to_fail(store, ("GET", "k")), range(200)))
        assert time.monotonic() - started < 2
        assert sum(wait > 0.4 for wait in waits) <= 10
        server.resume()
        assert store.execute(("GET", "k")) == [b"v"]


@pytest.mark.parametrize("options", ["", "?socket_timeout=0.2"])
def test_one_request_at_a_time_tries_a_silent_redis(options: str) -> None:
    """F5: the others fail immediately."""
    with ValkeyServer() as server, TcpProxy(server.port) as network, ThreadPoolExecutor(1) as pool:
        redis_client: Any = connect(f"redis://127.0.0.1:{network.port}{options}")
        store = RedisStore(redis_client)
        with server.client() as client:
            client.set("k", "v")
        network.freeze()
        assert failure(store, ("GET", "k")) == "Redis did not respond in time"
        network.thaw()
        # What succeeds may take longer than that on a busy machine.
        longer = {"socket_timeout": 30, "socket_connect_timeout": 30}
        redis_client.connection_pool.connection_kwargs.update(longer)
        is_trying, goes_on, send = threading.Event(), threading.Event(), store._send

        def try_until_the_test_says_so(commands: tuple[Command, ...]) -> list[Any]:
            is_trying.set()
            goes_on.wait()
            return send(commands)

        # Redis itself would have to be silent for exactly as long as the test needs.
        store.__dict__["_send"] = try_until_the_test_says_so
        probe = pool.submit(store.execute, ("GET", "k"))
        assert is_trying.wait(30)
        del store.__dict__["_send"]
        try:
            assert failure(store, ("GET", "k")) == "Redis is not responding"
        finally:
            goes_on.set()
        assert probe.result() == [b"v"]
        assert store.execute(("GET", "k")) == [b"v"]


def test_connections_that_a_firewall_has_forgotten_cost_one_request(valkey: ValkeyServer) -> None:
    """F5, F6: packets of idle connections vanish; new connections work."""
    with TcpProxy(valkey.port) as network, ThreadPoolExecutor(8) as pool:
        store = RedisStore(connect(f"redis://127.0.0.1:{network.port}"))
        barrier = threading.Barrier(8)

        def ping(_number: int) -> object:
            barrier.wait()
            return store.execute(("PING",))

        list(pool.map(ping, range(8)))
        network.forget()
        assert failure(store, ("PING",)) == "Redis did not respond in time"
        assert store.execute(("PING",)) == [True]


def test_a_late_response_is_not_the_next_ones(redis_url: str) -> None:
    """D6"""
    store = RedisStore(connect(redis_url))
    store.execute(("SET", "mine", "1"), ("SET", "yours", "2"))
    with redis.Redis.from_url(redis_url) as client:
        pause_writes(client)
        assert failure(store, ("SET", "mine", "3")) == "Redis did not respond in time"
        assert store.execute(("GET", "yours")) == [b"2"]
        client.execute_command("CLIENT", "UNPAUSE")
    assert store.execute(("GET", "yours")) == [b"2"]


def test_a_redis_that_refuses_connections_is_tried_each_time() -> None:
    """F5, F6"""
    with ValkeyServer() as server:
        store = RedisStore(connect(server.url))
        store.execute(("PING",))
        server.stop()
        assert seconds_to_fail(store, ("PING",)) < 0.5
        server.start()
        assert store.execute(("PING",)) == [True]


# --- passwords, rights, memory -------------------------------------------------------------------


def test_a_password_in_the_url_is_used() -> None:
    with password_server() as server:
        url = f"redis://:s3cr%3Aet%2F%40@127.0.0.1:{server.port}/0"
        assert RedisStore(connect(url)).execute(("PING",))


@pytest.mark.parametrize("user", ["", ":wrong@", "nobody:s3cr%3Aet%2F%40@"])
def test_a_refused_password_is_named(user: str) -> None:
    """P9: and is not sent a second time."""
    with password_server() as server:
        store = RedisStore(connect(f"redis://{user}127.0.0.1:{server.port}"))
        assert failure(store, ("PING",)) == "Redis refused the username or the password"
        with redis.Redis(port=server.port, password="s3cr:et/@") as client:
            assert client.info("stats")["total_connections_received"] <= 4


def test_a_password_for_a_redis_without_one_is_named(valkey: ValkeyServer) -> None:
    """P9"""
    store = RedisStore(connect(f"redis://:unexpected@127.0.0.1:{valkey.port}"))
    assert failure(store, ("PING",)) == "Redis refused the username or the password"


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        ("+@all", []),
        ("+@all -info -config -client -ping", []),
        ("+@all -getex", ["GETEX"]),
        ("+@all -@scripting", ["EVAL"]),
        ("+@all -set -del", ["DEL", "SET"]),
        ("+@all -@keyspace", ["DEL", "EXPIRE", "PTTL", "TTL"]),
        ("+@read", ["DEL", "EVAL", "EXPIRE", "GETEX", "INCRBY", "SET"]),
    ],
)
def test_a_missing_right_is_named(valkey: ValkeyServer, rules: str, missing: list[str]) -> None:
    """K27"""
    with valkey.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "app", "reset", "on", ">pw", "~omnifund:*", *rules.split()
        )
    store = RedisStore(connect(f"redis://app:pw@127.0.0.1:{valkey.port}"))
    assert health.missing_rights(store) == missing
    if "GETEX" in missing:
        assert failure(store, ("GETEX", "omnifund:k", "EX", 9)) == (
            "Redis does not permit a command that the app needs"
        )
    with valkey.client() as client:
        left = client.keys("omnifund:rights*")
        assert all(client.ttl(key) > 0 for key in left)
        assert left == [] or "DEL" in missing


def test_keys_that_may_not_be_used_are_missing_rights(valkey: ValkeyServer) -> None:
    """K27"""
    with valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "reset", "on", ">pw", "~shop:*", "+@all")
    store = RedisStore(connect(f"redis://app:pw@127.0.0.1:{valkey.port}"))
    assert {"SET", "GET", "GETEX"} <= set(health.missing_rights(store))


def test_a_full_redis_is_named_and_still_read() -> None:
    with ValkeyServer(options=("--maxmemory-policy", "noeviction")) as server:
        store = RedisStore(connect(server.url))
        store.execute(("SET", "k", "v"))
        with server.client() as client:
            client.config_set("maxmemory", 1)
        assert failure(store, ("SET", "other", "v")) == "Redis is full"
        assert store.execute(("GET", "k")) == [b"v"]
        with pytest.raises(StoreUnavailable, match="full"):
            health.missing_rights(store)


# --- TLS, Sentinel, Cluster ----------------------------------------------------------------------


def test_tls_to_redis_is_checked(tmp_path: Path, valkey: ValkeyServer) -> None:
    certificates = Certificates.make(tmp_path)
    with TcpProxy(valkey.port, tls=certificates.good) as secure:
        trusting = f"rediss://localhost:{secure.port}?ssl_ca_certs={certificates.bundle}"
        assert RedisStore(connect(trusting)).execute(("PING",))
        careless = f"rediss://localhost:{secure.port}?ssl_cert_reqs=none"
        assert RedisStore(connect(careless)).execute(("PING",))
        failure(RedisStore(connect(f"rediss://localhost:{secure.port}")), ("PING",))
    with TcpProxy(valkey.port, tls=certificates.foreign) as other:
        url = f"rediss://localhost:{other.port}?ssl_ca_certs={certificates.bundle}"
        failure(RedisStore(connect(url)), ("PING",))


def test_an_encrypted_key_file_is_refused_without_a_prompt(
    tmp_path: Path, valkey: ValkeyServer
) -> None:
    """K38"""
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"a password"),
    )
    certificates = Certificates.make(tmp_path)
    (tmp_path / "key.pem").write_bytes(key)
    query = f"ssl_certfile={certificates.bundle}&ssl_keyfile={tmp_path / 'key.pem'}"
    with TcpProxy(valkey.port, tls=certificates.good) as secure:
        store = RedisStore(connect(f"rediss://localhost:{secure.port}?{query}"))
        assert failure(store, ("PING",)) == "Redis is unreachable"


@contextlib.contextmanager
def sentinel_with_password(folder: Path, master_port: int) -> Iterator[ValkeyServer]:
    """One Sentinel with a password of its own, for a Redis with another."""
    configuration = folder / "sentinel.conf"
    configuration.write_text(
        f"sentinel monitor {SERVICE} 127.0.0.1 {master_port} 1\n"
        f"sentinel auth-pass {SERVICE} s3cr:et/@\n"
        "requirepass guarded\n"
    )
    with ValkeyServer(configuration=configuration, sentinel=True) as sentinel:
        yield sentinel


def test_sentinel_and_redis_each_have_their_password(tmp_path: Path) -> None:
    """K28"""
    with password_server() as server, sentinel_with_password(tmp_path, server.port) as sentinel:
        place = f"127.0.0.1:{sentinel.port}/{SERVICE}"
        both = f"redis+sentinel://:s3cr%3Aet%2F%40@{place}?sentinel_password=guarded"
        assert RedisStore(connect(both)).execute(("SET", "k", "v"), ("GET", "k")) == [True, b"v"]
        without = f"redis+sentinel://{place}?sentinel_password=guarded"
        assert "refused the username" in failure(RedisStore(connect(without)), ("PING",))
        for query in ("", "?sentinel_password=wrong"):
            url = f"redis+sentinel://:s3cr%3Aet%2F%40@{place}{query}"
            assert "Sentinel named no primary" in failure(RedisStore(connect(url)), ("PING",))


def test_sentinel_and_redis_over_tls(tmp_path: Path) -> None:
    """K28"""
    certificates = Certificates.make(tmp_path)
    with (
        password_server() as server,
        TcpProxy(server.port, tls=certificates.good, also_plain=True) as secure_server,
        sentinel_with_password(tmp_path, secure_server.port) as sentinel,
        TcpProxy(sentinel.port, tls=certificates.good) as secure_sentinel,
    ):
        place = f"127.0.0.1:{secure_sentinel.port}/{SERVICE}"
        query = f"sentinel_password=guarded&ssl_ca_certs={certificates.bundle}"
        store = RedisStore(connect(f"rediss+sentinel://:s3cr%3Aet%2F%40@{place}?{query}"))
        assert store.execute(("SET", "k", "v"), ("GET", "k")) == [True, b"v"]
        untrusting = f"rediss+sentinel://:s3cr%3Aet%2F%40@{place}?sentinel_password=guarded"
        failure(RedisStore(connect(untrusting)), ("PING",))


def test_silent_sentinels_cost_less_than_two_seconds(tmp_path: Path) -> None:
    """F5: one that is silent costs a moment; when all are, the request fails in time."""
    with sentinel_set(tmp_path) as sentinels:
        sentinels.sentinels[0].pause()
        started = time.monotonic()
        assert RedisStore(connect(sentinels.url)).execute(("PING",)) == [True]
        assert time.monotonic() - started < 1.5
        for sentinel in sentinels.sentinels[1:]:
            sentinel.pause()
        store = RedisStore(connect(sentinels.url))
        assert seconds_to_fail(store, ("PING",)) < 1.5
        for sentinel in sentinels.sentinels:
            sentinel.resume()


def test_a_cluster_over_tls(tmp_path: Path) -> None:
    """K28"""
    certificates = Certificates.make(tmp_path)
    with cluster(tls=certificates.good) as nodes:
        secure = nodes.url.replace("redis+", "rediss+")
        # A busy machine takes its time for the first handshakes with every node.
        query = f"socket_timeout=10&ssl_ca_certs={certificates.bundle}"
        store = RedisStore(connect(f"{secure}?{query}"))
        for number in range(10):
            assert store.execute(("SET", f"k{number}", "v"), ("GET", f"k{number}")) == [True, b"v"]
        failure(RedisStore(connect(secure)), ("PING",))


def test_a_silent_node_of_a_cluster_costs_less_than_two_seconds() -> None:
    """F5, F7: and the other nodes' keys are still there."""
    with cluster() as nodes:
        store = RedisStore(connect(nodes.url))
        keys = [f"k{number}" for number in range(12)]
        assert store.execute(*(("SET", key, "v") for key in keys)) == [True] * 12
        with nodes.servers[0].client() as client:
            lost = {key.decode() for key in client.keys("*")}
        assert 0 < len(lost) < 12
        silent, spoken = sorted(lost)[0], next(key for key in keys if key not in lost)
        nodes.servers[0].pause()
        command = ("GET", silent)
        assert seconds_to_fail(store, command, command, command) < 1.5
        assert store.execute(("GET", spoken)) == [b"v"]
        for server in nodes.servers[1:]:
            server.pause()
        assert seconds_to_fail(store, ("GET", spoken)) < 1.5
        for server in nodes.servers:
            server.resume()

        def works() -> bool:
            with contextlib.suppress(StoreUnavailable):
                return store.execute(("GET", silent)) == [b"v"]
            return False

        wait_until(works, what="the cluster to respond again")


def test_a_cluster_that_is_away_at_first_is_used_when_it_is_there() -> None:
    """F5, F7"""
    with cluster() as nodes, TcpProxy(nodes.ports[0]) as network:
        network.refuse()
        store = RedisStore(connect(f"redis+cluster://127.0.0.1:{network.port}"))
        assert failure(store, ("PING",)) == "Redis is unreachable"
        network.accept()
        assert store.execute(("SET", "k", "v"), ("GET", "k")) == [True, b"v"]
