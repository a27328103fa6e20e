"""Configuration: every variable, every bad value, one message, no secret in it."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from config import ConfigurationError, Settings

# Fixed, because it is part of a test's name.
SECRET_KEY = "Zq7w0LxJ3vN8rT5yB2mK9pD4sF6hG1cA"
LOCAL = {"REDIS_URL": "redis://localhost:6379/0", "SECRET_KEY": SECRET_KEY}
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
    for name in ("SECRET_KEY", "OMNIFUND_CLIENT_SECRET", "REDIS_URL", "SECRET_KEY_FALLBACKS"):
        if len(variables.get(name, "")) > 4:
            assert variables[name] not in str(caught.value)
    return caught.value.problems


def test_two_variables_are_enough_in_local(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, LOCAL)
    assert settings.omnifund_environment == "local"
    assert settings.authorize_url == "http://localhost:9000/oauth/v2/auth"
    assert settings.token_url == "http://localhost:9000/oauth/v2/token"
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
        ("OMNIFUND_CLIENT_ID", "two words"),
        ("OMNIFUND_CLIENT_ID", "tab\tbed"),
        ("OMNIFUND_CLIENT_SECRET", ""),
        ("OMNIFUND_REDIRECT_URI", "/callback"),
        ("OMNIFUND_REDIRECT_URI", "https://app.example/callback/"),
        ("OMNIFUND_REDIRECT_URI", "https://app.example/oauth/callback"),
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
        ("SECRET_KEY_FALLBACKS", "short"),
        ("SECRET_KEY_FALLBACKS", SECRET_KEY),
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
        ("RATE_LIMITS", "some"),
        ("METRICS", "everyone"),
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


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, {**LOCAL, "OMNIFUND_READ_TIMEOUT": ""}).omnifund_read_timeout == 10


def test_older_keys_follow_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    old = [secrets.token_urlsafe(32) for _ in range(2)]
    settings = read(monkeypatch, {**LOCAL, "SECRET_KEY_FALLBACKS": f" {old[0]} , {old[1]},"})
    assert settings.secret_keys == (SECRET_KEY, *old)


def test_a_trailing_slash_of_the_base_url_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, {**PRODUCTION, "OMNIFUND_BASE_URL": "https://of.example/pay/"})
    assert settings.token_url == "https://of.example/pay/oauth/v2/token"


def test_an_env_file_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = [f"{name}={value}" for name, value in LOCAL.items()]
    (tmp_path / ".env").write_text("\n".join([*lines, "APP_PORT=8111", "LOG_LEVEL=debug"]))
    settings = read(monkeypatch, {"APP_PORT": "8222"})
    assert (settings.app_port, settings.log_level) == (8222, "DEBUG")


def test_settings_cannot_be_changed_and_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, {**PRODUCTION, "REDIS_URL": "redis://:hunter2@localhost"})
    with pytest.raises(ValueError, match="frozen"):
        settings.app_port = 1
    for secret in (SECRET_KEY, "hunter2", "the: % + é secret"):
        assert secret not in repr(settings)
