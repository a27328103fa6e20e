"""Configuration: every variable, every bad value, one message, no secret in it."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from config import ConfigurationError, Settings
from redis_url import connect

# Fixed, because it is part of a test's name.
SECRET_KEY = "Zq7w0LxJ3vN8rT5yB2mK9pD4sF6hG1cA"
LOCAL = {"REDIS_URL": "redis://localhost:6379/0", "SECRET_KEY": SECRET_KEY}
SECRETS = (
    "SECRET_KEY",
    "OMNIFUND_CLIENT_SECRET",
    "REDIS_URL",
    "SECRET_KEY_FALLBACKS",
    "METRICS_TOKEN",
)
PRODUCTION = {
    **LOCAL,
    "OMNIFUND_ENVIRONMENT": "production",
    "OMNIFUND_CLIENT_ID": "3_client",
    "OMNIFUND_CLIENT_SECRET": "the: % + é secret",
    "OMNIFUND_REDIRECT_URI": "https://app.example/callback",
}


@pytest.fixture(autouse=True)
def only_these_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the developer's own, and no .env of theirs either."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def read(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment()


def problems(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> dict[str, str]:
    with pytest.raises(ConfigurationError) as caught:
        read(monkeypatch, variables)
    for name in SECRETS:
        if len(variables.get(name, "")) > 4:
            assert variables[name] not in str(caught.value)
    return caught.value.problems


def test_two_variables_are_enough_in_local(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, LOCAL)
    assert settings.omnifund_environment == "local"
    assert settings.omnifund_base_url == "http://localhost:9000"
    assert settings.omnifund_redirect_uri == "http://localhost:8000/callback"
    assert (settings.omnifund_connect_timeout, settings.omnifund_read_timeout) == (3, 10)
    assert (settings.session_idle_seconds, settings.session_lifetime_seconds) == (1800, 43200)
    assert settings.token_refresh_leeway == 60
    assert (settings.pkce, settings.password_grant, settings.flow_inspector) == (True, True, True)
    assert (settings.rate_limits, settings.trusted_proxies) == (True, 0)
    assert (settings.metrics, settings.log_level, settings.log_format) == ("local", "INFO", "json")
    assert not settings.secure_cookies


def test_ports_move_the_local_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, {**LOCAL, "APP_PORT": "8123", "LOCAL_OMNIFUND_PORT": "9123"})
    assert settings.omnifund_base_url == "http://localhost:9123"
    assert settings.omnifund_redirect_uri == "http://localhost:8123/callback"


@pytest.mark.parametrize(
    ("environment", "base_url"),
    [
        ("sandbox", "https://sandbox.gotobilling.com"),
        ("production", "https://secure.gotobilling.com"),
    ],
)
def test_hosted_environments_have_their_own_base_url_and_careful_defaults(
    monkeypatch: pytest.MonkeyPatch, environment: str, base_url: str
) -> None:
    settings = read(monkeypatch, {**PRODUCTION, "OMNIFUND_ENVIRONMENT": environment})
    assert settings.omnifund_base_url == base_url
    assert (settings.password_grant, settings.flow_inspector) == (False, False)
    assert settings.omnifund_client_secret.get_secret_value() == "the: % + é secret"
    assert settings.secure_cookies


def test_a_sandbox_may_be_tried_from_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        **PRODUCTION,
        "OMNIFUND_ENVIRONMENT": "sandbox",
        "OMNIFUND_REDIRECT_URI": "http://localhost:8000/callback",
    }
    assert not read(monkeypatch, variables).secure_cookies


def test_every_problem_is_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = problems(
        monkeypatch,
        {
            "OMNIFUND_ENVIRONMENT": "sandbox",
            "OMNIFUND_BASE_URL": "http://sandbox.example",
            "TRUSTED_PROXIES": "many",
            "LOG_LEVEL": "LOUD",
        },
    )
    assert set(found) == {
        "OMNIFUND_BASE_URL",
        "OMNIFUND_CLIENT_ID",
        "OMNIFUND_CLIENT_SECRET",
        "OMNIFUND_REDIRECT_URI",
        "REDIS_URL",
        "SECRET_KEY",
        "TRUSTED_PROXIES",
        "LOG_LEVEL",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_PORT", "0"),
        ("APP_PORT", "65536"),
        ("LOCAL_OMNIFUND_PORT", "http"),
        ("OMNIFUND_ENVIRONMENT", "staging"),
        ("OMNIFUND_BASE_URL", "secure.gotobilling.com"),
        ("OMNIFUND_BASE_URL", "http://secure.gotobilling.com"),
        ("OMNIFUND_BASE_URL", "https://user:pw@secure.gotobilling.com"),
        ("OMNIFUND_BASE_URL", "https://secure.gotobilling.com/?a=b"),
        ("OMNIFUND_BASE_URL", "https://secure.gotobilling.com/#x"),
        ("OMNIFUND_BASE_URL", "ftp://secure.gotobilling.com"),
        ("OMNIFUND_BASE_URL", "https://[oops"),
        ("OMNIFUND_BASE_URL", "HTTP://secure.gotobilling.com"),
        ("OMNIFUND_BASE_URL", "https://secure.gotobilling.com/a//b"),
        ("OMNIFUND_BASE_URL", "https://secure..gotobilling.com"),
        ("OMNIFUND_BASE_URL", "https://secure.gotobilling.com\n"),
        ("OMNIFUND_CLIENT_ID", "two words"),
        ("OMNIFUND_CLIENT_ID", "tab\tbed"),
        ("OMNIFUND_CLIENT_SECRET", ""),
        ("OMNIFUND_CLIENT_SECRET", "a secret "),
        ("OMNIFUND_CLIENT_SECRET", " a secret"),
        ("OMNIFUND_CLIENT_SECRET", "a secret\n"),
        ("OMNIFUND_CLIENT_SECRET", "a sec\rret"),
        ("OMNIFUND_CLIENT_SECRET", "a secret\udcff"),
        ("OMNIFUND_REDIRECT_URI", "/callback"),
        ("OMNIFUND_REDIRECT_URI", "https://app.example/callback/"),
        ("OMNIFUND_REDIRECT_URI", "https://app.example/pay"),
        ("OMNIFUND_REDIRECT_URI", "https://app.example/mycallback"),
        ("OMNIFUND_REDIRECT_URI", "https://app.example/pay//callback"),
        ("OMNIFUND_REDIRECT_URI", "https://app.example//callback"),
        ("OMNIFUND_REDIRECT_URI", "https://app.example/a/../callback"),
        ("OMNIFUND_REDIRECT_URI", "https://app.example/./callback"),
        ("OMNIFUND_REDIRECT_URI", "https://app.example/p%61y/callback"),
        ("OMNIFUND_REDIRECT_URI", "https://app.example/pay;x/callback"),
        ("OMNIFUND_REDIRECT_URI", "https://app..example/callback"),
        ("OMNIFUND_REDIRECT_URI", "HTTP://app.example/callback"),
        ("OMNIFUND_REDIRECT_URI", "https://app.example/callback?x=1"),
        ("OMNIFUND_REDIRECT_URI", "https://app.example/callback#x"),
        ("OMNIFUND_REDIRECT_URI", "https://me@app.example/callback"),
        ("OMNIFUND_REDIRECT_URI", "http://app.example/callback"),
        ("OMNIFUND_REDIRECT_URI", "https://app.example:99999/callback"),
        ("OMNIFUND_CONNECT_TIMEOUT", "0"),
        ("OMNIFUND_CONNECT_TIMEOUT", "11"),
        ("OMNIFUND_READ_TIMEOUT", "-1"),
        ("OMNIFUND_READ_TIMEOUT", "nan"),
        ("OMNIFUND_READ_TIMEOUT", "16"),
        ("OMNIFUND_CA_BUNDLE", "no-such-file.pem"),
        ("REDIS_URL", ""),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://user:pw@"),
        ("REDIS_URL", "unix://"),
        ("REDIS_URL", "redis+sentinel://host:26379"),
        ("REDIS_URL", "redis://localhost:99999/0"),
        ("REDIS_URL", "redis://localhost:0"),
        ("REDIS_URL", "redis://localhost:abc/0"),
        ("REDIS_URL", "rediss://localhost:99999"),
        ("REDIS_URL", "redis://[::1"),
        ("REDIS_URL", "redis://one,two"),
        ("REDIS_URL", "redis://localhost/abc"),
        ("REDIS_URL", "redis://localhost/-1"),
        ("REDIS_URL", "redis://localhost/\N{SUPERSCRIPT TWO}"),
        ("REDIS_URL", "redis://localhost/0?bogus=1"),
        ("REDIS_URL", "redis://localhost?retry=5"),
        ("REDIS_URL", "redis://localhost?socket_timeout=-1"),
        ("REDIS_URL", "redis://localhost?socket_timeout=0"),
        ("REDIS_URL", "redis://localhost?socket_timeout=nan"),
        ("REDIS_URL", "redis://localhost?socket_connect_timeout=1e3"),
        ("REDIS_URL", "redis://localhost?client_name=a%20b"),
        ("REDIS_URL", "redis://localhost?redis_connect_func=x"),
        ("REDIS_URL", "redis://localhost?max_connections=0"),
        ("REDIS_URL", "redis://localhost?ssl_ca_certs=ca.pem"),
        ("REDIS_URL", "redis://localhost?sentinel_password=x"),
        ("REDIS_URL", "rediss://localhost?ssl_ca_certs=no-such-file.pem"),
        ("REDIS_URL", "rediss://localhost?ssl_check_hostname=perhaps"),
        ("REDIS_URL", f"rediss://localhost?ssl_keyfile={__file__}"),
        ("REDIS_URL", "redis://a..b"),
        ("REDIS_URL", f"redis://{'a' * 64}"),
        ("REDIS_URL", "redis://:%ff@localhost"),
        ("REDIS_URL", "redis://:secret%0A@localhost"),
        ("REDIS_URL", "redis://:\udcff@localhost"),
        ("REDIS_URL", "unix:///run/redis%00.sock"),
        ("REDIS_URL", "unix://run/redis.sock"),
        ("REDIS_URL", "unix+sentinel://host/service"),
        ("REDIS_URL", "redis+sentinel://host:0/service"),
        ("REDIS_URL", "redis+cluster://host?db=1"),
        ("REDIS_URL", "redis+cluster://host,:7000"),
        ("REDIS_URL", "redis://localhost?db=x"),
        ("REDIS_URL", "redis://localhost?socket_timeout=abc"),
        ("REDIS_URL", "redis://localhost?decode_responses=true"),
        ("REDIS_URL", "rediss://localhost?ssl_cert_reqs=bogus"),
        ("REDIS_URL", "unix:///run/redis.sock?db=abc"),
        ("REDIS_URL", " redis://localhost"),
        ("REDIS_URL", "redis://localhost/0 "),
        ("REDIS_URL", "redis://localhost\n/0"),
        ("REDIS_URL", "redis://:pass#word@localhost"),
        ("REDIS_URL", "redis+sentinel://host:abc/service"),
        ("REDIS_URL", "redis+sentinel://host/service/one"),
        ("REDIS_URL", "redis+sentinel://host,/service"),
        ("REDIS_URL", "redis+sentinel://host/service?db=1"),
        ("REDIS_URL", "redis+cluster://host:abc"),
        ("REDIS_URL", "redis+cluster://host/1"),
        ("SECRET_KEY", ""),
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", "changeme-changeme-changeme-changeme"),
        ("SECRET_KEY", "x" * 40),
        ("SECRET_KEY", f"{SECRET_KEY} "),
        ("SECRET_KEY", f"{SECRET_KEY}\n"),
        ("SECRET_KEY", f"{SECRET_KEY}\udc80"),
        ("SECRET_KEY_FALLBACKS", "short"),
        ("SECRET_KEY_FALLBACKS", SECRET_KEY),
        ("SECRET_KEY_FALLBACKS", "one-old-key-of-the-right-length-1234\n"),
        ("SECRET_KEY_FALLBACKS", "one-old-key-of-the-right-length-1234," * 2),
        ("SESSION_IDLE_SECONDS", "0"),
        ("SESSION_LIFETIME_SECONDS", "forever"),
        ("TOKEN_REFRESH_LEEWAY", "-1"),
        ("PKCE", "maybe"),
        ("PASSWORD_GRANT", "perhaps"),
        ("FLOW_INSPECTOR", "2"),
        ("TRUSTED_PROXIES", "-1"),
        ("ALLOWED_HOSTS", "https://app.example"),
        ("ALLOWED_HOSTS", "app.example:443"),
        ("ALLOWED_HOSTS", "app.example,/x"),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", ","),
        ("ALLOWED_HOSTS", " , "),
        ("ALLOWED_HOSTS", "app.example, *.example"),
        ("ALLOWED_HOSTS", "[::1]:8000"),
        ("ALLOWED_HOSTS", "[::1x]"),
        ("ALLOWED_HOSTS", "app example"),
        ("ALLOWED_HOSTS", "."),
        ("RATE_LIMITS", "some"),
        ("METRICS", "everyone"),
        ("METRICS_TOKEN", "short"),
        ("METRICS_TOKEN", "sixteen letters and blanks"),
        ("METRICS_TOKEN", "sixteen-and-more\n"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("FLASK_DEBUG", "1"),
    ],
)
def test_a_bad_value_is_named_by_its_variable_alone(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """H1"""
    assert set(problems(monkeypatch, {**PRODUCTION, name: value})) == {name}


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@localhost:hunter2",
        "redis://:hunter2#@localhost",
        "redis://localhost/hunter2",
        "redis://localhost?hunter2=hunter2",
        "rediss://localhost?ssl_cert_reqs=hunter2",
        "redis+sentinel://:hunter2@host:hunter2/hunter2/hunter2",
    ],
)
def test_what_is_wrong_with_an_address_is_said_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """H1"""
    assert "hunter2" not in problems(monkeypatch, {**LOCAL, "REDIS_URL": url})["REDIS_URL"]


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://user:p%23w@[::1]:6380/3",
        "redis://localhost?db=1&socket_timeout=0.5",
        "rediss://:pw@redis.example:6380/0?ssl_ca_certs=ca.pem",
        "unix:///run/redis.sock",
        "unix://:pw@/run/redis.sock?db=2",
        "redis+sentinel://one:26379,[::1]:26380,three/service/2",
        "redis+cluster://user:pw@one,two:7000",
        "rediss+sentinel://:pw@one,two/service?sentinel_username=u&sentinel_password=a+b%2F",
        "rediss+cluster://user:pw@one,[::1]:7000?ssl_cert_reqs=none&ssl_check_hostname=false",
        "REDISS://localhost:6379/",
        "redis://under_score.example.",
        "redis://:p@ss:w0rd!$+~@localhost",
    ],
)
def test_every_kind_of_redis_address_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    """K28"""
    (tmp_path / "ca.pem").touch()
    assert read(monkeypatch, {**LOCAL, "REDIS_URL": url}).redis_url.get_secret_value() == url


def test_one_secret_cannot_serve_two_purposes(monkeypatch: pytest.MonkeyPatch) -> None:
    """H1"""
    variables = {**PRODUCTION, "OMNIFUND_CLIENT_SECRET": SECRET_KEY}
    assert set(problems(monkeypatch, variables)) == {"SECRET_KEY"}


def test_a_client_of_ones_own_needs_its_secret_in_local_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables = {**LOCAL, "OMNIFUND_CLIENT_ID": "2_mine"}
    assert set(problems(monkeypatch, variables)) == {"OMNIFUND_CLIENT_SECRET"}


@pytest.mark.parametrize(
    ("written", "meant"), [("on", True), ("off", False), ("OFF", False), ("true", True)]
)
def test_switches_are_on_or_off(monkeypatch: pytest.MonkeyPatch, written: str, meant: bool) -> None:
    names = ("PKCE", "PASSWORD_GRANT", "FLOW_INSPECTOR", "RATE_LIMITS")
    settings = read(monkeypatch, {**PRODUCTION, **dict.fromkeys(names, written)})
    assert [getattr(settings, name.lower()) for name in names] == [meant] * 4


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PKCE", "maybe", "must be on or off"),
        ("TRUSTED_PROXIES", "1.5", "must be a whole number"),
        ("OMNIFUND_READ_TIMEOUT", "ten", "must be a number"),
        ("OMNIFUND_READ_TIMEOUT", "60", "must be less than or equal to 15"),
        ("LOG_FORMAT", "xml", "must be 'json' or 'console'"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    assert problems(monkeypatch, {**LOCAL, name: value}) == {name: words}


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, {**LOCAL, "OMNIFUND_READ_TIMEOUT": ""}).omnifund_read_timeout == 10


def test_older_keys_follow_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    old = [secrets.token_urlsafe(32) for _ in range(2)]
    settings = read(monkeypatch, {**LOCAL, "SECRET_KEY_FALLBACKS": f" {old[0]} , {old[1]},"})
    assert settings.secret_keys == (SECRET_KEY, *old)


def test_a_trailing_slash_of_the_base_url_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, {**PRODUCTION, "OMNIFUND_BASE_URL": "https://of.example/pay/"})
    assert settings.omnifund_base_url == "https://of.example/pay"


def test_an_env_file_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = [f"{name}={value}" for name, value in LOCAL.items()]
    (tmp_path / ".env").write_text("\n".join([*lines, "APP_PORT=8111", "LOG_LEVEL=debug"]))
    settings = read(monkeypatch, {"APP_PORT": "8222"})
    assert (settings.app_port, settings.log_level) == (8222, "DEBUG")


@pytest.mark.parametrize(
    ("redirect_uri", "secure", "mount_path"),
    [
        ("https://app.example/callback", True, ""),
        ("HTTPS://App.Example/callback", True, ""),
        ("https://app.example:8443/pay/callback", True, "/pay"),
        ("https://app.example/a/b-1/c_2.x~/callback", True, "/a/b-1/c_2.x~"),
        ("https://app.example/callback/callback", True, "/callback"),
        ("HTTP://LOCALHOST:8000/callback", False, ""),
        ("http://[::1]:8000/pay/callback", False, "/pay"),
    ],
)
def test_the_redirect_uri_is_read_as_a_url_and_kept_as_a_string(
    monkeypatch: pytest.MonkeyPatch, redirect_uri: str, secure: bool, mount_path: str
) -> None:
    """K32, K39"""
    settings = read(monkeypatch, {**PRODUCTION, "OMNIFUND_REDIRECT_URI": redirect_uri})
    assert settings.omnifund_redirect_uri == redirect_uri
    assert (settings.secure_cookies, settings.mount_path) == (secure, mount_path)


def test_the_base_url_is_compared_as_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """K32"""
    settings = read(monkeypatch, {**PRODUCTION, "OMNIFUND_BASE_URL": "HTTPS://OF.Example:444/Pay/"})
    assert settings.omnifund_base_url == "https://of.example:444/Pay"


def test_hosts_are_compared_in_the_form_of_a_host_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """K33"""
    written = (
        "Shop.Example.com, .Example.org,[::1], 2001:DB8:0::7,127.0.0.1,"
        "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example,dot.example."
    )
    assert read(monkeypatch, {**LOCAL, "ALLOWED_HOSTS": written}).allowed_hosts == (
        "shop.example.com",
        ".example.org",
        "[::1]",
        "[2001:db8::7]",
        "127.0.0.1",
        "xn--bcher-kva.example",
        "dot.example",
    )


def test_a_star_is_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """K33"""
    problem = problems(monkeypatch, {**LOCAL, "ALLOWED_HOSTS": "*"})["ALLOWED_HOSTS"]
    assert "unset means any" in problem


def test_only_local_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, LOCAL).is_local
    assert not read(monkeypatch, PRODUCTION).is_local


def test_a_token_for_metrics_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "Zm9vYmFyYmF6cXV4/+=="
    settings = read(monkeypatch, {**LOCAL, "METRICS": "Off", "METRICS_TOKEN": token})
    assert (settings.metrics, settings.metrics_token.get_secret_value()) == ("off", token)
    assert token not in repr(settings)


# --- names that others set, and names that are misspelt ------------------------------------------

KUBERNETES = {
    "APP_PORT": "tcp://10.0.0.1:80",
    "APP_SERVICE_HOST": "10.0.0.1",
    "LOCAL_OMNIFUND_PORT": "tcp://10.0.0.2:9000",
    "OMNIFUND_PORT": "tcp://10.0.0.3:80",
    "OMNIFUND_PORT_80_TCP": "tcp://10.0.0.3:80",
    "OMNIFUND_PORT_80_TCP_ADDR": "10.0.0.3",
    "OMNIFUND_APP_SERVICE_HOST": "10.0.0.3",
    "OMNIFUND_APP_SERVICE_PORT": "80",
    "OMNIFUND_APP_SERVICE_PORT_HTTP_WEB": "80",
}


def test_what_kubernetes_sets_for_services_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """K36"""
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
    settings = read(monkeypatch, LOCAL)
    assert (settings.app_port, settings.local_omnifund_port) == (8000, 9000)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("OMNIFUND_ENVIROMENT", "OMNIFUND_ENVIRONMENT"),
        ("OMNIFUND_CLIENTSECRET", "OMNIFUND_CLIENT_SECRET"),
        ("OMNIFUND_REDIRECT_URL", "OMNIFUND_REDIRECT_URI"),
        ("OMNIFUND_REDIS_URL", "REDIS_URL"),
        ("OMNIFUND_PASSWORD_GRANT", "PASSWORD_GRANT"),
        ("OMNIFUND_PORT", "LOCAL_OMNIFUND_PORT"),
        ("omnifund_base_uri", "OMNIFUND_BASE_URL"),
    ],
)
@pytest.mark.parametrize("place", ["environment", "file"])
def test_an_unknown_name_with_our_prefix_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, nearest: str, place: str
) -> None:
    """K37"""
    if place == "file":
        (tmp_path / ".env").write_text(f"{name}=value-of-it\n")
    else:
        monkeypatch.setenv(name, "value-of-it")
    found = problems(monkeypatch, LOCAL)
    assert set(found) == {name}
    assert f"did you mean {nearest}" in found[name]
    assert "value-of-it" not in found[name]


# --- .env ----------------------------------------------------------------------------------------


def in_file(monkeypatch: pytest.MonkeyPatch, content: bytes) -> dict[str, str]:
    """Return the problems of a ``.env`` with ``content`` beside a good environment."""
    Path(".env").write_bytes(content)
    found = problems(monkeypatch, LOCAL)
    assert "hunter2" not in str(found)
    return found


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"OMNIFUND_CLIENT_SECRET: hunter2\n", 1),
        (b"PKCE=on\n\n\n= hunter2\n", 4),
        (b"# comment\nPASSWORD_GRANT off\n", 2),
        (b"PASSWORD_GRANT\n", 1),
        (b"OMNIFUND_CLIENT_SECRET:hunter2\n", 1),
        (b"OMNIFUND_CLIENT_SECRET:hunter2=x\n", 1),
        (b"A=1\r\n\r\nSECRET_KEY='hunter2\r\n", 3),
        (b'SECRET_KEY="hunter2\nPKCE=on\n', 1),
        (b'PKCE="on" hunter2\n', 1),
        (b"<<<<<<< HEAD hunter2\n", 1),
    ],
)
def test_a_line_that_is_not_understood_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, content: bytes, line: int
) -> None:
    """K37"""
    assert set(in_file(monkeypatch, content)) == {f".env, line {line}"}


@pytest.mark.parametrize(
    "content",
    [
        "OMNIFUND_CLIENT_SECRET=hunter2\n".encode("utf-16"),
        "OMNIFUND_CLIENT_SECRET=hunter2\n".encode("utf-16-le"),
        "OMNIFUND_CLIENT_SECRET=hunter2\n".encode("utf-32"),
        b"OMNIFUND_CLIENT_SECRET=hunter2\xff\n",
        b"OMNIFUND_CLIENT_SECRET=hunter2\x00\n",
    ],
)
def test_a_file_that_is_not_utf_8_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """K37"""
    assert in_file(monkeypatch, content) == {".env": "cannot be read as UTF-8 text"}


def test_a_file_that_cannot_be_read_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """K37: Docker makes a folder of a file that is to be mounted and is not there."""
    Path(".env").mkdir()
    assert set(problems(monkeypatch, LOCAL)) == {".env"}


def test_references_are_not_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    """K37: those in lines for other programs do not matter."""
    assert set(in_file(monkeypatch, b"SITE=${X}\nLOG_LEVEL=${LEVEL:-hunter2}\n")) == {"LOG_LEVEL"}


def test_a_file_may_be_written_as_editors_and_shells_do(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "\ufeff# comment",
        "export PKCE=off  # comment",
        "LOG_LEVEL = 'debug'",
        'ALLOWED_HOSTS="a.example, b.example"',
        "VALKEY_PASSWORD=for compose",
        "app_port=8111",
        "METRICS=",
        "",
    ]
    Path(".env").write_text("\r\n".join(lines), encoding="utf-8", newline="")
    settings = read(monkeypatch, LOCAL)
    assert (settings.pkce, settings.log_level, settings.app_port) == (False, "DEBUG", 8111)
    assert settings.allowed_hosts == ("a.example", "b.example")
    assert settings.metrics == "local"


def test_problems_of_file_and_values_are_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PKCE off\nOMNIFUND_CLIENT=x\nMETRICS=everyone\nREDIS_URL=${URL}\n")
    found = problems(monkeypatch, {"SECRET_KEY": "short"})
    assert set(found) == {".env, line 1", "OMNIFUND_CLIENT", "METRICS", "REDIS_URL", "SECRET_KEY"}
    assert "${…}" in found["REDIS_URL"]


# --- anything at all -----------------------------------------------------------------------------

# How long one example takes says more about the machine than about the code.
unhurried = examples(deadline=None)
names = st.sampled_from([*(name.upper() for name in Settings.model_fields), "OMNIFUND_CLIENT_KEY"])
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=())) | st.sampled_from(
    ["on", "0", "local", "https://a/callback", "redis://a", "*", "a" * 40, "tcp://a", "[::1]", " "]
)
urls = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["redis", "rediss", "unix", "redis+sentinel", "rediss+cluster", "http"]),
    st.sampled_from(["", "a@", ":b%@", "u:p@"]),
    st.text("ab.:[]0,é%-_", max_size=12),
    st.text("/ab0?=&%#+", max_size=12) | st.sampled_from(["/0", "/service/1", "?db=1"]),
)


def starts_or_explains(variables: dict[str, str], content: bytes | None = None) -> None:
    """Either usable settings, or one message that lists problems by name."""
    outcome: Settings | ConfigurationError
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        file = Path(folder) / ".env"
        if content is not None:
            file.write_bytes(content)
        patch.setattr(os, "environ", variables)
        try:
            outcome = Settings.from_environment(file)
        except ConfigurationError as error:
            outcome = error
    if isinstance(outcome, ConfigurationError):
        assert outcome.problems
        assert all(re.fullmatch(r"\.env(, line \d+)?|[A-Z_]+", name) for name in outcome.problems)
        assert str(outcome).encode()
    else:
        assert outcome.secret_keys[0]
        assert urlsplit(outcome.omnifund_base_url).hostname
        assert outcome.omnifund_redirect_uri.endswith(f"{outcome.mount_path}/callback")


@unhurried
@given(st.dictionaries(names, texts | urls, max_size=6))
def test_any_environment_starts_as_meant_or_is_one_message(variables: dict[str, str]) -> None:
    """K35, K36, K37"""
    starts_or_explains({**LOCAL, **variables})


@unhurried
@given(
    st.lists(
        st.builds(
            "{}{}{}".format, names | texts, st.sampled_from(["=", " = ", ": ", "", "='"]), texts
        )
    ).map("\n".join),
    st.sampled_from(["utf-8", "utf-16", "latin-1"]),
)
def test_any_file_starts_as_meant_or_is_one_message(content: str, encoding: str) -> None:
    """K37"""
    starts_or_explains(LOCAL, content.encode(encoding, "replace"))


@unhurried
@given(st.binary())
def test_any_bytes_as_a_file_start_or_are_one_message(content: bytes) -> None:
    """K37"""
    starts_or_explains(LOCAL, content)


@unhurried
@given(urls | texts)
def test_any_address_of_redis_is_a_client_or_a_plain_refusal(url: str) -> None:
    """K38"""
    refusal: ValueError | None = None
    try:
        connect(url)
    except ValueError as error:
        refusal = error
    assert refusal is None or (type(refusal) is ValueError and str(refusal).isprintable())


def test_settings_cannot_be_changed_and_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, {**PRODUCTION, "REDIS_URL": "redis://:hunter2@localhost"})
    with pytest.raises(ValueError, match="frozen"):
        settings.app_port = 1
    for secret in (SECRET_KEY, "hunter2", "the: % + é secret"):
        assert secret not in repr(settings)
