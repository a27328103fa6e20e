"""A browser's page outlives nothing that it loads from."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.support.stack import Stack


@pytest.fixture
def page(stack: Stack, page: Page) -> Page:
    """A page that is closed before the servers are: what it still loads then would fail."""
    assert stack
    return page
