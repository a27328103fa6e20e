"""Local OmniFund, served on a real socket with a real Valkey and a clock that tests can move."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests
from redis import Redis

from local_omnifund import create_app
from local_omnifund.settings import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET, Settings
from pytest_omnifund import Clock
from tests.local_omnifund.visitor import Visitor
from tests.support.browsing import TIMEOUT, query_of
from tests.support.servers import serve
from tests.support.valkey import ValkeyServer

REDIRECT_URI = "http://localhost:8000/callback"


@dataclass
class Site:
    """A running Local OmniFund."""

    url: str
    clock: Clock
    redis: "Redis"

    client_id: str = DEMO_CLIENT_ID
    client_secret: str = DEMO_CLIENT_SECRET
    redirect_uri: str = REDIRECT_URI

    def visitor(self) -> Visitor:
        return Visitor(self.url)

    def authorize_parameters(self, **changes: str) -> dict[str, str]:
        return {
            "client_id": self.client_id,
            "response_type": "code",
            "redirect_uri": self.redirect_uri,
            "state": "xyz",
        } | changes

    def credentials(self) -> dict[str, str]:
        return {"client_id": self.client_id, "client_secret": self.client_secret}

    def code(self, **changes: str) -> str:
        """A fresh authorization code, obtained as a merchant does: sign in, press Allow."""
        with self.visitor() as visitor:
            visitor.sign_in()
            answer = visitor.decide(self.authorize_parameters(**changes))
        return query_of(answer.headers["Location"])["code"]

    def token(self, parameters: dict[str, str], **options: object) -> requests.Response:
        """A form POST to the token endpoint with exactly these parameters."""
        return requests.post(
            self.url + "/oauth/v2/token",
            data=parameters,
            timeout=TIMEOUT,
            **options,  # type: ignore[arg-type]  # requests takes what tests give it
        )

    def exchange(self, code: str, **changes: str) -> requests.Response:
        return self.token(
            self.credentials()
            | {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self.redirect_uri,
            }
            | changes
        )

    def password(self, **changes: str) -> requests.Response:
        return self.token(
            self.credentials()
            | {
                "grant_type": "password",
                "username": "merchant",
                "password": "local-omnifund-demo",
            }
            | changes
        )

    def refresh(self, refresh_token: str, **changes: str) -> requests.Response:
        return self.token(
            self.credentials()
            | {"grant_type": "refresh_token", "refresh_token": refresh_token}
            | changes
        )

    def api(self, path: str, access_token: str, parameters: object = None) -> requests.Response:
        return requests.get(
            f"{self.url}/api/{path}",
            params=parameters,  # type: ignore[arg-type]  # as above
            headers={"Authorization": f"Bearer {access_token}"},
            timeout=TIMEOUT,
        )


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Site]:
    """Serve Local OmniFund with these settings."""
    clock = Clock()
    app = create_app(settings, clock=clock)
    with serve(app) as server, Redis.from_url(settings.redis_url, decode_responses=True) as redis:
        yield Site(server.url, clock, redis)


@pytest.fixture(scope="session")
def running_site(valkey: ValkeyServer) -> Iterator[Site]:
    """One server for all tests; the demo client comes back after each flush."""
    with running(Settings(valkey.url, fault_pace=0.01)) as site:
        yield site


@pytest.fixture
def site(running_site: Site, redis_url: str) -> Site:
    """Local OmniFund with an empty Redis and the time of day on its clock."""
    assert redis_url
    running_site.clock.now = Clock().now
    return running_site


@pytest.fixture
def visitor(site: Site) -> Iterator[Visitor]:
    """A browser with no cookies."""
    with site.visitor() as visitor:
        yield visitor
