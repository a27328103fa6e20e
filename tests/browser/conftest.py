"""Both applications, for a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stack import Stack, running_stack


@pytest.fixture
def stack(redis_url: str) -> Iterator[Stack]:
    """Both applications, freshly started, with nothing in Redis."""
    with running_stack(redis_url) as running:
        yield running
