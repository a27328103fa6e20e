"""The real client against the real Local OmniFund and a real Valkey."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stack import Person, Stack, running_stack


@pytest.fixture
def stack(redis_url: str) -> Iterator[Stack]:
    """Both applications, freshly started, with nothing in Redis."""
    with running_stack(redis_url) as running:
        yield running


@pytest.fixture
def person(stack: Stack) -> Person:
    """Somebody with a fresh browser."""
    return stack.person()
