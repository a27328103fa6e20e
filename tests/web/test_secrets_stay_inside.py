"""No secret leaves: not in a page, a cookie, a log line, a metric, nor readable in Redis."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import redis
import requests

from tests.support.stack import PASSWORD, Person, Stack, query_of, running_stack


class Heard(logging.Handler):
    """Every log record, as any formatter could see it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {record.__dict__}")


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Listens to every logger from DEBUG on."""
    handler = Heard()
    yield handler
    logging.getLogger().removeHandler(handler)


def visit_everything(person: Person) -> list[requests.Response]:
    """Every page of the app, good and bad, signed in."""
    answers = [
        person.get(path)
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
    return [*answers, person.press("/dashboard", "/token/refresh"), person.get("/dashboard")]


def test_no_page_header_cookie_log_line_or_redis_value_shows_a_secret(
    redis_url: str, heard: Heard, capfd: pytest.CaptureFixture[str]
) -> None:
    """D1, D2, D3"""
    with running_stack(redis_url, log_level="DEBUG") as stack:
        root = logging.getLogger()
        root.addHandler(heard)
        person = stack.person()
        callback = person.authorize("/dashboard")
        code, state = query_of(callback)["code"], query_of(callback)["state"]
        signed_in = person.get(callback)
        session_id = person.browser.cookies["omnifund_session"]
        first = stack.app.extensions["omnifund"].vault.load(session_id).token
        answers = [signed_in, *visit_everything(person), person.get(callback)]
        second = stack.app.extensions["omnifund"].vault.load(session_id).token
        other = stack.person()
        answers.append(
            other.press(
                "/login/password", "/login/password", username="merchant", password=PASSWORD
            )
        )
        with redis.Redis.from_url(redis_url) as client:
            dump = b"\n".join(
                key + b"=" + (client.dump(key) or b"")
                for key in client.keys()
                if not key.startswith(b"local_omnifund:")
            )

    client_secret = stack.settings.omnifund_client_secret.get_secret_value()
    secrets_by_name = {
        "access token": first.access_token,
        "refresh token": first.refresh_token,
        "new access token": second.access_token,
        "new refresh token": second.refresh_token,
        "code": code,
        "client secret": client_secret,
        "password": PASSWORD,
        "secret key": stack.settings.secret_key.get_secret_value(),
    }
    assert first.access_token != second.access_token
    shown = "\n".join(f"{answer.headers} {answer.text}" for answer in answers)
    logged = "\n".join(heard.lines) + "".join(capfd.readouterr())
    assert "sign_in:attempt:succeeded" in logged
    for name, secret in secrets_by_name.items():
        assert secret is not None
        assert secret not in shown, f"{name} on a page"
        assert secret.encode() not in dump, f"{name} in Redis"
        if name != "code":
            assert secret not in logged, f"{name} in a log"
    # The development server of the tests logs whole request lines; the app's own lines do not.
    app_lines = "\n".join(line for line in heard.lines if "werkzeug" not in line)
    for name, secret in {"code": code, "state": state, "session id": session_id}.items():
        assert secret not in app_lines, f"{name} in a log"
        assert secret.encode() not in dump, f"{name} in Redis"


def test_a_record_moved_altered_or_cut_means_not_signed_in(stack: Stack) -> None:
    """D4"""
    victim, attacker = stack.person(), stack.person()
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
    person = stack.person()
    header = {"Cookie": f"omnifund_session={cookie}".encode()}
    assert person.get("/session", headers=header).json() == {"signed_in": False}
    callback = person.authorize()
    own = "; ".join(f"{c.name}={c.value}" for c in person.browser.cookies)
    answer = person.get(callback, headers={"Cookie": header["Cookie"] + b"; " + own.encode()})
    assert answer.status_code == 303
    assert answer.cookies["omnifund_session"] != cookie
