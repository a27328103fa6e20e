"""Starting, health, headers, errors, logs, and what happens when Redis loses its data."""

import http.client
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from local_omnifund import create_app
from local_omnifund.settings import Settings, SettingsError
from tests.local_omnifund.conftest import Site
from tests.local_omnifund.visitor import Visitor
from tests.support.browsing import TIMEOUT, form_to, query_of
from tests.support.processes import free_port
from tests.support.programs import clean_environment
from tests.support.servers import serve

# --- settings ------------------------------------------------------------------------------------


def test_only_the_redis_url_has_no_default() -> None:
    settings = Settings.from_environment({"REDIS_URL": "unix:///run/redis.sock"})

    assert settings == Settings(redis_url="unix:///run/redis.sock")
    assert (settings.port, settings.app_port) == (9000, 8000)
    assert re.fullmatch(r"\d+_[0-9a-z]{9,13}[048cgkosw]{34,41}", settings.client_id)
    assert settings.demo_redirect_uris == (
        "http://localhost:8000/callback",
        "http://127.0.0.1:8000/callback",
    )


def test_every_setting_is_read_from_the_environment() -> None:
    settings = Settings.from_environment(
        {
            "REDIS_URL": "redis://localhost:6379/0",
            "LOCAL_OMNIFUND_PORT": "9100",
            "APP_PORT": "8100",
            "OMNIFUND_CLIENT_ID": "5_abc",
            "OMNIFUND_CLIENT_SECRET": "hush-hush",
            "OMNIFUND_REDIRECT_URI": "https://app.test/callback",
            "LOCAL_OMNIFUND_MERCHANT_PASSWORD": "pass word",
        }
    )

    assert settings == Settings(
        redis_url="redis://localhost:6379/0",
        port=9100,
        app_port=8100,
        client_id="5_abc",
        client_secret="hush-hush",
        redirect_uri="https://app.test/callback",
        merchant_password="pass word",
    )
    assert settings.demo_redirect_uris == (
        "http://localhost:8100/callback",
        "http://127.0.0.1:8100/callback",
        "https://app.test/callback",
    )
    assert "hush-hush" not in repr(settings)
    assert "pass word" not in repr(settings)


def test_all_problems_are_named_at_once_and_no_value_is_shown() -> None:
    bad = {
        "REDIS_URL": "",
        "LOCAL_OMNIFUND_PORT": "nine",
        "APP_PORT": "70000",
        "OMNIFUND_CLIENT_ID": "a b",
        "OMNIFUND_CLIENT_SECRET": "sécret",
        "OMNIFUND_REDIRECT_URI": "/callback",
    }

    with pytest.raises(SettingsError) as error:
        Settings.from_environment(bad)

    message = str(error.value)
    for name, value in bad.items():
        assert name in message
        assert not value or value not in message.replace("/callback", "", 0) or value == "/callback"
    assert "sécret" not in message


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:6379", "http://localhost", "redis", "/run/redis.sock", " redis://localhost"),
        *("redis://localhost:99999", "redis://localhost:abc", "redis://localhost?db=x"),
        *("redis://localhost?bogus=1", "rediss://localhost?ssl_cert_reqs=bogus"),
        *("redis://localhost?retry=5", "redis://localhost?socket_timeout=-1"),
        *(
            "redis://localhost?socket_timeout=",
            "redis://localhost?socket_timeout=nan",
            "redis://localhost?client_name=a%20b",
        ),
        *("redis://localhost?redis_connect_func=x", "redis://a..b", "redis://:\udcff@localhost"),
    ],
)
def test_a_redis_url_that_is_none_is_refused(url: str) -> None:
    """K38"""
    with pytest.raises(SettingsError, match="REDIS_URL must be a URL that begins with"):
        Settings.from_environment({"REDIS_URL": url})


@pytest.mark.parametrize("port", ["0", "-1", "65536", "8000.5", "²", "1" * 5000])
def test_a_port_must_be_one(port: str) -> None:
    with pytest.raises(SettingsError, match="APP_PORT must be a port number"):
        Settings.from_environment({"REDIS_URL": "redis://localhost", "APP_PORT": port})


