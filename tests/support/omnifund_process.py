"""Local OmniFund with a clock that a test moves, for a server in a process of its own.

``REDIS_URL=… gunicorn "tests.support.omnifund_process:moved_app('CLOCK')"``
"""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask

from local_omnifund import create_app
from local_omnifund.settings import Settings
from tests.support.shared_clock import SharedClock


def moved_app(clock: str) -> Flask:
    """Return the app; ``clock``: the file of the clock."""
    return create_app(Settings(os.environ["REDIS_URL"]), clock=SharedClock(Path(clock)))
