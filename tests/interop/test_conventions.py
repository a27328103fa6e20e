"""Flask's own commands, and the app under the WSGI servers that people use."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator

import pytest
import requests

from app import create_app
from tests.faults.provider import HonestProvider
from tests.support.merchant import Merchant
from tests.support.processes import free_port
from tests.support.programs import clean_environment, program, running
from tests.support.rig import Rig
from tests.support.servers import REPOSITORY
from tests.support.stack import app_settings

SERVERS: dict[str, Callable[[int], list[str]]] = {
    "flask run": lambda port: ["flask", "--app", "app", "run", "--port", str(port)],
    "gunicorn": lambda port: [
        *("gunicorn", "--config", str(REPOSITORY / "gunicorn.conf.py")),
        *("--bind", f"127.0.0.1:{port}", "--workers", "1", "app:create_app()"),
    ],
    "waitress": lambda port: [
        *("waitress-serve", f"--listen=127.0.0.1:{port}", "--call", "app:create_app"),
    ],
    "uvicorn": lambda port: [
        *("uvicorn", "--port", str(port), "--log-level", "warning"),
        *("--interface", "wsgi", "--factory", "app:create_app"),
    ],
}


@pytest.fixture(scope="module")
def provider() -> Iterator[HonestProvider]:
    with HonestProvider() as honest:
        yield honest


@pytest.fixture
def variables(redis_url: str, provider: HonestProvider) -> dict[str, str]:
    """The environment that the app is started with."""
    return {
        "APP_PORT": str(free_port()),
        "LOG_LEVEL": "WARNING",
        "OMNIFUND_BASE_URL": provider.url,
        "RATE_LIMITS": "off",
        "REDIS_URL": redis_url,
        "SECRET_KEY": secrets.token_urlsafe(48),
    }


@pytest.mark.parametrize("server", SERVERS)
def test_a_whole_journey_under(
    server: str, redis_url: str, provider: HonestProvider, variables: dict[str, str]
) -> None:
    port = int(variables["APP_PORT"])
    settings = app_settings(redis_url, app_port=port, omnifund_base_url=provider.url)
    name, *arguments = SERVERS[server](port)
    with running([program(name), *arguments], port, variables):
        rig = Rig(f"http://localhost:{port}", create_app(settings), settings, provider)
        merchant = Merchant(rig)
        assert merchant.get("/readyz").status_code == 200
        assert merchant.sign_in("/customers").headers["Location"] == "/customers"
        assert merchant.get("/customers").status_code == 200
        assert merchant.post_form("/token/refresh").headers["Location"] == "/dashboard"
        assert merchant.post_form("/logout").headers["Location"] == "/"
        assert merchant.get("/session").json() == {"signed_in": False}


def test_local_omnifund_starts_alone_as_readme_says(redis_url: str) -> None:
    port = free_port()
    variables = {"REDIS_URL": redis_url, "LOCAL_OMNIFUND_PORT": str(port)}
    settings = str(REPOSITORY / "gunicorn.conf.py")
    command = [program("gunicorn"), "--config", settings, "local_omnifund:create_app()"]
    with running(command, port, variables):
        page = requests.get(f"http://localhost:{port}/login", timeout=10)
        assert (page.status_code, "Local OmniFund" in page.text) == (200, True)


def flask(variables: dict[str, str], *arguments: str) -> str:
    """Run ``flask --app app …``; return what it has printed."""
    done = subprocess.run(
        [program("flask"), "--app", "app", *arguments],
        env=clean_environment(**variables),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_flask_lists_the_routes(variables: dict[str, str]) -> None:
    routes = {line.split()[-1] for line in flask(variables, "routes").splitlines()}
    assert routes >= {
        *("/", "/login", "/callback", "/login/password", "/logout", "/dashboard", "/customers"),
        *("/transactions", "/token/refresh", "/session", "/healthz", "/readyz", "/metrics"),
        *("/inspector", "/lab", "/static/<path:filename>"),
    }


def test_flask_lists_the_commands(variables: dict[str, str]) -> None:
    """What they do is in tests/cli."""
    listed = {line.split()[0] for line in flask(variables, "--help").splitlines() if line.strip()}
    assert listed >= {"omnifund", "routes", "run", "shell"}
    assert {"doctor", "token"} <= set(flask(variables, "omnifund", "--help").split())
