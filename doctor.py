"""What can be found out about a configuration without a merchant: the checks of ``doctor``."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

import certifi
from flask import current_app
from flask.helpers import get_load_dotenv

from config import LOOPBACK_HOSTS, ConfigurationError, Settings, read_by_flask_only
from omnifund import errors
from omnifund.authorization import (
    AuthorizationCode,
    AuthorizationRequest,
    new_code_verifier,
    new_state,
)
from omnifund.client import OmniFund
from omnifund.errors import OmniFundError, StoreUnavailable
from omnifund.token import Token
from web import current, health, incoming

CLOCK_WARNING_SECONDS: Final = 5
CLOCK_LIMIT_SECONDS: Final = 60
CERTIFICATE_WARNING_DAYS: Final = 14

Status = Literal["ok", "warning", "failed", "skipped"]


class Check(NamedTuple):
    """One thing that was looked at; ``advice`` says what to do, where there is something to do."""

    id: str
    status: Status
    what: str
    advice: str = ""


_WORDS: Final[dict[type[OmniFundError], str]] = {
    errors.InvalidGrant: "OmniFund rejected these credentials.",
    errors.ClientMisconfigured: "OmniFund rejected this client; run `flask omnifund doctor` for "
    "details.",
    errors.OmniFundUnavailable: "OmniFund is unavailable right now.",
    errors.OmniFundTimeout: "OmniFund took too long to respond.",
    errors.InvalidResponse: "OmniFund sent an invalid response.",
}


def in_words(problem: OmniFundError) -> str:
    """Return ``problem`` as a sentence for a terminal."""
    kind = next((kind for kind in type(problem).__mro__ if kind in _WORDS), None)
    return _WORDS[kind] if kind else str(problem)


# --- the checks ------------------------------------------------------------


def examine(settings: Callable[[], Settings]) -> Iterator[Check]:
    """Yield every check, in an order in which the first failure explains those after it.

    ``settings`` returns them or raises ``ConfigurationError``.
    """
    yield from _other_files()
    try:
        known = settings()
    except ConfigurationError as problem:
        for name, what in problem.problems.items():
            yield Check("variables", "failed", f"{name} {what}{'' if what[-1] == '?' else '.'}")
        yield Check(
            "rest",
            "skipped",
            "Other checks are skipped until these are fixed.",
            "docs/configuration.md lists every variable.",
        )
        return
    yield Check(
        "variables", "ok", f"The environment variables are valid ({known.omnifund_environment})."
    )
    client = current.from_settings(known)  # without anything that logs or counts
    yield _redirect_uri(known)
    yield _hosts(known)
    yield _exposure(known)
    yield from _redis(known, client)
    yield _tls(known)
    yield _credentials(known, client)
    yield _refresh(client)
    # Last, because it is the answer to the request before that tells OmniFund's time.
    yield _clock(client)


def _other_files() -> Iterator[Check]:
    for path, names in read_by_flask_only() if get_load_dotenv() else ():
        what = f"This command has read {', '.join(names)} from {path}; the server does not."
        advice = "Set them in .env, or run this command with FLASK_SKIP_DOTENV=1."
        yield Check("other_files", "warning", what, advice)


def _redirect_uri(settings: Settings) -> Check:
    uri = settings.omnifund_redirect_uri
    if urlsplit(uri).hostname in LOOPBACK_HOSTS and settings.omnifund_environment == "production":
        return Check(
            "redirect_uri",
            "warning",
            f"The redirect URI is {uri}. Only browsers on this machine can use it.",
            "Set OMNIFUND_REDIRECT_URI to a URL that merchants can reach.",
        )
    return Check(
        "redirect_uri",
        "ok",
        f"The redirect URI is {uri}.",
        "It must exactly match an Allowed Redirect URI in OmniFund's portal.",
    )


def _redis(settings: Settings, client: OmniFund) -> Iterator[Check]:
    try:
        more = current_app.extensions["redis_rights"]
        missing = health.missing_rights(current.store(client), *more)
    except StoreUnavailable as problem:
        cause = f" ({problem.__cause__})" if problem.__cause__ else ""
        advice = "Check REDIS_URL (rediss is for TLS), the server, and its password."
        if "is full" in str(problem):
            advice = "Raise its maxmemory."
        yield Check("redis", "failed", f"{problem}{cause}.", advice)
        return
    if missing:
        what = f"Redis does not permit this user {', '.join(missing)}."
        yield Check("redis", "failed", what, "docs/deploying.md lists the rights that it needs.")
        return
    (info,) = current.store(client).attempt(("INFO",))  # which the user may not be permitted
    facts = {} if isinstance(info, Exception) else _facts(info)
    version = facts.get("valkey_version") or facts.get("redis_version") or "unknown version"
    yield Check("redis", "ok", f"Redis is reachable and accepts writes ({version}).")
    policy = facts.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        what = "Redis evicts nothing (maxmemory-policy noeviction)."
        yield Check("redis_eviction", "ok", what)
    else:
        what = f"Redis may evict sessions when memory runs low (maxmemory-policy {policy})."
        status: Status = "failed" if facts else "warning"
        yield Check("redis_eviction", status, what, "Set maxmemory-policy to noeviction.")
    yield _redis_tls(settings)


def _redis_tls(settings: Settings) -> Check:
    scheme, _, rest = settings.redis_url.get_secret_value().lower().partition("://")
    netloc = re.split("[/?]", rest)[0].rpartition("@")[2]
    hosts = {re.sub(r":\d*\Z", "", host).strip("[]") for host in netloc.split(",")}
    if scheme.startswith(("rediss", "unix")) or hosts <= LOOPBACK_HOSTS:
        return Check("redis_tls", "ok", "The connection to Redis is encrypted or local.")
    return Check(
        "redis_tls",
        "warning",
        "The connection to Redis does not use TLS.",
        "Use rediss:// unless the network is private.",
    )


def _facts(info: object) -> dict[str, str]:
    """Return what ``INFO`` said; redis-py has parsed it already, a Cluster's once for each node."""
    if isinstance(info, dict):
        nested = [value for value in info.values() if isinstance(value, dict)]
        # Values that are dicts are also how a database's keys are counted.
        nodes = [value for value in nested if "redis_version" in value]
        return {str(k): str(v) for k, v in (nodes[0] if nodes else info).items()}
    text = info.decode() if isinstance(info, bytes) else str(info)
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}


