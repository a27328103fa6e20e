"""``python -m tools.failover``: how long the app has no Redis when a server of it is killed.

With Sentinel (a master, two replicas, three Sentinels that wait for half a second) and with a
Cluster (three masters with a replica each, and a node timeout of two seconds). A merchant loads a
page twenty times a second; each line is one run.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from tests.support.processes import free_port, wait_until
from tests.support.rig import Rig, rig
from tests.support.topologies import Cluster, cluster, sentinel_set
from tests.support.valkey import ValkeyServer

RUNS = 3


def main() -> int:
    """Print a table."""
    print(f"{'Redis':<10} {'without, s':>10} {'slowest page, s':>16} {'still signed in':>16}")
    for name, measure in (("Sentinel", _sentinel), ("Cluster", _cluster)):
        for _ in range(RUNS):
            seconds, slowest, kept = measure()
            print(f"{name:<10} {seconds:>10.1f} {slowest:>16.1f} {kept:>16}", flush=True)
    return 0


def _sentinel() -> tuple[float, float, str]:
    with (
        tempfile.TemporaryDirectory() as folder,
        sentinel_set(Path(folder)) as sentinels,
        rig(sentinels.url, log_level="CRITICAL") as running,
    ):
        master = sentinels.master_port()

        def kill() -> None:
            next(each for each in sentinels.servers if each.port == master).kill()

        return _without(running, [redis.Redis(port=master)], kill)


def _cluster() -> tuple[float, float, str]:
    with (
        cluster() as masters,
        _replicas(masters),
        rig(masters.url, log_level="CRITICAL") as running,
    ):
        clients = [server.client() for server in masters.servers]

        def kill() -> None:
            # The one that has the merchant's session.
            keys = [client.keys("omnifund:{*}:session") for client in clients]
            masters.servers[next(i for i, found in enumerate(keys) if found)].kill()

        return _without(running, clients, kill)


def _without(
    running: Rig, masters: list[Any], kill: Callable[[], None]
) -> tuple[float, float, str]:
    """Return for how long no page worked, the slowest page, and whether the session was kept."""
    merchant = running.merchant()
    for client in masters:
        with contextlib.suppress(redis.RedisError):
            client.execute_command("WAIT", 1, 2000)
    kill()
    began, slowest = time.monotonic(), 0.0
    while True:
        asked = time.monotonic()
        status = merchant.get("/session").status_code
        slowest = max(slowest, time.monotonic() - asked)
        if status == 200:
            kept = "yes" if merchant.status()["signed_in"] else "no"
            return time.monotonic() - began, slowest, kept
        time.sleep(0.05)


@contextlib.contextmanager
def _replicas(masters: Cluster) -> Iterator[None]:
    """Give each master a replica."""
    with contextlib.ExitStack() as stack:
        for master in masters.servers:
            bus = free_port()
            options = (
                *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000"),
                *("--cluster-port", str(bus), "--repl-diskless-sync-delay", "0"),
            )
            server = stack.enter_context(ValkeyServer(options=options))
            with server.client() as client, master.client() as above:
                above.execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
                wanted = above.execute_command("CLUSTER", "MYID")

                def replicates() -> bool:
                    with contextlib.suppress(redis.RedisError):  # It does not know the master yet.
                        client.execute_command("CLUSTER", "REPLICATE", wanted)  # noqa: B023 - called here only
                    info: Any = client.info("replication")
                    return bool(info.get("master_link_status") == "up")

                wait_until(replicates, seconds=30, what="a replica")
        yield


if __name__ == "__main__":
    sys.exit(main())
