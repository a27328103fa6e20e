"""What can be found out about a configuration without a merchant: the checks of ``doctor``."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

import certifi

from config import LOOPBACK_HOSTS, ConfigurationError, Settings
from omnifund import callback, errors
from omnifund.attempts import Attempt
from omnifund.errors import OmniFundError, StoreUnavailable
from omnifund.events import ignore
from omnifund.redis_client import connect
from web.integration import Integration

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
    errors.GrantRejected: "OmniFund does not accept these credentials.",
    errors.ClientMisconfigured: "OmniFund does not accept this client; the doctor says more.",
    errors.OmniFundUnavailable: "OmniFund cannot be reached right now.",
    errors.OmniFundTimeout: "OmniFund took too long to answer.",
    errors.InvalidResponse: "OmniFund's answer could not be understood.",
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
    try:
        known = settings()
    except ConfigurationError as problem:
        for name, what in problem.problems.items():
            yield Check("variables", "failed", f"{name} {what}.")
        yield Check("rest", "skipped", "The rest waits for these.", "README lists every variable.")
        return
    yield Check("variables", "ok", f"The variables are complete ({known.omnifund_environment}).")
    parts = make_parts(known)
    yield _redirect_uri(known)
    yield from _redis(known, parts)
    yield _tls(known)
    yield _credentials(parts)
    # Last, because it is the answer to the request before that tells OmniFund's time.
    yield _clock(parts)


def make_parts(settings: Settings) -> Integration:
    """Return the integration's parts, without anything that logs or counts."""
    return Integration.from_settings(
        settings,
        connect(settings.redis_url.get_secret_value()),
        clock=time.time,
        observe=ignore,
        time_redis=lambda _seconds: None,
    )


def _redirect_uri(settings: Settings) -> Check:
    uri = settings.omnifund_redirect_uri
    if urlsplit(uri).hostname in LOOPBACK_HOSTS and settings.omnifund_environment == "production":
        return Check(
            "redirect_uri",
            "warning",
            f"The redirect URI is {uri}: only a browser on this machine comes back.",
            "Set OMNIFUND_REDIRECT_URI to the address that merchants reach the app by.",
        )
    return Check(
        "redirect_uri",
        "ok",
        f"The redirect URI is {uri}.",
        "In OmniFund's portal it has to be an Allowed Redirect URI, to the letter.",
    )


def _redis(settings: Settings, parts: Integration) -> Iterator[Check]:
    try:
        parts.store.execute(("SET", "omnifund:doctor", b"1", "EX", 10))
        (info,) = parts.store.execute(("INFO",))
    except StoreUnavailable as problem:
        cause = f" ({problem.__cause__})" if problem.__cause__ else ""
        yield Check(
            "redis",
            "failed",
            f"Redis cannot be reached, or takes no write{cause}.",
            "Check REDIS_URL, the server and its password.",
        )
        return
    facts = _facts(info)
    version = facts.get("valkey_version") or facts.get("redis_version") or "of an unknown version"
    yield Check("redis", "ok", f"Redis answers and takes writes ({version}).")
    policy = facts.get("maxmemory_policy", "unknown")
    yield (
        Check("redis_eviction", "ok", f"Redis evicts nothing (maxmemory-policy {policy}).")
        if policy == "noeviction"
        else Check(
            "redis_eviction",
            "failed",
            f"Redis may drop sessions when memory is short (maxmemory-policy {policy}).",
            "Set maxmemory-policy to noeviction.",
        )
    )
    yield _redis_tls(settings)


def _redis_tls(settings: Settings) -> Check:
    url = urlsplit(settings.redis_url.get_secret_value())
    if url.scheme in ("rediss", "unix") or url.hostname in LOOPBACK_HOSTS:
        return Check("redis_tls", "ok", "Nobody can listen on the way to Redis.")
    return Check(
        "redis_tls",
        "warning",
        "Redis is reached without TLS.",
        "Use rediss:// unless the network between is your own.",
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
        return Check("tls", "skipped", f"No TLS to {url.netloc}: plain http is for local only.")
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
            f"The certificate of {url.netloc} is not good: {problem.verify_message}.",
            "Is something between? A private authority goes into OMNIFUND_CA_BUNDLE.",
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
        f"{url.netloc} speaks {version}; its certificate is good for {days} more days.",
        "OmniFund has to renew it." if soon else "",
    )


def _credentials(parts: Integration) -> Check:
    """Try a code that cannot exist: whether it or the client is refused says what is wrong."""
    attempt = Attempt.start("/", pkce=parts.settings.pkce, now=parts.clock())
    query = [("code", "made-up-by-the-doctor"), ("state", attempt.state)]
    try:
        parts.gateway.redeem(callback.read(query, attempt, issuer=parts.gateway.issuer))
    except errors.GrantRejected:
        return Check("credentials", "ok", "OmniFund accepts the client id and the client secret.")
    except errors.ClientMisconfigured as problem:
        return Check(
            "credentials",
            "failed",
            f"OmniFund refuses this client ({problem.code}).",
            "Compare OMNIFUND_CLIENT_ID and OMNIFUND_CLIENT_SECRET with the portal; is the client "
            "active, and is this the right environment?",
        )
    except OmniFundError as problem:
        return Check("credentials", "failed", in_words(problem), "Check OMNIFUND_BASE_URL.")
    return Check("credentials", "failed", "OmniFund has accepted a made-up code.", "")


def _clock(parts: Integration) -> Check:
    ahead = parts.transport.clock_ahead
    if ahead is None:
        return Check("clock", "skipped", "OmniFund has not told its time.")
    what = f"This machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} "
    what += "OmniFund's."
    if abs(ahead) > CLOCK_LIMIT_SECONDS:
        return Check("clock", "failed", what, "Set it by NTP: tokens seem to expire wrongly.")
    if abs(ahead) > CLOCK_WARNING_SECONDS:
        return Check("clock", "warning", what, "Set it by NTP.")
    return Check("clock", "ok", "This machine's clock agrees with OmniFund's.")
