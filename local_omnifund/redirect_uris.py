"""Allowed Redirect URIs: the check before one is registered, and adding parameters to one."""

from collections.abc import Sequence
from urllib.parse import urlencode, urlsplit

MAX_LENGTH = 2000


def problem_with_redirect_uri(uri: str) -> str | None:
    """Return one sentence about why `uri` may not be registered, or None if it may be.

    RFC 6749 §3.1.2: an absolute URI without a fragment. Only http and https are accepted, because
    a browser must be able to follow the redirect.
    """
    if len(uri) > MAX_LENGTH:
        return f"It is longer than {MAX_LENGTH} characters."
    # Browsers treat a backslash as a slash and remove control characters, so the URI that a browser
    # visits would differ from the URI that was compared.
    if not uri.isascii() or not uri.isprintable() or " " in uri or "\\" in uri:
        return "It may contain only visible ASCII characters, and no backslash."
    try:
        parts = urlsplit(uri)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        return "It is not a valid URL."
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "It must be an absolute URL that begins with http:// or https://."
    if not port_is_valid:
        return "Its port is not valid."
    if "#" in uri:
        return "It must not have a fragment (#…)."
    if "@" in parts.netloc:
        return "It must not contain a username or password."
    return None


def with_query(uri: str, parameters: Sequence[tuple[str, str]]) -> str:
    """Append form-encoded `parameters` to `uri` in their order, and keep the query of `uri`."""
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode(parameters)}"
