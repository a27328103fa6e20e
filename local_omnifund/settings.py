"""Settings of Local OmniFund, read from environment variables.

No other module of the package reads the environment. Every setting but `REDIS_URL` has a default.
The demo client and the merchants' password are published constants, because this server guards
only fictional data on a developer's computer.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qsl, urljoin, urlsplit

from redis import Redis
from redis.exceptions import RedisError

from local_omnifund.redirect_uris import problem_with_redirect_uri

DEFAULT_PORT = 9000
DEMO_CLIENT_ID = "1_4omnifundd0ck8s4gw0ok8c4wgs0kgco8kw4s0gc4ok8wsgk0c4"
DEMO_CLIENT_SECRET = "2demoonly00s0c8k4wg8ks4oc0gw8k4s0wco4kgs8c0k4w8os"
DEMO_MERCHANT_PASSWORD = "local-omnifund-demo"

REDIS_OPTIONS = ("db", "socket_timeout", "socket_connect_timeout", "ssl_ca_certs", "ssl_cert_reqs")


class SettingsError(RuntimeError):
    """One message that names every variable with a problem, without values."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of Local OmniFund. Ports are TCP port numbers."""

    redis_url: str = field(repr=False)
    # As it is: in the URL, some characters of a password would have to be escaped.
    redis_password: str = field(default="", repr=False)
    port: int = DEFAULT_PORT
    app_port: int = 8000
    client_id: str = DEMO_CLIENT_ID
    client_secret: str = field(default=DEMO_CLIENT_SECRET, repr=False)
    redirect_uri: str | None = None
    merchant_password: str = field(default=DEMO_MERCHANT_PASSWORD, repr=False)
    faults: bool = True
    # Multiplies every wait of a fault: tests use short ones.
    fault_pace: float = 1.0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings. An empty variable counts as unset.

        Raise `SettingsError` with one line for every problem.
        """
        reader = _Reader(environ)
        settings = cls(
            redis_url=reader.redis_url("REDIS_URL"),
            redis_password=reader.text("REDIS_PASSWORD", ""),
            port=reader.port("LOCAL_OMNIFUND_PORT", DEFAULT_PORT),
            app_port=reader.port("APP_PORT", 8000),
            client_id=reader.printable("OMNIFUND_CLIENT_ID", DEMO_CLIENT_ID),
            client_secret=reader.printable("OMNIFUND_CLIENT_SECRET", DEMO_CLIENT_SECRET),
            redirect_uri=reader.redirect_uri("OMNIFUND_REDIRECT_URI"),
            merchant_password=reader.password(
                "LOCAL_OMNIFUND_MERCHANT_PASSWORD", DEMO_MERCHANT_PASSWORD
            ),
            faults=reader.switch("LOCAL_OMNIFUND_FAULTS", default=True),
        )
        if reader.problems:
            lines = "".join(f"\n  {problem}" for problem in reader.problems)
            raise SettingsError(f"Local OmniFund cannot start:{lines}")
        return settings

    @property
    def app_url(self) -> str:
        """The app's home page: the root of its redirect URI's host."""
        if self.redirect_uri is None:
            return f"http://localhost:{self.app_port}/"
        return urljoin(self.redirect_uri, "/")

    def cookie_name(self, name: str) -> str:
        """A cookie's name: OmniFund's own on the usual port, with the port's number on others.

        Browsers send the cookies of a host to all its ports (RFC 6265 §8.5), so two servers on one
        computer would overwrite each other's.
        """
        return name if self.port == DEFAULT_PORT else f"{name}_{self.port}"

    @property
    def demo_redirect_uris(self) -> tuple[str, ...]:
        """The Allowed Redirect URIs that the demo client must have."""
        uris = [
            f"http://localhost:{self.app_port}/callback",
            f"http://127.0.0.1:{self.app_port}/callback",
        ]
        if self.redirect_uri is not None and self.redirect_uri not in uris:
            uris.append(self.redirect_uri)
        return tuple(uris)


class _Reader:
    """Reads variables one at a time, and collects their problems."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def text(self, name: str, default: str) -> str:
        return self._environ.get(name) or default

    def printable(self, name: str, default: str) -> str:
        value = self.text(name, default)
        if not value.isascii() or not value.isprintable() or " " in value:
            self.problems.append(f"{name} may contain only visible ASCII characters.")
        return value

    def password(self, name: str, default: str) -> str:
        value = self.text(name, default)
        if not value.isprintable() or value != value.strip():
            self.problems.append(f"{name} must not start or end with a blank or hold a line break.")
        return value

    def switch(self, name: str, *, default: bool) -> bool:
        value = self.text(name, "on" if default else "off").lower()
        if value not in {"on", "off"}:
            self.problems.append(f"{name} must be on or off.")
        return value == "on"

    def port(self, name: str, default: int) -> int:
        value = self.text(name, str(default))
        if re.match("(tcp|udp|sctp)://", value):
            # Kubernetes sets APP_PORT like this for a Service named "app".
            return default
        if value.isascii() and value.isdigit() and len(value) < 6 and 0 < int(value) < 65536:
            return int(value)
        self.problems.append(f"{name} must be a port number between 1 and 65535.")
        return default

    def redis_url(self, name: str) -> str:
        value = self.text(name, "")
        if not value:
            self.problems.append(
                f"{name} is missing. Set it to a Redis or Valkey URL, for example "
                "redis://localhost:6379/0 or unix:///path/to/redis.sock."
            )
            return value
        if not _is_redis_url(value):
            self.problems.append(
                f"{name} must be a URL that begins with redis://, rediss://, or unix://, and "
                f"may set only these in its query: {', '.join(REDIS_OPTIONS)}."
            )
        return value

    def redirect_uri(self, name: str) -> str | None:
        value = self.text(name, "")
        if not value:
            return None
        if problem := problem_with_redirect_uri(value):
            self.problems.append(f"{name} is not usable: {problem}")
        return value


def _is_redis_url(value: str) -> bool:
    if not value.isprintable() or " " in value or "#" in value:
        return False
    try:
        # Makes a connection without opening it: what the client does not understand shows now.
        pool = Redis.from_url(value).connection_pool
        pool.connection_class(**pool.connection_kwargs)
        url = urlsplit(value)
        (url.hostname or "").encode("idna")
        options = dict(parse_qsl(url.query, keep_blank_values=True))
        timeouts = [float(text) for name, text in options.items() if name.endswith("_timeout")]
    except (TypeError, ValueError, RedisError):
        return False
    return options.keys() <= set(REDIS_OPTIONS) and all(0 < seconds <= 60 for seconds in timeouts)
