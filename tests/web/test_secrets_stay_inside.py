"""No secret leaves: not in a page, a cookie, a log line, a metric, nor readable in Redis."""

from __future__ import annotations

import secrets

import pytest
import redis

import local_omnifund
from app import create_app
from local_omnifund.settings import Settings as LocalSettings
from pytest_omnifund import Clock
from tests.support.browsing import PASSWORD, Page, query_of
from tests.support.merchant import Merchant
from tests.support.processes import free_port
from tests.support.servers import Gunicorn, serve
from tests.support.stack import Stack, app_settings


def visit_everything(merchant: Merchant) -> list[Page]:
    """Open every page of the app, good and bad, signed in."""
    answers = [
        merchant.get(path)
        for path in (
            "/",
            "/dashboard",
            "/customers",
            "/customers?lastName=a&page=2",
            "/transactions",
            "/transactions?kind=pending",
            "/session",
            "/login",
            "/login/password",
            "/callback",
            "/callback?code=x&state=y",
            "/healthz",
            "/readyz",
            "/metrics",
            "/inspector",
            "/no-such-page",
            "/logout",
            "/static/app.css",
        )
    ]
    return [*answers, merchant.press("/dashboard", "/token/refresh"), merchant.get("/dashboard")]


def test_no_page_header_cookie_or_redis_value_shows_a_secret(
    stack: Stack, merchant: Merchant
) -> None:
    """D1, D3"""
    callback = merchant.authorize("/dashboard")
    answers = [merchant.get(callback)]
    session_id = merchant.cookies["omnifund_session"]
    tokens = stack.app.extensions["omnifund"].tokens
    first = tokens.load(session_id).token
    answers += [*visit_everything(merchant), merchant.get(callback)]
    second = tokens.load(session_id).token
    assert first.access_token != second.access_token
    secrets_by_name = {
        "access token": first.access_token,
        "refresh token": first.refresh_token,
        "new access token": second.access_token,
        "new refresh token": second.refresh_token,
        "code": query_of(callback)["code"],
        "client secret": stack.settings.omnifund_client_secret.get_secret_value(),
        "password": PASSWORD,
        "secret key": stack.settings.secret_key.get_secret_value(),
    }
    shown = "\n".join(f"{answer.headers} {answer.text}" for answer in answers)
    for name, secret in secrets_by_name.items():
        assert secret not in shown, f"{name} on a page"
    dump = redis_dump(stack.redis_url)
    for name, secret in {**secrets_by_name, "session id": session_id}.items():
        assert secret.encode() not in dump, f"{name} in Redis"


def redis_dump(url: str) -> bytes:
    """Everything of the app's in Redis; Local OmniFund, which is a server, keeps its own."""
    with redis.Redis.from_url(url) as client:
        keys = [key for key in client.keys("*") if not key.startswith(b"local_omnifund:")]
        return b"\n".join(key + b"=" + (client.dump(key) or b"") for key in keys)


def test_no_log_line_shows_a_secret_even_at_debug(redis_url: str) -> None:
    """D2: everything that a real gunicorn prints, the libraries' lines included."""
    port, secret_key = free_port(), secrets.token_urlsafe(48)
    clock = Clock()
    local = local_omnifund.create_app(LocalSettings(redis_url, app_port=port), clock=clock)
    with serve(local) as omnifund:
        settings = app_settings(
            redis_url, app_port=port, omnifund_base_url=omnifund.url, secret_key=secret_key
        )
        environment = {
            "APP_PORT": str(port),
            "OMNIFUND_BASE_URL": omnifund.url,
            "REDIS_URL": redis_url,
            "SECRET_KEY": secret_key,
            "LOG_LEVEL": "DEBUG",
            "RATE_LIMITS": "off",
        }
        with Gunicorn("app:create_app()", environment, port=port) as server:
            # The same keys, so that the test can open what the other process has stored.
            other = create_app(settings)
            running = Stack(server.url, omnifund.url, other, settings, clock, redis_url)
            merchant = Merchant(running)
            callback = merchant.authorize("/dashboard")
            verifier_cookies = [c.value for c in merchant.cookies if "attempt" in c.name]
            merchant.get(callback)
            session_id = merchant.cookies["omnifund_session"]
            tokens = other.extensions["omnifund"].tokens
            first = tokens.load(session_id).token
            visit_everything(merchant)
            second = tokens.load(session_id).token
            merchant.press(
                "/login/password", "/login/password", username="merchant", password=PASSWORD
            )
            merchant.press(
                "/login/password", "/login/password", username="m", password="wrong-pw-1"
            )
            assert server.stop() == 0
            logged = server.log
    assert "token:refresh:succeeded" in logged
    for secret in (
        *(first.access_token, first.refresh_token, second.access_token, second.refresh_token),
        *(query_of(callback)["code"], query_of(callback)["state"], *verifier_cookies),
        *(session_id, PASSWORD, "wrong-pw-1", secret_key),
        settings.omnifund_client_secret.get_secret_value(),
    ):
        assert secret not in logged
    assert "code_verifier" not in logged


def test_a_record_moved_altered_or_cut_means_not_signed_in(stack: Stack) -> None:
    """D4"""
    victim, attacker = Merchant(stack), Merchant(stack)
    victim.sign_in()
    with redis.Redis.from_url(stack.redis_url) as client:
        theirs = {key.split(b":")[-1]: key for key in client.keys("omnifund:{*")}
        attacker.sign_in()
        mine = {
            key.split(b":")[-1]: key
            for key in client.keys("omnifund:{*")
            if key not in theirs.values()
        }
        for part in (b"session", b"token"):
            original, foreign = client.get(mine[part]), client.get(theirs[part])
            flipped = bytes([*original[:-1], original[-1] ^ 1])
            for value in (foreign, flipped, original[:-5], b"", b"cos\nsystem\n(S'true'\ntR."):
                client.set(mine[part], value, keepttl=True)
                assert attacker.status() == {"signed_in": False}
                assert attacker.get("/customers").status_code == 302
            client.set(mine[part], original, keepttl=True)
            assert attacker.status()["signed_in"] is True


@pytest.mark.parametrize("cookie", ["", "x", "a" * 43, "a" * 5000, "../../etc", "é", "*"])
def test_an_unknown_session_id_is_never_adopted(stack: Stack, cookie: str) -> None:
    """F1"""
    merchant = Merchant(stack)
    header = {"Cookie": f"omnifund_session={cookie}".encode()}
    assert merchant.get("/session", headers=header).json() == {"signed_in": False}
    callback = merchant.authorize()
    own = "; ".join(f"{c.name}={c.value}" for c in merchant.cookies)
    answer = merchant.get(callback, headers={"Cookie": header["Cookie"] + b"; " + own.encode()})
    assert answer.status_code == 303
    assert answer.cookies["omnifund_session"] != cookie
