"""docs/reference.md against the code and a running app."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import redis

import doctor
from omnifund import errors
from omnifund.errors import OmniFundError
from omnifund.events import Event
from tests.support.browsing import USERNAME
from tests.support.merchant import Merchant
from tests.support.servers import REPOSITORY
from tests.support.stack import running_stack
from tests.support.valkey import ValkeyServer

REFERENCE = (REPOSITORY / "docs" / "reference.md").read_text()


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    _, _, rest = REFERENCE.partition(f"# {title}\n")
    assert rest, title
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def first_column(title: str) -> list[str]:
    return re.findall(r"^\| (?:— )*`([^`]+)` \|", section(title), re.MULTILINE)


# --- errors and events ---------------------------------------------------------------------------


def errors_below(kind: type[OmniFundError]) -> Iterator[tuple[str, str, int]]:
    """Every public error: its name, its nearest public parent, its status."""
    for each in kind.__subclasses__():
        if not each.__name__.startswith("_"):
            parent = next(base for base in each.__mro__[1:] if not base.__name__.startswith("_"))
            yield each.__name__, parent.__name__, each.status
        yield from errors_below(each)


def test_the_errors_are_those_of_the_package() -> None:
    documented: list[tuple[str, str, int]] = []
    above: list[str] = []
    rows = re.findall(r"^\| ((?:— )*)`(\w+)` \| (\d+) \|", section("Errors"), re.MULTILINE)
    for marks, name, status in rows:
        above[marks.count("—") :] = [name]
        documented.append((name, above[-2] if len(above) > 1 else "Exception", int(status)))
    defined = [("OmniFundError", "Exception", OmniFundError.status), *errors_below(OmniFundError)]
    differing = set(documented) ^ set(defined)
    assert sorted(documented) == sorted(defined), f"docs/reference.md, Errors: {differing}"


def test_the_errors_are_drawn_above_them() -> None:
    drawn: list[tuple[str, str]] = []
    above = ["OmniFundError"]
    for branch, name in re.findall(r"^    ([│ ]*[├└]── )(\w+)", str(errors.__doc__), re.MULTILINE):
        above[len(branch) // 4 :] = [name]
        drawn.append((name, above[-2]))
    defined = [(name, parent) for name, parent, _ in errors_below(OmniFundError)]
    differing = set(drawn) ^ set(defined)
    assert sorted(drawn) == sorted(defined), f"omnifund/errors.py, docstring: {differing}"


def test_the_events_are_those_of_the_package() -> None:
    documented = first_column("Events")
    differing = {str(event) for event in set(documented) ^ set(Event)}
    assert sorted(documented) == sorted(Event), f"docs/reference.md, Events: {differing}"


# --- responses -----------------------------------------------------------------------------------


def test_the_members_of_session_are_those_of_a_running_app(merchant: Merchant) -> None:
    signed_out = merchant.status()
    merchant.sign_in()
    signed_in = merchant.status()
    assert signed_out == {"signed_in": False}
    assert sorted(signed_in) == sorted(first_column("Responses for scripts"))


def test_the_members_of_an_error_are_those_of_a_running_app(merchant: Merchant) -> None:
    error = merchant.get("/no-such-page", headers={"Accept": "application/json"})
    assert error.status_code == 404
    assert sorted(error.json()) == sorted(first_column("Errors as JSON"))


# --- Redis keys ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys_in_use() -> set[str]:
    """The names of all keys in the commands that a full journey sends, fingerprints replaced."""
    with ValkeyServer() as valkey, valkey.client() as client, client.monitor() as monitor:
        with running_stack(valkey.url, rate_limits=True) as stack:
            merchant = Merchant(stack)
            merchant.sign_in()
            merchant.press("/dashboard", "/token/refresh")
            merchant.get("/customers")
            merchant.get("/readyz")
            other = Merchant(stack)
            for _ in range(6):  # The first few may be counted in the process alone.
                other.press("/login/password", "password", username=USERNAME, password="wrong")
            with stack.app.app_context():
                list(doctor.examine(lambda: stack.settings))
        with redis.Redis.from_url(valkey.url) as last:
            last.echo("the end")
        seen: set[str] = set()
        while "the end" not in (command := monitor.next_command()["command"]):
            seen.update(re.findall(r"(?<![\w:])omnifund:[^\s\"]+", command))
    return {re.sub(r"[A-Za-z0-9_-]{22}(?=}|$)", "…", key) for key in seen}


def test_every_key_that_the_app_uses_is_documented(keys_in_use: set[str]) -> None:
    undocumented = keys_in_use - set(first_column("Redis keys"))
    assert undocumented == set(), "add it to docs/reference.md, Redis keys"


@pytest.mark.parametrize("key", first_column("Redis keys"))
def test_a_documented_key_is_used(key: str, keys_in_use: set[str]) -> None:
    assert key in keys_in_use, "docs/reference.md names it; this journey did not write it"