def test_what_kubernetes_sets_for_services_is_no_port() -> None:
    """K36"""
    variables = {"LOCAL_OMNIFUND_PORT": "tcp://10.0.0.2:9000", "APP_PORT": "tcp://10.0.0.1:80"}
    settings = Settings.from_environment({"REDIS_URL": "redis://localhost", **variables})
    assert (settings.port, settings.app_port) == (9000, 8000)


@pytest.mark.parametrize("password", ["secret ", " secret", "secret\n", "sec\rret", "secret\udcff"])
def test_a_password_that_cannot_be_typed_is_refused(password: str) -> None:
    """K35"""
    variables = {"REDIS_URL": "redis://localhost", "LOCAL_OMNIFUND_MERCHANT_PASSWORD": password}
    with pytest.raises(SettingsError, match="LOCAL_OMNIFUND_MERCHANT_PASSWORD must not") as error:
        Settings.from_environment(variables)
    assert "sec" not in str(error.value)


# --- starting ------------------------------------------------------------------------------------


def start(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "local_omnifund"],
        env=environment,
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
    )


def test_started_directly_it_says_in_one_line_where_it_is_and_who_can_sign_in(
    redis_url: str,
) -> None:
    port = free_port()
    process = start(REDIS_URL=redis_url, LOCAL_OMNIFUND_PORT=str(port))
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line == (
            f"Local OmniFund listens on http://localhost:{port}. The demo merchant is 'merchant'.\n"
        )
        url = f"http://127.0.0.1:{port}/oauth/v2/token?client_secret=hush-hush"
        assert requests.get(url, timeout=TIMEOUT).status_code == 400
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
            connection.sendall(b"GET /oauth/v2/token?password=hush hush-hush HTTP/1.1\r\n\r\n")
            assert b"400" in connection.recv(1000)
    finally:
        process.terminate()
        _, rest = process.communicate(timeout=10)
    assert "hush" not in rest


def test_started_directly_without_redis_url_it_stops_with_one_message() -> None:
    process = start()
    _, message = process.communicate(timeout=20)

    assert process.returncode == 1
    assert "REDIS_URL is missing." in message
    assert "Traceback" not in message


