"""``make capacity``: what a sign-in, a page and a session cost, measured on this machine.

CPU is the app's own (user and system time of its worker, from /proc), Redis round trips are socket
reads that Redis counts, memory is what Redis says that it uses. Linux only.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import requests

from tests.support.rig import Merchant, Rig, fleet
from tests.support.valkey import ValkeyServer

SIGN_INS: Final = 500
PAGES: Final = 2000
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Measure and print; return 0."""
    with ValkeyServer() as valkey, fleet(valkey.url, workers=1) as rig:
        for _ in range(50):
            _sign_in(rig)
        with valkey.client() as client:
            before = client.info("memory")["used_memory"]
        _measure(
            rig, valkey, "sign-in (login, callback, dashboard)", SIGN_INS, lambda: _sign_in(rig)
        )
        with valkey.client() as client:
            each = (client.info("memory")["used_memory"] - before) / SIGN_INS
        merchant = rig.merchant()
        for name, path in (
            ("signed-in page (/dashboard)", "/dashboard"),
            ("page with an API call (/customers)", "/customers"),
            ("status (/session)", "/session"),
        ):
            _measure(rig, valkey, name, PAGES, functools.partial(merchant.get, path))
        stranger = requests.Session()
        _measure(rig, valkey, "landing page for a stranger", PAGES, lambda: stranger.get(rig.url))
        print(f"\n{each:.0f} bytes of Redis for each session and its finished sign-in attempt")
        print(f"{1_000_000_000 / each:,.0f} of them in 1 GB of Redis")
    return 0


def _sign_in(rig: Rig) -> None:
    merchant = Merchant(rig)
    merchant.sign_in()
    merchant.get("/dashboard")
    merchant.browser.close()


def _measure(
    rig: Rig, valkey: ValkeyServer, name: str, count: int, operation: Callable[[], object]
) -> None:
    operation()
    cpu, trips = _cpu_seconds(rig), _round_trips(valkey)
    for _ in range(count):
        operation()
    cpu, trips = _cpu_seconds(rig) - cpu, _round_trips(valkey) - trips - 1
    print(
        f"{name:<40}{cpu / count * 1000:7.2f} ms CPU"
        f"{count / cpu:8.0f} a second and core{trips / count:6.2f} Redis round trips"
    )


def _cpu_seconds(rig: Rig) -> float:
    ticks = 0
    for pid in rig.server.worker_pids() if rig.server else ():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def _round_trips(valkey: ValkeyServer) -> int:
    with valkey.client() as client:
        return int(client.info("stats")["total_reads_processed"])


if __name__ == "__main__":
    sys.exit(main())
