"""Redis as operators run it: with a password, TLS or a socket, with Sentinel, as a Cluster."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from omnifund.errors import StoreUnavailable
from omnifund.redis_client import connect
from omnifund.store import Store
from tests.faults.certificates import Certificates
from tests.faults.network import TcpProxy
from tests.support.processes import wait_until
from tests.support.rig import rig
from tests.support.topologies import cluster, sentinel_set
from tests.support.valkey import ValkeyServer


def test_a_password_in_the_url_is_used() -> None:
    with ValkeyServer(options=("--requirepass", "s3cr:et/@")) as server:
        url = f"redis://:s3cr%3Aet%2F%40@127.0.0.1:{server.port}/0"
        assert Store(connect(url)).execute(("PING",))
        with pytest.raises(StoreUnavailable):
            Store(connect(f"redis://127.0.0.1:{server.port}")).execute(("PING",))


def test_a_connection_that_breaks_while_redis_is_asked_is_replaced_once(
    valkey: ValkeyServer,
) -> None:
    """F6"""
    with TcpProxy(valkey.port) as network, ThreadPoolExecutor(1) as pool:
        store = Store(connect(f"redis://127.0.0.1:{network.port}?socket_timeout=10"))
        store.execute(("SET", "k", "v"))
        taken = network.taken
        network.freeze()
        answer = pool.submit(store.execute, ("GET", "k"))
        wait_until(lambda: network.taken > taken, what="the command to be sent")
        network.reset()
        network.thaw()
        assert answer.result() == [b"v"]
        assert network.connections == 2


def test_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = Path(tmp_path_factory.mktemp("s"))
    path = folder / "v.sock"
    with ValkeyServer(options=("--unixsocket", str(path))), rig(f"unix://{path}") as running:
        merchant = running.merchant()
        assert merchant.get("/customers").status_code == 200


def test_tls_to_redis_is_checked(tmp_path: Path, valkey: ValkeyServer) -> None:
    certificates = Certificates.make(tmp_path)
    with TcpProxy(valkey.port, tls=certificates.good) as secure:
        trusting = f"rediss://localhost:{secure.port}?ssl_ca_certs={certificates.bundle}"
        assert Store(connect(trusting)).execute(("PING",))
        with pytest.raises(StoreUnavailable):
            Store(connect(f"rediss://localhost:{secure.port}")).execute(("PING",))
    with TcpProxy(valkey.port, tls=certificates.foreign) as other:
        store = Store(
            connect(f"rediss://localhost:{other.port}?ssl_ca_certs={certificates.bundle}")
        )
        with pytest.raises(StoreUnavailable):
            store.execute(("PING",))


def test_several_commands_are_one_round_trip(redis_url: str) -> None:
    store = Store(connect(redis_url))
    store.execute(("PING",))
    with redis.Redis.from_url(redis_url) as client:
        before = client.info("stats")["total_reads_processed"]
        assert store.execute(("SET", "a", "1"), ("GET", "a"), ("GET", "b")) == [b"OK", b"1", None]
        # One read for the three commands, one for this second INFO.
        assert client.info("stats")["total_reads_processed"] == before + 2


def test_an_error_among_several_answers_is_told_and_confuses_no_later_one(redis_url: str) -> None:
    store = Store(connect(redis_url))
    store.execute(("SET", "word", "not a number"))
    with pytest.raises(StoreUnavailable):
        store.execute(("SET", "a", "1"), ("INCR", "word"), ("SET", "b", "2"))
    with redis.Redis.from_url(redis_url) as client:
        connections = client.info("stats")["total_connections_received"]
        assert store.execute(("GET", "a"), ("GET", "b")) == [b"1", b"2"]
        assert client.info("stats")["total_connections_received"] == connections


def test_whoever_ends_in_the_middle_confuses_nobody(redis_url: str) -> None:
    """D6: what a stopped worker had asked for is not taken for the next one's answer."""

    class Stopped(BaseException):
        pass

    client = connect(redis_url)
    store = Store(client)
    store.execute(("SET", "mine", "1"), ("SET", "yours", "2"))
    pool = client.connection_pool  # type: ignore[attr-defined]  # a stand-alone server's has one
    connection = pool.get_connection()
    honest = connection.read_response

    def stop(**_options: object) -> None:
        connection.read_response = honest
        raise Stopped

    connection.read_response = stop
    pool.release(connection)
    with redis.Redis.from_url(redis_url) as other:
        other.execute_command("CLIENT", "PAUSE", 300)
    with pytest.raises(Stopped):
        store.execute(("GET", "mine"))
    assert store.execute(("GET", "yours")) == [b"2"]


