"""Whatever a visitor sends: never an error of the server, and each response is the app's own."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote_from_bytes, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.examples import count
from tests.support.merchant import Merchant
from tests.support.rig import Fleet, fleet
from tests.support.valkey import ValkeyServer
from tests.web.test_whatever_arrives import TWENTY_DIGITS, is_the_apps_own, send

PATHS = (
    *("/", "/login", "/callback", "/dashboard", "/customers", "/transactions", "/session"),
    *("/login/password", "/logout", "/token/refresh", "/inspector", "/lab", "/healthz", "/readyz"),
    *("/metrics", "/static/app.css", "/favicon.ico"),
)
PARAMETERS = (
    *("next", "state", "code", "error", "error_description", "page", "search", "amount", "status"),
    *("csrf_token", "username", "password", "v"),
)
COOKIES = ("omnifund_session", "omnifund_attempt_x", "omnifund_visitor", "omnifund_trace", "theme")
HEADERS = (
    *("Accept", "Accept-Language", "Accept-Encoding", "Authorization", "If-Modified-Since"),
    *("If-None-Match", "Range", "Origin", "Referer", "Purpose", "Sec-Fetch-Mode", "Sec-Fetch-Site"),
    *("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"),
    *("X-Request-ID", "Content-Type", "Expect", "Upgrade"),
)

octets = st.binary(max_size=40) | st.sampled_from(
    [TWENTY_DIGITS, b"9" * 400, b"http://[", b"//e.example", b"nan", b"1e400", b"\xed\xa0\x80"]
)
# What cannot be in a header's value at all is in test_whatever_arrives.py.
values = octets.map(lambda value: bytes(byte for byte in value if byte >= 32 and byte != 127))
fields = st.lists(st.tuples(st.sampled_from(PARAMETERS), octets), max_size=4)
encoded = fields.map(lambda pairs: urlencode(pairs).encode()) | values.map(
    lambda value: value.replace(b" ", b"+")
)
targets = st.sampled_from(PATHS).map(str.encode) | octets.map(
    lambda value: b"/" + quote_from_bytes(value).encode()
)


@pytest.fixture(scope="module")
def running(valkey: ValkeyServer) -> Iterator[Fleet]:
    variables = {"TRUSTED_PROXIES": "1", "FLOW_INSPECTOR": "on"}
    with fleet(valkey.url, workers=1, variables=variables) as rig:
        yield rig


@pytest.fixture(scope="module")
def merchant(running: Fleet) -> Merchant:
    signed_in = running.merchant()
    assert signed_in.session_id
    return signed_in


@settings(
    max_examples=count(300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    method=st.sampled_from([b"GET", b"GET", b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT"]),
    target=targets,
    query=encoded,
    cookies=st.lists(st.tuples(st.sampled_from(COOKIES), values), max_size=3),
    headers=st.lists(st.tuples(st.sampled_from(HEADERS), values), max_size=3),
    form=encoded,
    has_session=st.booleans(),
)
def test_any_request_has_a_response_of_the_apps_own(
    running: Fleet,
    merchant: Merchant,
    method: bytes,
    target: bytes,
    query: bytes,
    cookies: list[tuple[str, bytes]],
    headers: list[tuple[str, bytes]],
    form: bytes,
    has_session: bool,
) -> None:
    """K1, K2, K21, E13: headers, cookies, paths, queries, and forms."""
    jar = [name.encode() + b"=" + value for name, value in cookies]
    if has_session:
        jar.append(b"omnifund_session=" + merchant.session_id.encode())
    lines = [name.encode() + b": " + value for name, value in headers]
    if method in (b"POST", b"PUT"):
        lines += [b"Content-Type: application/x-www-form-urlencoded"]
        lines += [b"Content-Length: %d" % len(form)]
    body = form if method in (b"POST", b"PUT") else b""
    line = method + b" " + target + b"?" + query
    answered = send(running, line, b"Cookie: " + b"; ".join(jar), *lines, body=body)
    assert answered.status < 500, answered
    assert is_the_apps_own(answered), answered
