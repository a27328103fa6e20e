"""How many examples the tests with random input try."""

from __future__ import annotations

import os


def count(usual: int) -> int:
    """Return ``usual``, or what ``FUZZ_EXAMPLES`` says: ``make fuzz`` sets it."""
    return int(os.environ.get("FUZZ_EXAMPLES", usual))
