"""Settings: every environment variable of the app, read once, checked as a whole, frozen.

No message repeats a value, because a value may be a secret.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import SplitResult, urlsplit

from dotenv import dotenv_values, find_dotenv
from dotenv.parser import parse_stream
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from redis_url import connect

BASE_URLS: Final = {
    "sandbox": "https://sandbox.gotobilling.com",
    "production": "https://secure.gotobilling.com",
}

# Local OmniFund's demo client. It opens nothing but a stand-in on the same machine, so it may be
# published; `local_omnifund.settings` repeats it, because the two applications share no code.
DEMO_CLIENT_ID: Final = "1_4omnifundd0ck8s4gw0ok8c4wgs0kgco8kw4s0gc4ok8wsgk0c4"
DEMO_CLIENT_SECRET: Final = "2demoonly00s0c8k4wg8ks4oc0gw8k4s0wco4kgs8c0k4w8os"

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
DEFAULT_APP_PORT: Final = 8000
SECRET_KEY_MIN_LENGTH: Final = 32
_PLACEHOLDER: Final = re.compile(
    "change[-_ ]?(me|this)|(super|secret)secret|insecure|placeholder|replace[-_]?me|your[-_]secret"
)

# Stands for "on in local, otherwise off" until a validator has decided.
_ON_IN_LOCAL: Final[Any] = None

_PATH: Final = re.compile(r"(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)*")
# RFC 9110 §7.2, RFC 3986 §3.2.2; with underscores, which DNS and browsers allow.
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_AUTHORITY: Final = re.compile(rf"(?:{_HOST.pattern}|\[[0-9a-f:.]+\])(?::[0-9]{{1,5}})?")
_BEARER_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")  # RFC 6750 §2.1

_Port = Annotated[int, Field(ge=1, le=65535)]
_Secrets = tuple[SecretStr, ...]


class ConfigurationError(Exception):
    """The app cannot start: ``problems`` maps each variable's name to what is wrong with it."""

    def __init__(self, problems: dict[str, str]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = [f"  {name}: {problem}" for name, problem in problems.items()]
        super().__init__("\n".join([f"The configuration has {count}:", *lines]))


class Settings(BaseModel):
    """The app's configuration. Field names are the variables' names in lower case.

    Fields are validated in this order; a later one may look at earlier ones (``info.data``).
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", validate_default=True, hide_input_in_errors=True
    )

    app_port: _Port = DEFAULT_APP_PORT
    local_omnifund_port: _Port = 9000
    local_omnifund_faults: bool = True
    omnifund_environment: Literal["local", "sandbox", "production"] = "local"
    flask_debug: bool = False
    omnifund_base_url: str = ""
    omnifund_client_id: str = ""
    omnifund_client_secret: SecretStr = SecretStr("")
    omnifund_redirect_uri: str = ""
    # The upper bounds keep the token call's deadline below gunicorn's worker timeout.
    omnifund_connect_timeout: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 3.0
    omnifund_read_timeout: Annotated[float, Field(gt=0, le=15, allow_inf_nan=False)] = 10.0
    omnifund_ca_bundle: Path | None = None
    redis_password: SecretStr = SecretStr("")
    redis_url: SecretStr = SecretStr("")
    secret_key: SecretStr = SecretStr("")
    secret_key_fallbacks: _Secrets = ()

    session_idle_seconds: Annotated[int, Field(ge=1, le=31_536_000)] = 1800
    session_lifetime_seconds: Annotated[int, Field(ge=1, le=31_536_000)] = 43_200
    token_refresh_leeway: Annotated[int, Field(ge=0, le=3600)] = 60

    pkce: bool = True
    password_grant: bool = _ON_IN_LOCAL
    flow_inspector: bool = _ON_IN_LOCAL
    demo_control: Path | None = None
    hsts: Literal["off", "on", "subdomains"] = "on"
    trusted_proxies: Annotated[int, Field(ge=0, le=10)] = 0
    allowed_hosts: tuple[str, ...] = ()
    rate_limits: bool = True
    metrics: Literal["local", "public", "off"] = "local"
    metrics_token: SecretStr = SecretStr("")
    otel_exporter_otlp_endpoint: str = ""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    # For gunicorn.conf.py.
    web_concurrency: Annotated[int, Field(ge=1, le=1000)] = min(os.cpu_count() or 1, 4)
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 1
    worker_timeout: Annotated[int, Field(ge=1, le=3600)] = 40
    keep_alive: Annotated[int, Field(ge=0, le=3600)] = 75

    @classmethod
    def from_environment(
        cls, env_file: Path | None = Path(".env"), *, checked: Path | None = None
    ) -> Self:
        """Read the environment, and ``env_file`` for what the environment does not set.

        The only reader of both. ``checked``: a file whose variables are in the environment already,
        perhaps without the lines that cannot be parsed. Raises ``ConfigurationError`` with every
        problem.
        """
        problems: dict[str, str] = {}
        if checked is not None:
            _read_file(checked, problems)
        from_file = _read_file(env_file, problems) if env_file else {}
        values = _known(from_file, problems) | _known(os.environ, problems)
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            raise ConfigurationError(_problems(error) | problems) from None
        if problems:
            raise ConfigurationError(problems)
        return settings

    @field_validator(
        "omnifund_environment", "hsts", "metrics", "log_level", "log_format", mode="before"
    )
    @classmethod
    def _any_case(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        return value.strip().upper() if info.field_name == "log_level" else value.strip().lower()

    @field_validator("password_grant", "flow_inspector", mode="before")
    @classmethod
    def _on_in_local(cls, value: Any, info: ValidationInfo) -> Any:
        return _is_local(info) if value is None else value

    # Werkzeug's debugger runs any code that a visitor types, the lab stops Redis.
    @field_validator("flask_debug", "demo_control")
    @classmethod
    def _local_only(cls, value: Any, info: ValidationInfo) -> Any:
        if value and not _is_local(info):
            raise ValueError("is for the demo only and requires OMNIFUND_ENVIRONMENT=local")
        return value

    @field_validator("omnifund_base_url")
    @classmethod
    def _base_url(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            default = f"http://localhost:{info.data.get('local_omnifund_port', 9000)}"
            return BASE_URLS.get(str(info.data.get("omnifund_environment")), default)
        url = web_address(value)
        if url.scheme != "https" and not _is_local(info):
            raise ValueError("must be an https URL unless OMNIFUND_ENVIRONMENT is local")
        return url._replace(netloc=url.netloc.lower(), path=url.path.rstrip("/")).geturl()

    @field_validator("omnifund_client_id")
    @classmethod
    def _client_id(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            return _local_default(info, DEMO_CLIENT_ID)
        _check_ascii(value)
        return value

    @field_validator("omnifund_client_secret")
    @classmethod
    def _client_secret(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if value.get_secret_value():
            _check_text(value.get_secret_value())
            return value
        secret = _local_default(info, DEMO_CLIENT_SECRET)
        if info.data.get("omnifund_client_id") not in (None, DEMO_CLIENT_ID):
            raise ValueError("is required together with OMNIFUND_CLIENT_ID")
        return SecretStr(secret)

    @field_validator("omnifund_redirect_uri")
    @classmethod
    def _redirect_uri(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            port = info.data.get("app_port", DEFAULT_APP_PORT)
            return _local_default(info, f"http://localhost:{port}/callback")
        url = web_address(value)
        if not url.path.endswith("/callback"):
            raise ValueError("must have a path that ends in /callback")
        if url.scheme != "https" and url.hostname not in LOOPBACK_HOSTS and not _is_local(info):
            raise ValueError("must be an https URL (http is for localhost only)")
        return value  # As it is: OmniFund compares it as a string (RFC 6749 §3.1.2.3).

    @field_validator("omnifund_ca_bundle")
    @classmethod
    def _ca_bundle(cls, value: Path | None) -> Path | None:
        try:
            if value is not None:
                ssl.create_default_context(cafile=value)
        except (OSError, ValueError):
            raise ValueError("must name a readable PEM file of certificates") from None
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if not value.get_secret_value():
            raise ValueError("is required, for example redis://localhost:6379/0")
        # A ValueError says what is wrong with it.
        connect(value.get_secret_value(), info.data["redis_password"].get_secret_value())
        return value

    @field_validator("secret_key")
    @classmethod
    def _secret_key(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        key = value.get_secret_value()
        if not key:
            raise ValueError(
                "is required: generate one with "
                "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
            )
        _check_key(key, info)
        if value == info.data.get("omnifund_client_secret"):
            raise ValueError("must not be the same as OMNIFUND_CLIENT_SECRET")
        return value

    @field_validator("secret_key_fallbacks", "allowed_hosts", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            parts = tuple(part.strip(" ") for part in value.split(",") if part.strip(" "))
            if not parts:  # Without any host, all would be allowed.
                raise ValueError("must be a list, separated by commas")
            return parts
        return value

    @field_validator("secret_key_fallbacks")
    @classmethod
    def _fallbacks(cls, value: _Secrets, info: ValidationInfo) -> _Secrets:
        for key in value:
            _check_key(key.get_secret_value(), info)
        if len(set(value)) < len(value) or info.data.get("secret_key") in value:
            raise ValueError("must list older keys, without duplicates or SECRET_KEY")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_host(host) for host in value)

    @field_validator("metrics_token")
    @classmethod
    def _metrics_token(cls, value: SecretStr) -> SecretStr:
        token = value.get_secret_value()
        if token and not _BEARER_TOKEN.fullmatch(token):
            raise ValueError("must be 16 characters or more, only letters, digits, and -._~+/")
        return value

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _collector(cls, value: str) -> str:
        if value:
            try:
                import_module("opentelemetry.exporter.otlp.proto.http")
            except ModuleNotFoundError:
                raise ValueError("requires the packages of requirements-traces.txt") from None
        return value and web_address(value).geturl()

    @property
    def is_local(self) -> bool:
        """Whether OmniFund is a stand-in on this machine."""
        return self.omnifund_environment == "local"

    @property
    def has_local_omnifund(self) -> bool:
        """Whether OmniFund is an emulator on this machine, as far as the settings tell."""
        return self.is_local and urlsplit(self.omnifund_base_url).hostname in LOOPBACK_HOSTS

    @property
    def secure_cookies(self) -> bool:
        """Whether merchants reach the app over https, as the redirect URI says."""
        return urlsplit(self.omnifund_redirect_uri).scheme == "https"

    @property
    def mount_path(self) -> str:
        """The path below which the app is mounted: empty, or for example ``/pay``."""
        return urlsplit(self.omnifund_redirect_uri).path.removesuffix("/callback")

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """``SECRET_KEY`` first, then the older keys, which are for decryption only."""
        return tuple(
            key.get_secret_value() for key in (self.secret_key, *self.secret_key_fallbacks)
        )


@cache
def at_start() -> Settings:
    """Return the settings of the start, also when gunicorn reloads: its workers keep them."""
    return Settings.from_environment()


def _is_local(info: ValidationInfo) -> bool:
    return info.data.get("omnifund_environment") == "local"


def _local_default(info: ValidationInfo, default: str) -> str:
    # An unusable OMNIFUND_ENVIRONMENT is a problem of its own; it makes no others.
    if info.data.get("omnifund_environment", "local") == "local":
        return default
    raise ValueError("is required unless OMNIFUND_ENVIRONMENT is local")


def web_address(value: str) -> SplitResult:
    """Return ``value`` parsed. Raises ``ValueError`` unless it is a plain http or https URL."""
    try:
        url = urlsplit(value)
        port = url.port
        if "[" in url.netloc:
            ipaddress.IPv6Address(url.hostname or "")
    except ValueError:
        raise ValueError("is not a valid URL") from None
    if "@" in url.netloc:
        raise ValueError("must not contain a user name or password")
    is_host = _AUTHORITY.fullmatch(url.netloc.lower())  # urlsplit finds a host in nearly anything
    if url.scheme not in ("http", "https") or port == 0 or not is_host:
        raise ValueError("must be an absolute http or https URL")
    _check_ascii(value)
    if "?" in value or "#" in value:
        raise ValueError("must not have a query or fragment")
    if not _PATH.fullmatch(url.path.rstrip("/")):
        raise ValueError("must have a plain path: no //, no . or .. segments, no percent escapes")
    return url


def _host(host: str) -> str:
    """Return a host name as it stands in a ``Host`` header, or a suffix that begins with a dot."""
    if "*" in host:
        raise ValueError("must not contain *: .example.com means all below it; unset means any")
    try:
        if host.count(":") > 1:
            return f"[{ipaddress.IPv6Address(host.removeprefix('[').removesuffix(']'))}]"
        dot, name = host[: host.startswith(".")], host.removeprefix(".").encode("idna").decode()
    except ValueError:
        name = ""
    if not _HOST.fullmatch(name.lower()):
        raise ValueError("must be host names without scheme, port, and path")
    return dot + name.lower().removesuffix(".")


def _check_ascii(value: str) -> None:
    if not re.fullmatch("[!-~]+", value):
        raise ValueError("must be printable ASCII without spaces")


def _check_text(secret: str) -> None:
    if secret != secret.strip() or not secret.isprintable():
        raise ValueError("must not start or end with a blank or contain a line break")


def _check_key(key: str, info: ValidationInfo) -> None:
    _check_text(key)
    if len(key) < SECRET_KEY_MIN_LENGTH:
        raise ValueError(f"must be at least {SECRET_KEY_MIN_LENGTH} characters long")
    one_letter = len(set(key)) < 4 and not _is_local(info)
    if one_letter or _PLACEHOLDER.search(key.lower()):
        raise ValueError("is a placeholder; generate a random key")


# --- reading -------------------------------------------------------------------------------------


def _read_file(path: Path, problems: dict[str, str]) -> dict[str, str]:
    """Return what a ``.env`` file sets; report each line that is not understood."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        text = "\0"
    if "\0" in text:
        problems[path.name] = "cannot be read as UTF-8 text"
        return {}
    values: dict[str, str] = {}
    for binding in parse_stream(StringIO(text)):
        name, value, lines = binding.key or "", binding.value, binding.original.string
        if lines.lstrip().startswith(";"):  # a comment in systemd's files
            continue
        if binding.error or (name and (value is None or not re.fullmatch(r"[\w.-]+", name))):
            blank = lines[: len(lines) - len(lines.lstrip())].count("\n")
            problems[f"{path.name}, line {binding.original.line + blank}"] = "is not NAME=value"
        elif "${" in (value or "") and name.lower() in Settings.model_fields:
            problems[name.upper()] = f"uses ${{…}} in {path.name}, which is not expanded"
        elif name:
            values[name] = value or ""
    return values


def flask_env_file() -> str | None:
    """Return what stands for ``--env-file`` of the command ``flask``."""
    return os.environ.get("FLASK_ENV_FILE")


def read_by_flask_only() -> Iterator[tuple[str, list[str]]]:
    """Yield files from which the command ``flask`` has read settings, and no server does.

    With each the names of these settings.
    """
    own = dotenv_values(".env", encoding="utf-8")
    for name in (".flaskenv", ".env"):
        path = find_dotenv(name, usecwd=True)  # the nearest, in folders above too
        values = dotenv_values(path, encoding="utf-8") if path else {}
        values = {key: values[key] for key in values.keys() - own.keys()}
        if found := sorted(
            key
            for key, value in values.items()
            if key.lower() in Settings.model_fields and os.environ.get(key) == value
        ):
            yield path, found


def _known(variables: Mapping[str, str], problems: dict[str, str]) -> dict[str, str]:
    """Return the settings among ``variables`` by field name; report others of our prefix."""
    values: dict[str, str] = {}
    # Names count in any case. Of two that differ in it only, the one in capitals wins.
    for name, value in sorted(variables.items(), key=lambda item: item[0].isupper()):
        field = name.lower()
        if not value or _is_from_kubernetes(name, value):
            continue
        if field not in Settings.model_fields:
            if field.startswith("omnifund_"):
                problems[name] = f"is not a setting; did you mean {_nearest(field)}?"
        elif re.search("[\ud800-\udfff]", value):  # How Python reads bytes that are not UTF-8.
            problems[field.upper()] = "is not UTF-8 text"
        else:
            values[field] = value
    return values


def _is_from_kubernetes(name: str, value: str) -> bool:
    # It sets these for each Service. One that is named "app" would be APP_PORT.
    is_port = name.endswith("_PORT") and re.match("(tcp|udp|sctp)://", value)
    return bool(is_port or re.fullmatch(r".+_SERVICE_(HOST|PORT(_.+)?)|.+_PORT_\d+_[A-Z_]+", name))


def _nearest(field: str) -> str:
    bare, fields = field.removeprefix("omnifund_"), list(Settings.model_fields)
    return (bare if bare in fields else difflib.get_close_matches(field, fields, 1, 0)[0]).upper()


# What Pydantic says of these is about parsing strings.
_PLAIN: Final = {
    "bool_parsing": "must be on or off",
    "float_parsing": "must be a number",
    "int_parsing": "must be a whole number",
}


def _problems(error: ValidationError) -> dict[str, str]:
    problems: dict[str, str] = {}
    for detail in error.errors(include_input=False, include_url=False):
        name, text = str(detail["loc"][0]).upper(), _PLAIN.get(detail["type"], detail["msg"])
        problems.setdefault(
            name, text.removeprefix("Value error, ").replace("Input should", "must", 1)
        )
    return problems
