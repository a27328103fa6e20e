"""What every folder of tests may use."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.browser import ARGUMENTS, find_headless_shell
from tests.support.examples import count
from tests.support.merchant import Merchant
from tests.support.stack import Stack, running_stack
from tests.support.valkey import ValkeyServer

# `make test` has the same result for the same code, so its random input is the same each time;
# `make fuzz` tries new input. How long an example takes says nothing on a busy machine.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", unhurried, derandomize=True)
# The parsers get a tenth: they have many such tests, and no state.
settings.register_profile("random", unhurried, max_examples=max(100, count(100) // 10))
settings.load_profile("random" if "FUZZ_EXAMPLES" in os.environ else "repeatable")

# As long as Playwright waits for what it clicks: five seconds are few on a busy machine.
expect.set_options(timeout=30_000)


LONGEST = (
    "tests/browser/test_every_page.py",
    "tests/web/test_operations.py",
    "tests/faults/test_refresh.py",
    "tests/demo/test_make_demo.py",
    "tests/packaging/test_package.py",
    "tests/examples/test_year.py",
    "tests/faults/test_sign_in.py",
    "tests/cli/test_commands.py",
    "tests/browser/test_lighthouse.py",
    "tests/local_omnifund/test_in_a_browser.py",
    "tests/demo/test_operator_start.py",
    "tests/faults/test_guarantees.py",
    "tests/web/test_deployment.py",
    "tests/web/test_topologies.py",
    "tests/web/test_monitoring.py",
    "tests/web/test_tracing.py",
)
"""Files that take longest. A process that began one of them last would keep the others waiting."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """A Valkey server for this process's tests."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def redis_url(valkey: ValkeyServer) -> str:
    """The address of a Valkey with nothing in it."""
    valkey.flush()
    return valkey.url


@pytest.fixture
def stack(redis_url: str) -> Iterator[Stack]:
    """The app and Local OmniFund, freshly started, with nothing in Redis."""
    with running_stack(redis_url) as running:
        yield running


@pytest.fixture
def merchant(stack: Stack) -> Merchant:
    """A merchant with a fresh browser."""
    return Merchant(stack)


# Chromium's own complaint, which no script of a page can handle: on a busy machine a page was shown
# before the transition to it could begin, and so is shown without one.
_LATE_TRANSITION = "Transition was aborted because of invalid state. Page already revealed"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real Chromium. Without one the test fails: browser tests are never left out silently."""
    program = find_headless_shell()
    assert program is not None, "no Chromium; `make test` installs one"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page in a fresh profile. Errors in the browser's console fail the test."""
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    yield page
    context.close()
    if request.node.get_closest_marker("expects_console_errors") is None:
        assert [each for each in complaints if each != _LATE_TRANSITION] == []
