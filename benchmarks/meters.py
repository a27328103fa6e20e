"""What is counted: CPU of a server's processes, what its Redis is asked, TLS handshakes."""

from __future__ import annotations

import ctypes
import http.client
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

_LIBC = ctypes.CDLL(None)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time that these processes have used, all their threads included.

    The kernel's clock of each process counts nanoseconds; /proc/<pid>/stat has the same sum in
    steps of 10 ms, too coarse for a few pages.
    """
    return sum(_clock(pid) for pid in pids)


def _clock(pid: int) -> float:
    clock = ctypes.c_int()
    error = _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, f"process {pid} has no CPU clock")
    return time.clock_gettime(clock.value)


def children(pid: int) -> list[int]:
    """Return the ids of the processes that ``pid`` has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def resident_bytes(pids: Iterable[int]) -> int:
    """Return how much memory these processes have in RAM, shared pages once for each (RSS)."""
    lines = (line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


class RedisMeter:
    """Asks one Redis about itself, over one connection."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._client.ping()

    def counts(self) -> tuple[int, int]:
        """Return how many commands and how many round trips (reads from a socket) there were."""
        stats: Any = self._client.info("stats")
        return stats["total_commands_processed"], stats["total_reads_processed"]

    def stored_bytes(self, *, beyond: int = 0) -> int:
        """Return what everything stored takes: keys, values, and the tables that they are in.

        ``beyond``: only of what lives longer than so many seconds from now. Not ``used_memory``,
        in which the buffers of whoever is connected are counted too.
        """
        keys = list(self._client.scan_iter(count=1000))
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.ttl(key)
            pipeline.memory_usage(key)
        answers = iter(pipeline.execute())
        sizes = [size for ttl, size in zip(answers, answers, strict=True) if ttl > beyond]
        tables: Any = self._client.memory_stats()
        in_tables = sum(tables.get("db.0", {}).values()) * len(sizes) / max(1, len(keys))
        return int(sum(sizes) + in_tables)


class ProviderControl:
    """The provider's plain door: its count of handshakes, and its settings."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def handshakes(self) -> int:
        """Return how many TLS handshakes it has finished."""
        return int(self._ask("GET")["handshakes"])

    def set(self, *, expires_in: int = 3600, latency: float = 0) -> None:
        """Set the life of the tokens from now on, and the token endpoint's delay, in seconds."""
        self._ask("POST", json.dumps({"expires_in": expires_in, "latency": latency}))

    def _ask(self, method: str, body: str | None = None) -> dict[str, int]:
        self._connection.request(method, "/control", body)
        answer: dict[str, int] = json.loads(self._connection.getresponse().read())
        return answer


@dataclass(frozen=True)
class Cost:
    """What one operation cost, on average over those that were made together."""

    cpu_ms: float
    commands: float
    round_trips: float
    handshakes: float


def measure(
    pids: Iterable[int],
    store: RedisMeter,
    provider: ProviderControl,
    count: int,
    operation: Callable[[], object],
) -> Cost:
    """Do ``operation`` so many times and return what one cost the processes ``pids``."""
    pids = list(pids)

    def read() -> tuple[float, ...]:
        return (cpu_seconds(pids) * 1000, *store.counts(), provider.handshakes())

    before = read()
    for _ in range(count):
        operation()
    used = [after - earlier for after, earlier in zip(read(), before, strict=True)]
    # The second INFO counts the first command, and its own read.
    used[1] -= 1
    used[2] -= 1
    return Cost(*(each / count for each in used))