class TestSentinel:
    """F7"""

    def test_an_answer_that_came_too_late_is_not_the_next_ones(self, tmp_path: Path) -> None:
        """F7, D6: a server that stands still for longer than anybody waits, and then goes on."""
        with sentinel_set(tmp_path) as sentinels:
            store = Store(connect(sentinels.url))
            store.execute(("SET", "mine", "1"), ("SET", "yours", "2"))
            with redis.Redis(port=sentinels.master_port()) as client:
                client.execute_command("CLIENT", "PAUSE", 1000)
            with pytest.raises(StoreUnavailable):
                store.execute(("GET", "mine"))

            answers: list[object] = []

            def goes_on() -> bool:
                try:
                    answers.append(store.execute(("GET", "yours")))
                except StoreUnavailable:
                    return False
                return len(answers) == 3

            wait_until(goes_on, what="the server to go on")
            assert answers == [[b"2"]] * 3

    def test_a_fail_over_means_a_clean_sign_in_or_none_at_all(self, tmp_path: Path) -> None:
        """F7: what was replicated is still there, and nobody gets anybody else's session."""
        with sentinel_set(tmp_path) as sentinels, rig(sentinels.url) as running:
            merchants = [running.merchant() for _ in range(5)]
            assert all(m.get("/customers").status_code == 200 for m in merchants)
            with redis.Redis(port=sentinels.master_port()) as client:
                client.execute_command("WAIT", 2, 2000)
            sentinels.kill_master()
            for merchant in merchants:
                wait_until(
                    lambda merchant=merchant: (  # type: ignore[misc]  # bound now, not later
                        merchant.get("/session").status_code == 200
                    ),
                    what="the new master",
                )
                answer = merchant.get("/customers")
                assert answer.status_code == 200 or answer.headers["Location"].startswith("/login")
            newcomer = running.merchant()
            assert newcomer.get("/customers").status_code == 200

    def test_while_there_is_no_master_pages_answer_503_soon(self, tmp_path: Path) -> None:
        """F5, F7"""
        with sentinel_set(tmp_path) as sentinels, rig(sentinels.url) as running:
            merchant = running.merchant()
            for server in sentinels.servers:
                server.pause()
            started = time.monotonic()
            assert merchant.get("/dashboard").status_code == 503
            assert time.monotonic() - started < 2.5
            for server in sentinels.servers:
                server.resume()


class TestCluster:
    """F7"""

    def test_everything_works_on_a_cluster(self) -> None:
        """F7: keys of one session are on one node; sessions are spread over all."""
        with cluster() as nodes, rig(nodes.url, rate_limits=True) as running:
            merchants = [running.merchant() for _ in range(12)]
            for merchant in merchants:
                assert merchant.get("/customers").status_code == 200
                assert merchant.press("/token/refresh").status_code == 303
            used = 0
            for server in nodes.servers:
                with server.client() as client:
                    sessions = client.keys("omnifund:*:session")
                    used += bool(sessions)
                    for key in sessions:
                        assert client.exists(key.replace(b":session", b":token"))
            assert used == 3
            for merchant in merchants:
                assert merchant.press("/logout").status_code == 303
            assert nodes.keys("omnifund:{*") == []

    def test_a_lost_node_takes_its_own_sessions_along_and_no_others(self) -> None:
        """F7"""
        with cluster() as nodes, rig(nodes.url) as running:
            merchants = [running.merchant() for _ in range(9)]
            with nodes.servers[0].client() as client:
                lost = client.keys("omnifund:*:session")
            nodes.servers[0].kill()
            for merchant in merchants:
                mine = running.tokens.key(merchant.session_id).replace(":token", ":session").encode()
                status = merchant.get("/session").status_code
                # With a third of its slots uncovered a Cluster may stop answering for the others.
                assert status == 503 if mine in lost else status in (200, 503)

    def test_the_app_starts_while_the_cluster_is_away(self) -> None:
        """F5"""
        with rig("redis+cluster://127.0.0.1:1") as running:
            client = running.app.test_client()
            assert client.get("/healthz").status_code == 200
            assert client.get("/readyz").status_code == 503
            assert client.get("/").status_code == 200