def test_started_directly_on_a_port_in_use_it_names_the_port_and_the_variable(
    redis_url: str,
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        process = start(REDIS_URL=redis_url, LOCAL_OMNIFUND_PORT=str(port))
        _, message = process.communicate(timeout=20)

    assert process.returncode == 1
    assert f"Port {port} is in use. Set LOCAL_OMNIFUND_PORT to another port." in message
    assert "Traceback" not in message


def test_several_workers_starting_at_once_make_one_demo_client(site: Site, redis_url: str) -> None:
    command = [sys.executable, "-c", "import local_omnifund; local_omnifund.create_app()"]
    environment = clean_environment(REDIS_URL=redis_url)
    workers = [subprocess.Popen(command, env=environment) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4

    assert site.redis.zrange("local_omnifund:clients:merchant", 0, -1) == [site.client_id]
    assert site.password().status_code == 200


def test_starting_again_keeps_what_the_merchant_changed_and_adds_what_the_demo_needs(
    site: Site, visitor: Visitor, redis_url: str
) -> None:
    visitor.sign_in()
    path = f"/profile/api-access/{site.client_id}"
    form = form_to(visitor.get(path), path)
    visitor.submit(form, name="My own name", redirect_uris="https://my.test/callback")

    create_app(Settings(redis_url=redis_url, app_port=8123, redirect_uri="https://x.test/callback"))

    fields = form_to(visitor.get(path), path).fields
    assert fields["name"] == "My own name"
    assert fields["redirect_uris"].split() == [
        "https://my.test/callback",
        "http://localhost:8123/callback",
        "http://127.0.0.1:8123/callback",
        "https://x.test/callback",
    ]


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.test"])
def test_a_host_that_no_machine_can_have_is_refused(site: Site, host: str) -> None:
    for path in ("/", "/login", "/oauth/v2/token", "/api/customers"):
        answer = requests.get(f"{site.url}{path}", headers={"Host": host}, timeout=TIMEOUT)
        assert answer.status_code == 400
        assert answer.text == "The request is malformed.\n"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path", ["/static//portal.css", "/static/favicon.ico", "//static/portal.css", "/api//"]
)
def test_no_redirect_leads_to_the_host_of_the_request(site: Site, path: str) -> None:
    """K12"""
    host, _, port = site.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT)
    connection.request("GET", path, headers={"Host": "evil.example"})
    answer = connection.getresponse()
    assert answer.status in {200, 308, 404}
    assert "evil" not in (answer.getheader("Location") or "")
    connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"If-Modified-Since": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"},
        {"If-Range": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Range": "bytes=0-9"},
        {"If-None-Match": '"'},
        {"Range": "bytes=9-1"},
        {"Range": "bytes=99999999999-"},
    ],
)
def test_a_condition_that_cannot_be_read_is_none(site: Site, headers: dict[str, str]) -> None:
    """K2"""
    answer = requests.get(f"{site.url}/static/portal.css", headers=headers, timeout=TIMEOUT)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "record",
    [
        *("[]", "{", "5", "[" * 100_000),
        '{"username": ["x"]}',
        '{"username": "merchant", "csrf_token": null}',
        '{"username": "merchant", "target": 5}',
        '{"username": "merchant", "new_client": []}',
    ],
)
def test_a_session_that_cannot_be_read_is_none(site: Site, visitor: Visitor, record: str) -> None:
    """As after an upgrade with the same Redis."""
    visitor.sign_in()
    (key,) = site.redis.keys("local_omnifund:session:*")
    site.redis.set(key, record)
    assert visitor.get("/").status_code == 302
    visitor.sign_in()
    assert visitor.get("/").status_code == 200


def test_the_demo_survives_a_redis_that_lost_everything(site: Site, visitor: Visitor) -> None:
    visitor.sign_in()
    site.redis.flushall()

    assert visitor.get("/").status_code == 302
    visitor.sign_in()
    location = visitor.decide(site.authorize_parameters()).headers["Location"]
    assert site.exchange(query_of(location)["code"]).status_code == 200
    assert "OmniFund Reference Integration" in visitor.get("/profile/api-access").text


# --- health and a Redis that is away -------------------------------------------------------------


def test_it_is_healthy_and_ready(site: Site) -> None:
    for path in ("/healthz", "/readyz"):
        answer = requests.get(site.url + path, timeout=TIMEOUT)
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")


@pytest.fixture
def site_without_redis() -> Iterator[str]:
    """A server that was started while nothing listened at its Redis address."""
    app = create_app(Settings(redis_url=f"redis://127.0.0.1:{free_port()}"))
    with serve(app) as server:
        yield server.url


def test_without_redis_it_is_healthy_but_not_ready(site_without_redis: str) -> None:
    assert requests.get(site_without_redis + "/healthz", timeout=TIMEOUT).status_code == 200
    ready = requests.get(site_without_redis + "/readyz", timeout=TIMEOUT)
    assert ready.status_code == 503
    assert ready.json() == {"status": "unavailable", "reason": "Redis does not respond."}


def test_without_redis_pages_and_the_api_say_so(site_without_redis: str) -> None:
    for path in ("/login", "/oauth/v2/auth?client_id=1_a", "/"):
        page = requests.get(
            site_without_redis + path, cookies={"PHPSESSID": "any"}, timeout=TIMEOUT
        )
        assert page.status_code == 503
        assert page.headers["Retry-After"] == "5"
        assert "reach its Redis server right now." in page.text
    fields = {"grant_type": "password", "client_id": "1_a", "client_secret": "s"}
    token = requests.post(site_without_redis + "/oauth/v2/token", data=fields, timeout=TIMEOUT)
    assert token.status_code == 503
    api = requests.get(site_without_redis + "/api/customers?access_token=x", timeout=TIMEOUT)
    assert (api.status_code, api.json()["@type"]) == (503, "hydra:Error")
    assert api.headers["Retry-After"] == "5"


