"""K55: odd bytes, odd URLs, and lone surrogates in everything that Local OmniFund reads.

Written to a socket, because HTTP clients correct what they send, and to gunicorn, because it passes
on what a test server would not.
"""

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote_from_bytes, urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local_omnifund.settings import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET
from tests.local_omnifund.conftest import REDIRECT_URI
from tests.local_omnifund.visitor import AUTHORIZE_FORM, Visitor
from tests.support.browsing import form_to, forms, query_of
from tests.support.processes import wait_until
from tests.support.servers import Gunicorn
from tests.support.valkey import ValkeyServer

ELSEWHERE = "elsewhere.example"
VALUES = [
    # URLs that cannot be parsed, or lead elsewhere.
    *(b"http://[", b"http://]", b"http://[::1", b"http://a:b", b"//[", b"http://localhost:99999/"),
    *(f"{prefix}{ELSEWHERE}/".encode() for prefix in ("https://", "//", "/\\", "http:\\\\")),
    *(b"javascript:alert(1)", f"{REDIRECT_URI}@{ELSEWHERE}/".encode()),
    # Bytes that are no text, lone surrogates, characters that only look like digits.
    *(b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc2\xb2", b"\xc3\xbc", b"\xef\xbb\xbf"),
    # Line breaks, also as the octal escapes of a quoted cookie, and other control characters.
    *(b"\r\nX-Injected: 1", b'"\\015\\012X-Injected: 1"', b"\0", b"\x1b[31m", b"\x7f", b"\t", b" "),
    # What has a meaning to parsers.
    *(b"", b"%", b"%zz", b"&&==", b";", b",", b'"', b"'", b"\\", b"=?utf-8?q?=ff?=", b"a=b; c"),
    *(
        b"..",
        b"../..",
        b"[",
        b"[]",
        b"{",
        b"null",
        b"true",
        b"-1",
        b"0",
        b"1e999",
        b"nan",
        b"\\u0000",
    ),
    *(b"9" * 30, b"9" * 3000, b"[" * 3000, b"x" * 7000),
]
FORM = "application/x-www-form-urlencoded"


@dataclass
class Address:
    """A running server, and a merchant who is signed in there."""

    server: Gunicorn
    port: int
    session: str
    csrf_token: str
    access_token: str
    code: str

    def send(self, request: bytes) -> bytes:
        """Send `request` on a connection of its own; return the whole response."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(request)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
        return received

    def request(
        self, method: str, path: bytes, body: bytes | None = None, **headers: bytes
    ) -> bytes:
        """Build a request. `headers`: `_` stands for `-`; the session's cookie is added."""
        given = {
            "Host": f"localhost:{self.port}".encode(),
            "Cookie": f"PHPSESSID={self.session}".encode(),
            "Connection": b"close",
        }
        if body is not None:
            given |= {"Content-Type": FORM.encode(), "Content-Length": str(len(body)).encode()}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [b"%s %s HTTP/1.1" % (method.encode(), path)]
        lines += [b"%s: %s" % (name.encode(), value) for name, value in given.items()]
        return b"\r\n".join([*lines, b"", body or b""])


Place = Callable[[Address, bytes], bytes]


def in_query(path: str, name: str, **others: str) -> Place:
    """A value in a query, percent-encoded."""
    start = f"{path}?{urlencode(others)}&{quote_from_bytes(name.encode())}=".encode()
    return lambda at, value: at.request("GET", start + quote_from_bytes(value).encode())


def in_path(before: str, method: str = "GET") -> Place:
    """A value as a segment of the path."""
    return lambda at, value: at.request(
        method, before.encode() + quote_from_bytes(value, safe="/").encode()
    )


def in_form(
    path: str, name: str, csrf_field: str = "", method: str = "POST", **others: str
) -> Place:
    """A value in a form's field, beside the right CSRF token."""

    def place(at: Address, value: bytes) -> bytes:
        fields = others | ({csrf_field: at.csrf_token} if csrf_field else {})
        start = f"{urlencode(fields)}&{quote_from_bytes(name.encode())}=".encode()
        return at.request(method, path.encode(), start + quote_from_bytes(value).encode())

    return place


def in_header(
    method: str, path: str, name: str, before: bytes = b"", body: bytes | None = None
) -> Place:
    """A value in a header, as it is."""

    def place(at: Address, value: bytes) -> bytes:
        # Line breaks in a header are another request, or another header.
        raw = before + value.replace(b"\r\n", b"\r")
        return at.request(method, path.encode(), body, **{name: raw})

    return place


def in_body(path: str, content_type: str, before: bytes = b"", after: bytes = b"") -> Place:
    """A value as the body."""
    return lambda at, value: at.request(
        "POST", path.encode(), before + value + after, Content_Type=content_type.encode()
    )


CREDENTIALS = {"client_id": DEMO_CLIENT_ID, "client_secret": DEMO_CLIENT_SECRET}
AUTHORIZE = {
    "client_id": DEMO_CLIENT_ID,
    "response_type": "code",
    "redirect_uri": REDIRECT_URI,
    "state": "xyz",
}
CONSENT = {f"{AUTHORIZE_FORM}[{name}]": value for name, value in AUTHORIZE.items()}
CODE_GRANT = CREDENTIALS | {
    "grant_type": "authorization_code",
    "code": "c",
    "redirect_uri": REDIRECT_URI,
}
PASSWORD_GRANT = CREDENTIALS | {
    "grant_type": "password",
    "username": "merchant",
    "password": "local-omnifund-demo",
}
REFRESH_GRANT = CREDENTIALS | {"grant_type": "refresh_token", "refresh_token": "r"}
PKCE_NAMES = ("code_challenge", "code_challenge_method")
CUSTOMERS = ("id", "id[]", "id[0]", "customerRef", "firstName", "lastName", "company", "email")
TRANSACTIONS = (
    *("id", "customer", "customer[]", "amount", "amount[]", "referenceId", "page", "tranDate"),
    *(f"tranDate[{comparison}]" for comparison in ("gte", "gt", "lte", "lt", "between")),
)
BEARER = b"Bearer "


def api(path: str, name: str) -> Place:
    """A value in a filter of the API, with a good access token."""
    start = f"/api/{path}?{quote_from_bytes(name.encode())}=".encode()
    return lambda at, value: at.request(
        "GET",
        start + quote_from_bytes(value).encode(),
        Authorization=BEARER + at.access_token.encode(),
    )


def json_member(path: str, before: str) -> Place:
    """A value as a JSON string, bytes as they are."""
    return in_body(path, "application/json", before.encode() + b'"', b'"}')


PLACES: dict[str, Place] = {
    **{
        f"authorize {name}": in_query(
            "/oauth/v2/auth", name, **{k: v for k, v in AUTHORIZE.items() if k != name}
        )
        for name in (*AUTHORIZE, "scope", *PKCE_NAMES, "unknown")
    },
    **{
        f"consent {name}": in_form(
            "/oauth/v2/auth",
            f"{AUTHORIZE_FORM}[{name}]",
            f"{AUTHORIZE_FORM}[_token]",
            **CONSENT,
            accepted="",
        )
        for name in (*AUTHORIZE, "scope", *PKCE_NAMES, "_token", "unknown")
    },
    "consent denied, state": in_form(
        "/oauth/v2/auth", f"{AUTHORIZE_FORM}[state]", f"{AUTHORIZE_FORM}[_token]", **CONSENT
    ),
    "consent accepted": in_form(
        "/oauth/v2/auth", "accepted", f"{AUTHORIZE_FORM}[_token]", **CONSENT
    ),
    **{
        f"login {name}": in_form("/login_check", name, "_csrf_token")
        for name in ("_username", "_password")
    },
    **{
        f"csrf token of {path}": in_form(path, "_csrf_token")
        for path in ("/login_check", "/logout", "/switch-account", "/faults/switch")
    },
    **{
        f"{form['grant_type']} {name}": in_form("/oauth/v2/token", name, **form)
        for form in (CODE_GRANT, PASSWORD_GRANT, REFRESH_GRANT)
        for name in (*form, "scope", "code_verifier")
    },
    "token by GET": in_query("/oauth/v2/token", "client_id", grant_type="password"),
    "token as JSON": in_body("/oauth/v2/token", "application/json"),
    "a JSON string for the token endpoint": json_member(
        "/oauth/v2/token", '{"grant_type":"password","client_id":'
    ),
    "multipart": in_body(
        "/oauth/v2/token",
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="grant_type"\r\n\r\n',
        b"\r\n--b--\r\n",
    ),
    "multipart header": in_body(
        "/oauth/v2/token", "multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: "
    ),
    **{f"customers {name}": api("customers", name) for name in (*CUSTOMERS, "page")},
    **{f"transactions {name}": api("transactions-history", name) for name in TRANSACTIONS},
    "access_token": in_query("/api/customers", "access_token"),
    "page of the portal": in_query("/transactions", "page"),
    **{
        f"path {before}": in_path(before)
        for before in ("/", "/api/", "/api/transactions-history/", "/profile/api-access/")
    },
    "static file": in_path("/static/"),
    "a fault to disable": in_path("/faults/", "DELETE"),
    **{
        f"fault {name}": in_form("/faults", name, id="deny", scope="state", state="s")
        for name in ("id", "scope", "state", "times")
    },
    **{
        f"replaced fault {name}": in_form(
            "/faults", name, method="PUT", id="deny", scope="state", state="s"
        )
        for name in ("id", "scope", "state")
    },
    **{
        f"fault page {name}": in_form("/faults/switch", name, "_csrf_token")
        for name in ("fault", "switch")
    },
    "fault as JSON": in_body("/faults", "application/json"),
    "a JSON string for the faults": json_member("/faults", '{"id":"deny","scope":"state","state":'),
    "a fault by query": in_query("/faults.json", "scope"),
    **{f"Host of {path}": in_header("GET", path, "Host") for path in ("/", "/login", "/faults")},
    **{
        f"{name} of a fault": in_header("POST", "/faults", name, body=b"id=no-such-fault")
        for name in ("Origin", "Sec_Fetch_Site", "Content_Type", "Authorization")
    },
    "Origin with a scheme": in_header("POST", "/faults", "Origin", b"http://", b"id=none"),
    "bearer of a fault": in_header(
        "POST", "/faults", "Authorization", BEARER, b"id=deny&scope=bearer"
    ),
    "Cookie": in_header("GET", "/login", "Cookie"),
    "PHPSESSID": in_header("GET", "/customers", "Cookie", b"PHPSESSID="),
    "browser": in_header("GET", "/faults", "Cookie", b"local_omnifund_browser="),
    "callback": in_header("GET", "/faults/last-callback", "Cookie", b"local_omnifund_callback="),
    **{
        f"{name} in the callback cookie": in_header(
            "GET", "/faults/last-callback", "Cookie", b"local_omnifund_callback=" + before
        )
        for name, before in {
            "client": b"redirect_uri=http://localhost:8000/callback&client_id=",
            "redirect URI": f"client_id={DEMO_CLIENT_ID}&redirect_uri=".encode(),
            "parameters": f"client_id={DEMO_CLIENT_ID}&redirect_uri={REDIRECT_URI}"
            "&parameters=".encode(),
        }.items()
    },
    **{
        f"Authorization {scheme.decode()} of {path}": in_header(
            "GET", path, "Authorization", scheme
        )
        for scheme in (b"", b"Basic ", BEARER, b"Digest ")
        for path in ("/api/customers", "/oauth/v2/token?grant_type=password")
    },
    "Accept": in_header("GET", f"/oauth/v2/auth?client_id={DEMO_CLIENT_ID}", "Accept"),
    "Accept with a weight": in_header(
        "GET", f"/oauth/v2/auth?client_id={DEMO_CLIENT_ID}", "Accept", b"text/html;q="
    ),
    **{
        f"{name} of a file": in_header("GET", "/static/portal.css", name)
        for name in ("If_None_Match", "If_Modified_Since", "If_Range", "Range")
    },
    "Range in bytes": in_header("GET", "/static/portal.css", "Range", b"bytes="),
    "Content-Type of the token endpoint": in_header(
        "POST", "/oauth/v2/token", "Content_Type", body=b"grant_type=password"
    ),
    "boundary": in_header(
        "POST", "/oauth/v2/token", "Content_Type", b"multipart/form-data; boundary=", b"--b\r\n"
    ),
    "charset": in_header(
        "POST", "/oauth/v2/token", "Content_Type", FORM.encode() + b"; charset=", b"code=%ff"
    ),
}


@pytest.fixture(scope="module")
def at(valkey: ValkeyServer) -> Iterator[Address]:
    """Local OmniFund as `make demo` starts it, with a merchant who is signed in."""
    valkey.flush()
    environment = {"REDIS_URL": valkey.url, "DRAIN_SECONDS": "0"}
    with Gunicorn("local_omnifund:create_app()", environment, workers=1) as server:
        with Visitor(server.url) as visitor:
            visitor.sign_in()
            location = visitor.decide(AUTHORIZE).headers["Location"]
            page = visitor.get("/")
            token = visitor.post("/oauth/v2/token", PASSWORD_GRANT).json()["access_token"]
            yield Address(
                server,
                server.port,
                visitor.http.cookies["PHPSESSID"],
                form_to(page, "/logout").fields["_csrf_token"],
                token,
                query_of(location)["code"],
            )
        assert "Traceback" not in server.log


def problem_with(at: Address, response: bytes, place: str) -> str | None:
    """What is wrong with a response, if anything is."""
    head = response.partition(b"\r\n\r\n")[0].decode("latin-1")
    status = re.match(r"HTTP/1\.1 (\d{3}) ", head)
    if status is None or int(status[1]) >= 500:
        return head.partition("\r\n")[0] or "no response"
    if "\nX-Injected" in head:
        return "a header of the visitor's"
    found = re.search(r"^Location: (.*)$", head, re.MULTILINE | re.IGNORECASE)
    if found is None or place.startswith("Host"):
        return None
    location = found[1].strip()
    host = urlsplit(location).netloc if not location.startswith("/\\") else location
    if host in {"", "localhost:8000", f"localhost:{at.port}"}:
        return None
    return f"leads to {location}"


@pytest.mark.parametrize("place", PLACES)
def test_nothing_odd_is_an_error_of_this_server_or_leads_elsewhere(at: Address, place: str) -> None:
    """K55: `Origin: http://[`, `local_omnifund_callback=http://[`, and their relatives."""
    problems = {
        value: problem
        for value in VALUES
        if (problem := problem_with(at, at.send(PLACES[place](at, value)), place))
    }

    assert problems == {}


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(place=st.sampled_from(sorted(PLACES)), value=st.binary(max_size=60))
def test_no_bytes_are_an_error_of_this_server_or_lead_elsewhere(
    at: Address, place: str, value: bytes
) -> None:
    """K55"""
    assert problem_with(at, at.send(PLACES[place](at, value)), place) is None


@pytest.mark.parametrize(
    "path",
    [
        *("/profile/api-access/a%0d%0aX-Injected:%201", "/profile/api-access/%ed%a0%80"),
        *("/profile/api-access/%c3%bc?%ff=%0d%0a", "/customers?page=%0d%0aX-Injected:%201"),
        *(f"/customers?page=//{ELSEWHERE}", f"/oauth/v2/auth?{urlencode(AUTHORIZE)}&state=%0d%0aX"),
        *("/customers?page=[&page=http://[", "/profile/api-access/http:[", "/transactions?%00=%00"),
    ],
)
def test_an_odd_page_is_found_again_after_the_login(at: Address, path: str) -> None:
    """K55: the page that led to the login page travels through the session into `Location`."""
    head = at.send(at.request("GET", path.encode(), Cookie=b"")).decode("latin-1")
    session = re.search(r"PHPSESSID=([^;]+)", head)
    assert session is not None, head
    with Visitor(f"http://localhost:{at.port}") as visitor:
        visitor.http.cookies.set("PHPSESSID", session[1], domain="localhost.local", path="/")
        signed_in = visitor.sign_in()
        location = signed_in.headers["Location"]

        assert signed_in.status_code == 302
        assert location.startswith(f"{visitor.site}{path.partition('?')[0][:12]}")
        assert visitor.get(location).status_code in {200, 404}


@pytest.mark.parametrize("value", VALUES)
def test_an_odd_request_to_switch_accounts_leads_to_an_odd_authorization_request(
    at: Address, value: bytes
) -> None:
    """K55"""
    with Visitor(f"http://localhost:{at.port}") as visitor:
        visitor.sign_in()
        form = form_to(visitor.get("/oauth/v2/auth", AUTHORIZE), "/switch-account")
        query = f"client_id={DEMO_CLIENT_ID}&state=".encode() + value
        visitor.http.post(
            visitor.site + form.action,
            data=form.fields | {"query": query},
            allow_redirects=False,
            timeout=20,
        ).raise_for_status()
        location = visitor.sign_in().headers["Location"]

        assert location.startswith(f"{visitor.site}/oauth/v2/auth?client_id=")


@pytest.mark.parametrize("value", VALUES)
def test_an_odd_redirect_uri_or_name_of_a_client_is_saved_or_explained(
    at: Address, value: bytes
) -> None:
    """K55"""
    with Visitor(f"http://localhost:{at.port}") as visitor:
        visitor.sign_in()
        made = visitor.submit(form_to(visitor.get("/profile/api-access"), "/profile/api-access"))
        path = made.headers["Location"]
        for field in ("name", "redirect_uris"):
            form = forms(visitor.get(path))[1]
            saved = visitor.http.post(
                visitor.site + path,
                data=form.fields | {field: value},
                allow_redirects=False,
                timeout=20,
            )
            assert saved.status_code in {303, 422}


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"5\r\nab\r\n0\r\n\r\n",
        b"-1\r\n",
        b"3\r\nabcX\r\n",
        b"3;\xff\r\n",
    ],
)
@pytest.mark.parametrize("content_type", [FORM, "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("path", ["/oauth/v2/token", "/oauth/v2/auth", "/login_check", "/faults"])
def test_a_body_in_malformed_chunks_is_the_clients_error(
    at: Address, path: str, content_type: str, body: bytes
) -> None:
    """K55"""
    headers = {"Transfer_Encoding": b"chunked", "Content_Type": content_type.encode()}
    request = at.request("POST", path.encode(), **headers) + body

    assert at.send(request).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "line", [b"GET ?client_secret=hush HTTP/1.1", b"GET /login?password=hush hush HTTP/1.1"]
)
def test_a_request_line_that_cannot_be_read_is_not_logged(at: Address, line: bytes) -> None:
    """K49"""
    said = at.server.log.count("Invalid request from ip=127.0.0.1\n")
    assert at.send(line + b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    wait_until(lambda: at.server.log.count("Invalid request from ip=127.0.0.1\n") > said)
    assert "hush" not in at.server.log


# --- the cookie of the last callback -------------------------------------------------------------


@pytest.mark.parametrize(
    "cookie",
    [
        b"http://[",
        b"https://elsewhere.example/callback?code=c&state=s",
        b"//elsewhere.example/",
        b"http://localhost:8000/callback?code=c&state=s",
        f"client_id={DEMO_CLIENT_ID}&redirect_uri=https://{ELSEWHERE}/".encode(),
        f"client_id={DEMO_CLIENT_ID}&redirect_uri={REDIRECT_URI}x".encode(),
        f"client_id=9_unknown&redirect_uri={REDIRECT_URI}".encode(),
        b"",
    ],
)
def test_a_callback_cookie_of_another_application_is_refused(at: Address, cookie: bytes) -> None:
    """K55: every application on localhost, on any port, can write this cookie."""
    response = at.send(
        at.request("GET", b"/faults/last-callback", Cookie=b"local_omnifund_callback=" + cookie)
    )

    assert response.startswith(b"HTTP/1.1 404 ")
    assert b"\nLocation" not in response


@pytest.mark.parametrize(
    ("parameters", "query"),
    [
        (b"code%3Dc%26state%3Ds", "code=c&state=s"),
        (b"%23@elsewhere.example/", "%23%40elsewhere.example%2F="),
        (b"%0d%0aX-Injected: 1", "%0D%0AX-Injected%3A+1="),
        (b"\\015\\012X-Injected: 1", "%0D%0AX-Injected%3A+1="),
        (b"code=%ed%a0%80", "code=%EF%BF%BD%EF%BF%BD%EF%BF%BD"),
    ],
)
def test_what_the_cookie_adds_to_a_registered_redirect_uri_stays_in_its_query(
    at: Address, parameters: bytes, query: str
) -> None:
    """K55"""
    start = f"client_id={DEMO_CLIENT_ID}&redirect_uri={REDIRECT_URI}&parameters=".encode()
    response = at.send(
        at.request(
            "GET",
            b"/faults/last-callback",
            Cookie=b'local_omnifund_callback="' + start + parameters + b'"',
        )
    )

    location = re.search(rb"\nLocation: (\S+)\r", response)
    assert location is not None, response
    assert location[1].decode() == f"{REDIRECT_URI}?{query}"
    assert b"\nX-Injected" not in response


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://[", 403),
        ("http://localhost:{port}", 201),
        ("http://localhost:{port}/", 403),
        ("http://localhost:{port}@elsewhere.example", 403),
        ("http://elsewhere.example#localhost:{port}", 403),
        ("localhost:{port}", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_fault_is_enabled_by_this_servers_own_origin_only(
    at: Address, origin: str, status: int
) -> None:
    """K55"""
    sent = origin.format(port=at.port).encode()
    response = at.send(at.request("POST", b"/faults", b"id=deny&scope=state&state=x", Origin=sent))

    assert response.startswith(b"HTTP/1.1 %d " % status)
