"""What the app has logged in the test's own process."""

from __future__ import annotations

import logging

import pytest


def printed(capfd: pytest.CaptureFixture[str]) -> str:
    """Return what was printed since the last time, once the log's own thread has written it."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    return "".join(capfd.readouterr())
