"""What is counted: CPU from /proc, round trips and memory as Redis counts them. Linux only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import Peer


@dataclass(frozen=True)
class Cost:
    """What one operation costs. CPU in milliseconds; the others are counts, or bytes."""

    cpu: float
    round_trips: float
    commands: float
    handshakes: float
    redis_bytes: float


def measure(peer: Peer, operation: Callable[[], object], count: int) -> Cost:
    """Do ``operation`` so many times; return what one of them has cost."""
    # While the others had their turn the server has closed the idle connection. Once uncounted.
    peer.reconnect()
    operation()
    cpu, trips, commands, memory = _readings(peer)
    handshakes = peer.provider.tls_handshakes
    for _ in range(count):
        operation()
    handshakes = peer.provider.tls_handshakes - handshakes
    cpu_after, trips_after, commands_after, memory_after = _readings(peer)
    return Cost(
        cpu=(cpu_after - cpu) * 1000 / count,
        # Less what asking has added: one round trip of two commands.
        round_trips=(trips_after - trips - 1) / count,
        commands=(commands_after - commands - 1) / count,
        handshakes=handshakes / count,
        redis_bytes=(memory_after - memory) / count,
    )


def resident_bytes(peer: Peer) -> int:
    """Return the memory of its processes, shared pages counted in each."""
    return sum(_status(pid, "VmRSS") for pid in peer.pids)


def cpu_seconds(peer: Peer) -> float:
    """Return the CPU time that its processes have used, all threads, to the nanosecond."""
    nanoseconds = 0
    for pid in peer.pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def _readings(peer: Peer) -> tuple[float, int, int, int]:
    info = peer.redis.info("everything")
    return (
        cpu_seconds(peer),
        int(info["total_reads_processed"]),
        int(info["total_commands_processed"]),
        int(info["used_memory"]),
    )


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0
