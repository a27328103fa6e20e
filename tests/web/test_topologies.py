"""The app with Redis as operators run it: behind a socket, with Sentinel, as a Cluster.

``tests/faults/test_redis.py`` tests the connection itself.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from omnifund.errors import StoreUnavailable
from omnifund.redis_client import RedisStore
from omnifund.token_store import RedisTokenStore
from redis_url import connect
from tests.support.processes import wait_until
from tests.support.rig import rig
from tests.support.topologies import cluster, sentinel_set
from tests.support.valkey import ValkeyServer


def test_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = Path(tmp_path_factory.mktemp("s"))
    path = folder / "v.sock"
    with ValkeyServer(options=("--unixsocket", str(path))), rig(f"unix://{path}") as running:
        merchant = running.merchant()
        assert merchant.get("/customers").status_code == 200


class TestSentinel:
    """F7"""

    def test_an_answer_that_came_too_late_is_not_the_next_ones(self, tmp_path: Path) -> None:
        """F7, D6: a server that stands still for longer than anybody waits, and then goes on."""
        with sentinel_set(tmp_path) as sentinels:
            store = RedisStore(connect(sentinels.url))
            store.execute(("SET", "mine", "1"), ("SET", "yours", "2"))
            with redis.Redis(port=sentinels.master_port()) as client:
                # Writes alone: a server that does not respond to the Sentinels either is replaced.
                client.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
                with pytest.raises(StoreUnavailable):
                    store.execute(("SET", "mine", "3"))
                # Before its response has come: a connection with bytes to read is given up anyway.
                assert [store.execute(("GET", "yours")) for _ in range(3)] == [[b"2"]] * 3
                client.execute_command("CLIENT", "UNPAUSE")
            assert [store.execute(("GET", "yours")) for _ in range(3)] == [[b"2"]] * 3

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
                assert merchant.post_form("/token/refresh").status_code == 303
            used = 0
            for server in nodes.servers:
                with server.client() as client:
                    sessions = client.keys("omnifund:*:session")
                    used += bool(sessions)
                    for key in sessions:
                        assert client.exists(key.replace(b":session", b":token"))
            assert used == 3
            for merchant in merchants:
                assert merchant.post_form("/logout").status_code == 303
            assert nodes.keys("omnifund:{*") == []

    def test_a_lost_node_takes_its_own_sessions_along_and_no_others(self) -> None:
        """F7"""
        with cluster() as nodes, rig(nodes.url) as running:
            merchants = [running.merchant() for _ in range(9)]
            with nodes.servers[0].client() as client:
                lost = client.keys("omnifund:*:session")
            nodes.servers[0].kill()
            for merchant in merchants:
                mine = (
                    RedisTokenStore.key(merchant.session_id).replace(":token", ":session").encode()
                )
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
