"""Settings: every environment variable of the app, read once, checked as a whole, frozen.

``Settings.from_environment()`` is the only reader of the environment. It either returns a usable
configuration or raises one ``ConfigurationError`` that lists every problem by variable name. No
message repeats a value, because a value may be a secret.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from omnifund.redis_client import connect

BASE_URLS: Final = {
    "sandbox": "https://sandbox.gotobilling.com",
    "production": "https://secure.gotobilling.com",
}

# Local OmniFund's demo client. It opens nothing but a stand-in on the same machine, so it may be
# published; `local_omnifund.settings` repeats it, because the two applications share no code.
DEMO_CLIENT_ID: Final = "1_4omnifundd0ck8s4gw0ok8c4wgs0kgco8kw4s0gc4ok8wsgk0c4"
DEMO_CLIENT_SECRET: Final = "2demoonly00s0c8k4wg8ks4oc0gw8k4s0wco4kgs8c0k4w8os"

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
SECRET_KEY_MIN_LENGTH: Final = 32
PLACEHOLDERS: Final = (
    "changeme",
    "changethis",
    "change-this",
    "change_this",
    "change this",
    "secretsecret",
    "supersecret",
    "insecure",
    "change-me",
    "change_me",
    "change me",
    "placeholder",
    "replaceme",
    "replace-me",
    "replace_me",
    "your-secret",
    "your_secret",
)

# Stands for "on in local, otherwise off" until a validator has decided.
_ON_IN_LOCAL: Final[Any] = None

Port = Annotated[int, Field(ge=1, le=65535)]


class ConfigurationError(Exception):
    """The app cannot start: ``problems`` maps each variable's name to what is wrong with it."""

    def __init__(self, problems: dict[str, str]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = [f"  {name}: {problem}" for name, problem in problems.items()]
        super().__init__("\n".join([f"The configuration has {count}:", *lines]))


class Settings(BaseSettings):
    """The app's configuration. Field names are the variables' names in lower case.

    Fields are validated in the order in which they stand here, and a later one may look at an
    earlier one (``info.data``). That way one pass finds every problem.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        validate_default=True,
        hide_input_in_errors=True,
    )

    app_port: Port = 8000
    local_omnifund_port: Port = 9000

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

    redis_url: SecretStr = SecretStr("")

    secret_key: SecretStr = SecretStr("")
    secret_key_fallbacks: Annotated[tuple[SecretStr, ...], NoDecode] = ()

    session_idle_seconds: Annotated[int, Field(ge=1, le=31_536_000)] = 1800
    session_lifetime_seconds: Annotated[int, Field(ge=1, le=31_536_000)] = 43_200
    token_refresh_leeway: Annotated[int, Field(ge=0, le=3600)] = 60

    pkce: bool = True
    password_grant: bool = _ON_IN_LOCAL
    flow_inspector: bool = _ON_IN_LOCAL
    demo_control: Path | None = None
    trusted_proxies: Annotated[int, Field(ge=0, le=10)] = 0
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    rate_limits: bool = True
    metrics: Literal["local", "public", "off"] = "local"
    metrics_token: SecretStr = SecretStr("")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    @classmethod
    def from_environment(cls, env_file: Path | None = Path(".env")) -> Self:
        """Read the environment, and ``env_file`` for what the environment does not say.

        Raises ``ConfigurationError`` with every problem.
        """
        try:
            return cls(_env_file=env_file)  # type: ignore[call-arg]  # an argument of pydantic-settings that its mypy plugin alone knows
        except ValidationError as error:
            raise ConfigurationError(_problems(error)) from None

    # --- checks, in the order of the fields --------------------------------------------------

    @field_validator("omnifund_environment", "metrics", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.strip().upper() if isinstance(value, str) else value

    @field_validator("password_grant", "flow_inspector", mode="before")
    @classmethod
    def _on_in_local(cls, value: Any, info: ValidationInfo) -> Any:
        return _is_local(info) if value is None else value

    @field_validator("flask_debug")
    @classmethod
    def _no_debugger_outside_local(cls, value: bool, info: ValidationInfo) -> bool:
        # Werkzeug's debugger runs any code that a visitor types.
        if value and not _is_local(info):
            raise ValueError("must be off unless OMNIFUND_ENVIRONMENT is local")
        return value

    @field_validator("demo_control")
    @classmethod
    def _no_demo_outside_local(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and not _is_local(info):
            raise ValueError("is for the demo only, with OMNIFUND_ENVIRONMENT=local")
        return value

    @field_validator("omnifund_base_url")
    @classmethod
    def _base_url(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            default = f"http://localhost:{info.data.get('local_omnifund_port', 9000)}"
            return BASE_URLS.get(str(info.data.get("omnifund_environment")), default)
        url = _web_address(value)
        if url.query or url.fragment or "?" in value or "#" in value:
            raise ValueError("must have no query and no fragment")
        if url.scheme != "https" and not _is_local(info):
            raise ValueError("must be an https address unless OMNIFUND_ENVIRONMENT is local")
        return value.rstrip("/")

    @field_validator("omnifund_client_id")
    @classmethod
    def _client_id(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            return _local_default(info, DEMO_CLIENT_ID)
        if not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError("must be printable ASCII without spaces")
        return value

    @field_validator("omnifund_client_secret")
    @classmethod
    def _client_secret(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if value.get_secret_value():
            return value
        secret = _local_default(info, DEMO_CLIENT_SECRET)
        if info.data.get("omnifund_client_id") not in (None, DEMO_CLIENT_ID):
            raise ValueError("is required together with OMNIFUND_CLIENT_ID")
        return SecretStr(secret)

    @field_validator("omnifund_redirect_uri")
    @classmethod
    def _redirect_uri(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            port = info.data.get("app_port", 8000)
            return _local_default(info, f"http://localhost:{port}/callback")
        url = _web_address(value)
        if url.path != "/callback" or "?" in value or "#" in value:
            raise ValueError("must end in the path /callback, with no query and no fragment")
        if url.scheme != "https" and url.hostname not in LOOPBACK_HOSTS and not _is_local(info):
            raise ValueError("must be an https address (http is for localhost only)")
        return value

    @field_validator("omnifund_ca_bundle")
    @classmethod
    def _ca_bundle(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                ssl.create_default_context(cafile=str(value))
            except (OSError, ssl.SSLError):
                raise ValueError("must name a readable PEM file of certificates") from None
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value():
            raise ValueError("is required, for example redis://localhost:6379/0")
        connect(value.get_secret_value())  # a ValueError says what is wrong with it
        return value

    @field_validator("secret_key")
    @classmethod
    def _secret_key(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        key = value.get_secret_value()
        if not key:
            raise ValueError(
                "is required: make one with "
                "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
            )
        _check_key(key, info)
        client_secret = info.data.get("omnifund_client_secret")
        if client_secret is not None and key == client_secret.get_secret_value():
            raise ValueError("must not be the same as OMNIFUND_CLIENT_SECRET")
        return value

    @field_validator("secret_key_fallbacks", "allowed_hosts", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("secret_key_fallbacks")
    @classmethod
    def _fallbacks(
        cls, value: tuple[SecretStr, ...], info: ValidationInfo
    ) -> tuple[SecretStr, ...]:
        keys = [key.get_secret_value() for key in value]
        for key in keys:
            _check_key(key, info)
        secret_key = info.data.get("secret_key")
        if len(set(keys)) < len(keys) or (
            secret_key is not None and secret_key.get_secret_value() in keys
        ):
            raise ValueError("must be older keys, each once, none of them SECRET_KEY itself")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if urlsplit(f"//{host.lstrip('.')}").hostname != host.lstrip(".").lower():
                raise ValueError("must be host names without scheme, port and path")
        return value

    # --- what follows from them --------------------------------------------------------------

    @property
    def authorize_url(self) -> str:
        """The authorization endpoint (manual, authorization code work-flow, step 2)."""
        return f"{self.omnifund_base_url}/oauth/v2/auth"

    @property
    def token_url(self) -> str:
        """The token endpoint (manual, "Obtaining an Access Token")."""
        return f"{self.omnifund_base_url}/oauth/v2/token"

    @property
    def secure_cookies(self) -> bool:
        """Whether merchants reach the app over https, as the redirect URI says."""
        return self.omnifund_redirect_uri.startswith("https://")

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """``SECRET_KEY`` first, then the older keys that still open what they sealed."""
        return tuple(
            key.get_secret_value() for key in (self.secret_key, *self.secret_key_fallbacks)
        )


def _is_local(info: ValidationInfo) -> bool:
    return info.data.get("omnifund_environment") == "local"


def _local_default(info: ValidationInfo, default: str) -> str:
    # An unusable OMNIFUND_ENVIRONMENT is a problem of its own; it makes no others.
    if info.data.get("omnifund_environment", "local") == "local":
        return default
    raise ValueError("is required unless OMNIFUND_ENVIRONMENT is local")


def _web_address(value: str) -> SplitResult:
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise ValueError("is not a web address") from None
    if url.scheme not in ("http", "https") or not url.hostname or port == 0:
        raise ValueError("must be an absolute http or https address")
    if url.username is not None or url.password is not None:
        raise ValueError("must hold no user name or password")
    if not value.isascii() or not value.isprintable() or " " in value or "\\" in value:
        raise ValueError("must be printable ASCII without spaces")
    return url


def _check_key(key: str, info: ValidationInfo) -> None:
    if len(key) < SECRET_KEY_MIN_LENGTH:
        raise ValueError(f"must be at least {SECRET_KEY_MIN_LENGTH} characters long")
    one_letter = len(set(key)) < 4 and not _is_local(info)
    if one_letter or any(word in key.lower() for word in PLACEHOLDERS):
        raise ValueError("is a placeholder; make a random one")


def _problems(error: ValidationError) -> dict[str, str]:
    problems: dict[str, str] = {}
    for detail in error.errors(include_input=False, include_url=False):
        name = str(detail["loc"][0]).upper() if detail["loc"] else "CONFIGURATION"
        problems.setdefault(name, detail["msg"].removeprefix("Value error, "))
    return problems
