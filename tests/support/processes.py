"""Child processes that never outlive the tests."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """For ``preexec_fn``: on Linux, have the kernel end this process when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_children(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session, and all that it has started, immediately.

    An orderly stop waits for connections that a test has left open, and takes half of the CPU that
    the start took.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(condition: Callable[[], bool], *, seconds: float = 30, what: str = "") -> None:
    """Wait for another process; fails when ``condition`` has not come true in time.

    ``seconds``: more than it takes on the busiest machine, unless the time itself is tested.
    """
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"waited {seconds} s in vain for {what or 'a condition'}")
        time.sleep(0.01)


# Below the ports that systems give to outgoing connections (Linux 32768, macOS and IANA 49152): one
# of those could be taken between the question and the use. Each process begins somewhere else.
_PORTS: Final = range(10_000, 32_000)
_next_ports: Final = itertools.count(random.SystemRandom().randrange(len(_PORTS)))


def free_port() -> int:
    """Return a TCP port that is free now, and that this process has not been given."""
    for number in _next_ports:
        port = _PORTS[number % len(_PORTS)]
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("counting has come to an end")


def answers(port: int) -> bool:
    """Whether a process listens on this port of this machine."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0