# --- headers, errors, logs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/login", "/nothing", "/static/portal.css", "/api/customers", "/oauth/v2/token", "/healthz"],
)
def test_every_answer_has_the_security_headers(site: Site, path: str) -> None:
    headers = requests.get(site.url + path, timeout=TIMEOUT).headers

    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "unsafe" not in policy
    # It would stop the consent form's redirect to the client.
    assert "form-action" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_pages_hold_no_inline_script_and_no_inline_style(visitor: Visitor) -> None:
    visitor.sign_in()
    for path in ("/", "/customers", "/transactions", "/profile/api-access", "/login", "/nothing"):
        page = visitor.get(path).text
        assert not re.search(r"<script(?! src=\"/static/)", page)
        assert "<style" not in page
        assert not re.search(r"\s(style|on[a-z]+)=", page)


def test_an_unknown_address_is_a_page_of_our_own(site: Site) -> None:
    page = requests.get(site.url + "/nothing", timeout=TIMEOUT)

    assert page.status_code == 404
    assert "No page exists at this URL." in page.text
    assert "Local OmniFund" in page.text


def test_an_unexpected_error_is_a_plain_page_without_details(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken_clock() -> float:
        raise RuntimeError("the clock fell off the wall")

    app = create_app(Settings(redis_url=redis_url), clock=lambda: 0.0)
    app.extensions["local_omnifund"].store._clock = broken_clock
    fields = {
        "grant_type": "password",
        "client_id": Settings(redis_url="").client_id,
        "client_secret": Settings(redis_url="").client_secret,
        "username": "merchant",
        "password": "local-omnifund-demo",
    }
    with serve(app) as server:
        answer = requests.post(server.url + "/oauth/v2/token", data=fields, timeout=TIMEOUT)

    assert answer.status_code == 500
    assert "The request was not completed." in answer.text
    assert "clock" not in answer.text
    assert "the clock fell off the wall" in caplog.text


@pytest.mark.parametrize(
    "path",
    [
        "/%00",
        "/%ff%fe",
        "//evil.test/",
        "/oauth/v2/auth?%00=%ff&client_id=%ff",
        "/oauth/v2/token?grant_type=%ff",
        "/login?a[]=1",
        "/profile/api-access/%2e%2e%2f",
        "/static/../../etc/passwd",
        "/static/%2e%2e/settings.py",
        "/api/customers?access_token=%ff",
        "/api",
        "/api/",
        "/favicon.ico",
    ],
)
def test_whatever_is_asked_for_gets_a_sentence_and_never_a_stack_trace(
    site: Site, path: str
) -> None:
    answer = requests.get(site.url + path, allow_redirects=False, timeout=TIMEOUT)

    assert answer.status_code < 500
    assert "Traceback" not in answer.text


def test_no_secret_reaches_the_log_even_at_debug_level(
    site: Site, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        visitor.sign_in()
        location = visitor.decide(site.authorize_parameters()).headers["Location"]
        code = query_of(location)["code"]
        tokens = site.exchange(code).json()
        newer = site.refresh(tokens["refresh_token"]).json()
        site.api("customers", newer["access_token"])
        site.password(password="a-wrong-password")
        site.exchange(code)

    ours = "\n".join(
        record.getMessage()
        for record in caplog.records
        # The test's own HTTP client logs the URLs that it asks for.
        if not record.name.startswith("urllib3")
    )
    assert "rejected: invalid_grant" in ours
    for secret in (
        code,
        tokens["access_token"],
        tokens["refresh_token"],
        newer["access_token"],
        newer["refresh_token"],
        site.client_secret,
        "local-omnifund-demo",
        "a-wrong-password",
        visitor.http.cookies["PHPSESSID"],
    ):
        assert secret not in ours