def _tls(settings: Settings) -> Check:
    url = urlsplit(settings.omnifund_base_url)
    if url.scheme != "https":
        what = f"TLS not checked: {url.netloc} uses plain HTTP, allowed only in local."
        return Check("tls", "skipped", what)
    bundle = str(settings.omnifund_ca_bundle or certifi.where())
    context = ssl.create_default_context(cafile=bundle)
    address = (url.hostname or "", url.port or 443)
    try:
        with (
            socket.create_connection(address, settings.omnifund_connect_timeout) as raw,
            context.wrap_socket(raw, server_hostname=url.hostname) as secure,
        ):
            certificate, version = secure.getpeercert(), secure.version()
    except ssl.SSLCertVerificationError as problem:
        return Check(
            "tls",
            "failed",
            f"{url.netloc}'s certificate is invalid: {problem.verify_message}.",
            "Is a proxy intercepting TLS? For a private CA, set OMNIFUND_CA_BUNDLE.",
        )
    except OSError as problem:
        return Check(
            "tls",
            "failed",
            f"No TLS connection to {url.netloc}: {problem.strerror or type(problem).__name__}.",
            "Check OMNIFUND_BASE_URL and the network.",
        )
    end = ssl.cert_time_to_seconds(str((certificate or {})["notAfter"]))
    days = int((end - time.time()) // 86_400)
    soon = days < CERTIFICATE_WARNING_DAYS
    return Check(
        "tls",
        "warning" if soon else "ok",
        f"{url.netloc} uses {version}; its certificate is valid for {days} more days.",
        "OmniFund must renew it." if soon else "",
    )


def _credentials(settings: Settings, client: OmniFund) -> Check:
    """Try a code that cannot exist: whether it or the client is rejected tells what is wrong."""
    verifier = new_code_verifier() if settings.pkce else ""
    request = AuthorizationRequest(new_state(), verifier, "/", client.clock())
    try:
        client.oauth.exchange_code(AuthorizationCode("made-up-by-the-doctor", request))
    except errors.InvalidGrant:
        return Check("credentials", "ok", "OmniFund accepts the client ID and secret.")
    except errors.ClientMisconfigured as problem:
        return Check(
            "credentials",
            "failed",
            f"OmniFund rejected this client ({problem.code}).",
            "Compare OMNIFUND_CLIENT_ID and OMNIFUND_CLIENT_SECRET with the portal. Check that the "
            "client is active and that this is the right environment.",
        )
    except OmniFundError as problem:
        return Check(
            "credentials", "failed", in_words(problem), "Check OMNIFUND_BASE_URL and the network."
        )
    return Check("credentials", "failed", "OmniFund accepted a made-up code.", "")


def _refresh(client: OmniFund) -> Check:
    """Try a refresh token that cannot exist: a client may lack the grant without noticing."""
    made_up = Token("made-up", "made-up-by-the-doctor", obtained_at=0, expires_at=0)
    try:
        client.oauth.refresh(made_up)
    except errors.InvalidGrant:
        return Check("refresh", "ok", "OmniFund lets this client refresh tokens.")
    except errors.ClientMisconfigured as problem:
        if problem.code == "invalid_client":
            return Check("refresh", "skipped", "Refreshing was not tried with these credentials.")
        return Check(
            "refresh",
            "warning",
            f"OmniFund does not let this client refresh tokens ({problem.code}).",
            "Merchants sign in again whenever an access token expires. Ask OmniFund for the grant.",
        )
    except OmniFundError as problem:
        return Check("refresh", "skipped", in_words(problem))
    return Check("refresh", "failed", "OmniFund accepted a made-up refresh token.")


def _hosts(settings: Settings) -> Check:
    host = urlsplit(settings.omnifund_redirect_uri).netloc
    if incoming.is_allowed(host, settings.allowed_hosts):
        return Check("hosts", "ok", f"ALLOWED_HOSTS allows {host}.")
    return Check(
        "hosts",
        "failed",
        f"ALLOWED_HOSTS does not allow {host}, the host of the redirect URI.",
        "Add it; otherwise no sign-in can be completed.",
    )


def _exposure(settings: Settings) -> Check:
    """Whether production offers what it should not: fine in a sandbox or a load test."""
    unusual = {
        "RATE_LIMITS=off": not settings.rate_limits,
        "METRICS=public": settings.metrics == "public",
        "FLOW_INSPECTOR=on": settings.flow_inspector,
    }
    found = [name for name, is_so in unusual.items() if is_so]
    if not found or settings.omnifund_environment != "production":
        return Check("exposure", "ok", "Limits, metrics, and the inspector suit this environment.")
    return Check(
        "exposure",
        "warning",
        f"This is production, with {', '.join(found)}.",
        "docs/going-live.md has a checklist.",
    )


def _clock(client: OmniFund) -> Check:
    ahead = client.http.clock_ahead
    if ahead is None:
        return Check("clock", "skipped", "OmniFund's time is unknown.")
    what = f"This machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} "
    what += "OmniFund's."
    if abs(ahead) > CLOCK_LIMIT_SECONDS:
        return Check("clock", "failed", what, "Sync it with NTP: token expiry will be wrong.")
    if abs(ahead) > CLOCK_WARNING_SECONDS:
        return Check("clock", "warning", what, "Sync it with NTP.")
    return Check("clock", "ok", "This machine's clock matches OmniFund's.")
