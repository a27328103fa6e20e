"""Both applications, for a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.support.stack import Stack, running_stack


@pytest.fixture
def stack(redis_url: str) -> Iterator[Stack]:
    """Both applications, freshly started, with nothing in Redis."""
    with running_stack(redis_url) as running:
        yield running


@pytest.fixture
def page(stack: Stack, page: Page) -> Page:
    """A page that is closed before the servers are: what it still loads then would fail."""
    assert stack
    return page
