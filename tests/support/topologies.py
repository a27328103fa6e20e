"""Real Valkey topologies: Sentinel with a master and replicas, and a Cluster of masters."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.faults.network import TcpProxy
from tests.support.processes import free_port, wait_until
from tests.support.valkey import ValkeyServer

SERVICE = "omnifund"


@dataclass
class SentinelSet:
    """Three servers, one of them the master, watched by three Sentinels."""

    servers: list[ValkeyServer]
    sentinels: list[ValkeyServer]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    def master_port(self) -> int:
        """Where the Sentinels say that the master is."""
        with self.sentinels[0].client() as client:
            found: Any = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(found[1])

    def kill_master(self) -> None:
        """End the master as a crash does, and wait until another one has taken over."""
        port = self.master_port()
        next(each for each in self.servers if each.port == port).kill()
        wait_until(lambda: self.master_port() != port, seconds=30, what="a fail-over")
        new = redis.Redis(port=self.master_port())
        wait_until(lambda: new.info("replication")["role"] == "master")
        new.close()


@contextlib.contextmanager
def sentinel_set(folder: Path) -> Iterator[SentinelSet]:
    """Run the servers and the Sentinels."""
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(ValkeyServer())
        replica_of = ("--replicaof", f"127.0.0.1 {master.port}", "--repl-diskless-sync-delay", "0")
        servers = [master] + [
            stack.enter_context(ValkeyServer(options=replica_of)) for _ in range(2)
        ]
        for server in servers[1:]:
            with server.client() as client:
                wait_until(
                    lambda client=client: (  # type: ignore[misc]  # bound now, not later
                        client.info("replication")["master_link_status"] == "up"
                    ),
                    what="a replica",
                )
        sentinels = []
        for number in range(3):
            configuration = folder / f"sentinel-{number}.conf"
            configuration.write_text(
                f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} 500\n"
                f"sentinel failover-timeout {SERVICE} 5000\n"
            )
            sentinels.append(
                stack.enter_context(ValkeyServer(configuration=configuration, sentinel=True))
            )

        def all_known() -> bool:
            for sentinel in sentinels:
                with sentinel.client() as client:
                    state: Any = client.sentinel_master(SERVICE)
                if state["num-slaves"] < 2 or state["num-other-sentinels"] < 2:
                    return False
            return True

        wait_until(all_known, seconds=30, what="the Sentinels to know each other")
        yield SentinelSet(servers, sentinels)


@dataclass
class Cluster:
    """Three masters that share the slots. ``ports``: where clients reach them."""

    servers: list[ValkeyServer]
    ports: list[int]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+cluster://{hosts}"

    def keys(self, pattern: str) -> list[bytes]:
        """All keys of all masters."""
        found: list[bytes] = []
        for server in self.servers:
            with server.client() as client:
                found += client.keys(pattern)
        return found


@contextlib.contextmanager
def cluster(*, tls: ssl.SSLContext | None = None) -> Iterator[Cluster]:
    """Run three masters and give each a third of the slots. ``tls``: for their clients."""
    with contextlib.ExitStack() as stack:
        common = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        buses = [free_port() for _ in range(3)]
        servers = [
            stack.enter_context(ValkeyServer(options=(*common, "--cluster-port", str(bus))))
            for bus in buses
        ]
        ports = [server.port for server in servers]
        if tls is not None:
            proxies = [stack.enter_context(TcpProxy(port, tls=tls)) for port in ports]
            ports = [proxy.port for proxy in proxies]
        borders = [0, 5461, 10923, 16384]
        for number, server in enumerate(servers):
            with server.client() as client:
                client.config_set("cluster-announce-port", ports[number])
                client.execute_command(
                    "CLUSTER", "ADDSLOTSRANGE", borders[number], borders[number + 1] - 1
                )
                if number:
                    client.execute_command(
                        "CLUSTER", "MEET", "127.0.0.1", servers[0].port, buses[0]
                    )
        for server in servers:
            with server.client() as client:
                wait_until(
                    lambda client=client: (  # type: ignore[misc]  # bound now, not later
                        client.cluster("INFO")["cluster_state"] == "ok"
                        and int(client.cluster("INFO")["cluster_known_nodes"]) == 3
                    ),
                    seconds=30,
                    what="the cluster",
                )
        yield Cluster(servers, ports)
