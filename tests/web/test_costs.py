"""What each operation costs, in exact numbers: Redis round trips, connections to OmniFund."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from tests.support.merchant import Merchant
from tests.support.rig import Rig, rig
from tests.support.valkey import ValkeyServer


def round_trips(redis_url: str, operation: Callable[[], object]) -> int:
    """Count the reads that Redis makes from sockets: one for each round trip."""
    with redis.Redis.from_url(redis_url) as client:
        before = client.info("stats")["total_reads_processed"]
        operation()
        # Less the one for asking a second time.
        return int(client.info("stats")["total_reads_processed"]) - int(before) - 1


@pytest.fixture
def redis_url() -> Iterator[str]:
    """A Valkey of this test's own: the last connections of earlier tests would count too."""
    with ValkeyServer() as server:
        yield server.url


@pytest.fixture
def running(redis_url: str) -> Iterator[Rig]:
    """The app with its limits on, warm: its connections are there already."""
    with rig(redis_url, rate_limits=True, flow_inspector=False) as app:
        merchant = app.merchant()
        merchant.get("/customers")
        yield app


@pytest.fixture
def inspected(redis_url: str) -> Iterator[Rig]:
    """The same with the inspector on."""
    with rig(redis_url, rate_limits=True, flow_inspector=True) as app:
        merchant = app.merchant()
        merchant.get("/customers")
        yield app


@pytest.mark.parametrize(
    ("path", "trips"),
    [
        ("/dashboard", 1),
        ("/customers", 1),
        ("/transactions", 1),
        ("/session", 1),
        ("/", 1),
        ("/static/app.css", 0),
        ("/healthz", 0),
        ("/no-such-page", 1),  # it says in the header whether the merchant is signed in
    ],
)
def test_a_signed_in_page_costs_one_round_trip_at_most(
    running: Rig, redis_url: str, path: str, trips: int
) -> None:
    merchant = running.merchant()
    assert round_trips(redis_url, lambda: merchant.get(path)) == trips


@pytest.mark.parametrize(
    ("path", "trips"), [("/dashboard", 1), ("/session", 1), ("/customers", 2), ("/transactions", 2)]
)
def test_the_inspector_costs_one_more_where_something_is_recorded(
    inspected: Rig, redis_url: str, path: str, trips: int
) -> None:
    merchant = inspected.merchant()
    assert round_trips(redis_url, lambda: merchant.get(path)) == trips


@pytest.mark.parametrize("path", ["/", "/login", "/login/password", "/session", "/callback"])
def test_a_visitor_who_is_not_signed_in_costs_redis_nothing(
    running: Rig, redis_url: str, path: str
) -> None:
    assert round_trips(redis_url, lambda: Merchant(running).get(path)) == 0


@pytest.mark.parametrize(("app", "trips"), [("running", 3), ("inspected", 4)])
def test_a_sign_in_costs_three_round_trips_and_one_for_its_recording(
    app: str, trips: int, redis_url: str, request: pytest.FixtureRequest
) -> None:
    """Claim, save, the recording, and the page that it leads to."""
    running: Rig = request.getfixturevalue(app)

    def sign_in() -> None:
        merchant = Merchant(running)
        merchant.sign_in()
        assert merchant.get("/dashboard").status_code == 200

    assert round_trips(redis_url, sign_in) == trips


def test_a_refresh_costs_three_round_trips(running: Rig, redis_url: str) -> None:
    """The page's own; the lock with the token; saving with the release of the lock."""
    merchant = running.merchant()
    running.clock.advance(3600)
    assert round_trips(redis_url, lambda: merchant.get("/customers")) == 3


@pytest.mark.parametrize(("app", "trips"), [("running", 2), ("inspected", 3)])
def test_signing_out_costs_two_round_trips_and_deleting_the_recordings_one(
    app: str, trips: int, redis_url: str, request: pytest.FixtureRequest
) -> None:
    running: Rig = request.getfixturevalue(app)
    merchant = running.merchant()
    data = {"csrf_token": merchant.csrf_token()}
    url = f"{running.url}/logout"
    assert round_trips(redis_url, lambda: merchant.post(url, data, timeout=5)) == trips


def test_one_connection_to_omnifund_serves_one_request_after_the_other(running: Rig) -> None:
    merchant = running.merchant()
    before = running.provider.connections
    for _ in range(20):
        assert merchant.get("/customers").status_code == 200
    assert merchant.post_form("/token/refresh").status_code == 303
    assert running.provider.connections == before


def test_templates_are_compiled_once(running: Rig) -> None:
    merchant = running.merchant()
    for path in ("/", "/dashboard", "/customers", "/transactions", "/login/password", "/x"):
        merchant.get(path)
    environment = running.app.jinja_env
    compiled = []
    original = environment.compile

    def counting(*args: object, **kwargs: object) -> object:
        compiled.append(args)
        return original(*args, **kwargs)  # type: ignore[call-overload]  # passed on as they come

    environment.compile = counting  # type: ignore[assignment,method-assign]  # counts what it passes on
    for path in ("/", "/dashboard", "/customers", "/transactions", "/login/password", "/x"):
        merchant.get(path)
    assert compiled == []
