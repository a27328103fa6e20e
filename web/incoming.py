"""What arrives, before a view sees it: proxies, hosts, and what Werkzeug cannot read."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from string import punctuation
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from flask import Flask, abort, request
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.http import parse_date, parse_if_range_header, parse_range_header
from werkzeug.middleware.proxy_fix import ProxyFix

from config import Settings, web_address
from web import health
from web.logging import log

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication, WSGIEnvironment

MAX_FORM_BYTES: Final = 64 * 1024

REFUSED_STATUS: Final = "omnifund.refused_status"
"""Where the server says with which status to refuse a request that it could not read."""

_REFUSED_HOST: Final = "omnifund.refused_host"


def _one_byte_range(value: str) -> object:
    found = parse_range_header(value)
    return found if found and found.units == "bytes" and len(found.ranges) == 1 else None


# Werkzeug raises on some values of these, such as a year of twenty digits. A condition or a range
# that cannot be read is ignored (RFC 9110 §13.1.3 and §14.2).
_ETAG: Final = r'(?:W/)?"[^"\x00-\x20\x7f]*"'
_ETAGS: Final = re.compile(rf"\*|{_ETAG}(?:\s*,\s*{_ETAG})*")
_OPTIONAL: Final[dict[str, Callable[[str], object]]] = {
    "HTTP_IF_MODIFIED_SINCE": parse_date,
    "HTTP_IF_UNMODIFIED_SINCE": parse_date,
    "HTTP_IF_MATCH": _ETAGS.fullmatch,
    "HTTP_IF_NONE_MATCH": _ETAGS.fullmatch,
    "HTTP_IF_RANGE": parse_if_range_header,
    "HTTP_RANGE": _one_byte_range,
}


def init_app(app: Flask, settings: Settings) -> None:
    """Let only what can be read reach ``app``."""
    app.config.update(MAX_CONTENT_LENGTH=MAX_FORM_BYTES, MAX_FORM_MEMORY_SIZE=MAX_FORM_BYTES)
    # Otherwise Werkzeug redirects //path to /path, on the host that the Host header names.
    app.url_map.merge_slashes = False
    app.before_request(_refuse)
    readable = _readable(app.wsgi_app, settings)
    if settings.trusted_proxies:
        readable = _behind_proxies(readable, settings.trusted_proxies)
    app.wsgi_app = readable  # type: ignore[assignment,method-assign]  # as Flask documents it


def client_ip() -> IPv4Address | IPv6Address | None:
    """Return the client's IP address; a Unix socket has none, nor do some proxies send one."""
    try:
        return ip_address(request.remote_addr or "")
    except ValueError:
        return None


def is_allowed(host: str, allowed: tuple[str, ...]) -> bool:
    """Whether ``host`` is a host with an optional port, and one of ``allowed`` if there are any."""
    try:
        url = web_address(f"http://{host}")
    except ValueError:
        return False
    name = (url.hostname or "").rstrip(".")
    entries = [entry.lower().strip("[]") for entry in allowed]
    return not url.path and (
        not entries
        or any(name == e.lstrip(".") or (e[0] == "." and name.endswith(e)) for e in entries)
    )


def _readable(app: WSGIApplication, settings: Settings) -> WSGIApplication:
    own_host = urlsplit(settings.omnifund_redirect_uri).netloc
    mount_path = settings.mount_path

    def readable(environ: WSGIEnvironment, start_response: Any) -> Any:
        environ["REMOTE_ADDR"] = _without_port(environ.get("REMOTE_ADDR", ""))
        # Werkzeug decodes a query as UTF-8; some servers pass on other bytes.
        environ["QUERY_STRING"] = quote(
            environ.get("QUERY_STRING", ""), safe=punctuation, encoding="latin-1"
        )
        for name, parse in _OPTIONAL.items():
            if name in environ and not _can_be_read(environ[name], parse):
                del environ[name]
        if mount_path:
            # Whether a proxy in front strips that path or not.
            path = environ["PATH_INFO"]
            if f"{path}/".startswith(f"{mount_path}/"):
                environ["PATH_INFO"] = path[len(mount_path) :] or "/"
            environ["SCRIPT_NAME"] = mount_path
        host = environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
        if not is_allowed(host, settings.allowed_hosts):
            # The page that says so has links, which need a host that can be read.
            environ["HTTP_HOST"] = own_host
            if environ["PATH_INFO"] not in health.PATHS:
                environ[_REFUSED_HOST] = host
        return app(environ, start_response)

    return readable


def _can_be_read(value: str, parse: Callable[[str], object]) -> bool:
    try:
        return parse(value) is not None
    except (ValueError, OverflowError):
        return False


def _without_port(address: str) -> str:
    """Return the IP address in ``192.0.2.1:4711``, ``[2001:db8::7]:4711`` or without brackets."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    with suppress(ValueError):
        ip_address(address)
        return address
    return address.rpartition(":")[0] or address


def _behind_proxies(app: WSGIApplication, count: int) -> WSGIApplication:
    """Return ``app`` as seen through ``count`` trusted proxies."""
    fixed = ProxyFix(app, x_for=count, x_proto=count, x_host=count, x_port=count)

    def without_quotes(environ: WSGIEnvironment, start_response: Any) -> Any:
        # X-Forwarded-* have no quoted strings, but Werkzeug reads lists as if they had: a visitor's
        # lone quote would swallow what the trusted proxy appended.
        for name in [name for name in environ if name.startswith("HTTP_X_FORWARDED_")]:
            environ[name] = environ[name].replace('"', "")
        return fixed(environ, start_response)

    return without_quotes


def _refuse() -> None:
    if (status := request.environ.get(REFUSED_STATUS)) is not None:
        abort(status)
    if (host := request.environ.get(_REFUSED_HOST)) is not None:
        log.warning("http:host:refused", host=host[:100])
        abort(400)
    if request.method != "POST" or request.url_rule is None:
        return
    try:
        # Now: what the server cannot read, or what is longer than a form may be, is the client's
        # mistake. Werkzeug cuts a body in chunks at its limit, unless somebody reads on.
        request.get_data()
        request.stream.read(1)
    except HTTPException:
        raise
    except Exception as error:
        raise BadRequest from error
