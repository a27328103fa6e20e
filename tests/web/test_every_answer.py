"""What every answer has in common: headers, status, plain words; also when Redis is away."""

from __future__ import annotations

import re
from html import unescape
from typing import cast

import pytest
import requests
from flask import Request, request, session

from app import create_app
from omnifund.errors import ReauthorizationRequired
from tests.support.browsing import form_to
from tests.support.logs import printed
from tests.support.merchant import Merchant
from tests.support.stack import Stack, app_settings, running_stack
from tests.support.valkey import ValkeyServer
from web.errors import STILL_SIGNED_IN
from web.incoming import is_allowed

PATHS = [
    "/",
    "/dashboard",
    "/login",
    "/login/password",
    "/callback",
    "/session",
    "/healthz",
    "/readyz",
    "/metrics",
    "/static/app.css",
    "/static/no-such-file",
    "/no-such-page",
    "/logout",
]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_carries_the_security_headers(merchant: Merchant, path: str) -> None:
    """G3"""
    answer = merchant.get(path)
    policy = answer.headers["Content-Security-Policy"]
    for directive in (
        "default-src 'none'",
        "object-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ):
        assert directive in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["X-Request-ID"]
    if path != "/static/app.css":
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Cookie" in answer.headers["Vary"]


def test_the_content_security_policy_allows_the_apps_own_files_and_nothing_else(
    merchant: Merchant,
) -> None:
    """G3: no host, no scheme, no wildcard, no hash; what can be injected cannot run."""
    policy = merchant.get("/").headers["Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert set(directives.values()) <= {"'none'", "'self'"}
    assert {name for name, value in directives.items() if value == "'none'"} == {
        "default-src",
        "object-src",
        "base-uri",
        "frame-ancestors",
    }
    assert directives["script-src"] == directives["form-action"] == "'self'"


def test_with_https_the_cookies_and_headers_insist_on_it(redis_url: str) -> None:
    """F4, G3"""
    https = "https://app.example/callback"
    with running_stack(redis_url, omnifund_redirect_uri=https) as stack:
        client = stack.app.test_client()
        for path in ("/", "/login", "/static/app.css", "/x"):
            with client.get(path) as answer:
                assert "max-age=31536000" in answer.headers["Strict-Transport-Security"]
        cookies = client.get("/login").headers.getlist("Set-Cookie")
        cookies += client.get("/login/password").headers.getlist("Set-Cookie")
        assert len(cookies) == 2
        for cookie in cookies:
            assert cookie.startswith("__Host-omnifund_")
            attributes = {part.strip() for part in cookie.split(";")[1:]}
            assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= attributes
            assert not any(part.startswith("Domain") for part in attributes)


@pytest.mark.parametrize(
    ("redirect_uri", "hsts", "header"),
    [
        ("https://app.example/callback", "on", "max-age=31536000"),
        ("https://app.example/callback", "subdomains", "max-age=31536000; includeSubDomains"),
        ("https://app.example/callback", "off", None),
        ("https://localhost/callback", "subdomains", None),
        ("https://127.0.0.1/callback", "on", None),
        ("http://localhost:8000/callback", "subdomains", None),
    ],
)
def test_hsts_is_for_this_host_unless_configured(
    redis_url: str, redirect_uri: str, hsts: str, header: str | None
) -> None:
    """P12"""
    app = create_app(app_settings(redis_url, omnifund_redirect_uri=redirect_uri, hsts=hsts))
    answer = app.test_client().get("/healthz")
    assert answer.headers.get("Strict-Transport-Security") == header


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/no-such-page", 404),
        ("GET", "/static/../app.py", 404),
        ("GET", "/%00", 404),
        ("GET", "/customers/%2e%2e/x", 404),
        ("POST", "/", 405),
        ("PUT", "/dashboard", 405),
        ("DELETE", "/callback", 405),
        ("GET", "/token/refresh", 405),
        ("GET", "/callback?state=%ff%fe", 400),
        ("GET", "/callback?" + "a=b&" * 2000, 400),
        ("GET", "/login?next=%00", 302),
    ],
)
def test_whatever_arrives_gets_the_right_status_and_a_plain_sentence(
    merchant: Merchant, method: str, path: str, status: int
) -> None:
    answer = merchant.request(method, merchant.at.url + path)
    assert answer.status_code == status
    assert "Traceback" not in answer.text
    if status >= 400:
        assert "<h1" in answer.text
        assert answer.headers["X-Request-ID"] in answer.text


def test_a_form_that_is_too_large_is_refused(merchant: Merchant) -> None:
    merchant.get("/login/password")
    answer = merchant.post("/login/password", data={"username": "x" * 100_000})
    assert answer.status_code == 413
    assert "larger than this app accepts" in answer.text


def test_an_unexpected_error_is_a_plain_page_whose_reference_is_in_the_log(
    stack: Stack, capfd: pytest.CaptureFixture[str]
) -> None:
    """G7"""

    def broken() -> str:
        raise RuntimeError("this must not be on a page")

    stack.app.view_functions["pages.landing"] = broken
    answer = Merchant(stack).get("/")
    assert answer.status_code == 500
    assert "Something went wrong" in answer.text
    assert "must not be on a page" not in answer.text
    reference = answer.headers["X-Request-ID"]
    assert reference in answer.text
    (line,) = [each for each in printed(capfd).splitlines() if "page:error:unexpected" in each]
    assert reference in line
    assert "must not be on a page" in line


def test_a_failed_sign_in_leaves_an_earlier_session_in_view(merchant: Merchant) -> None:
    merchant.sign_in()
    page = merchant.get(merchant.authorize(button="rejected"))
    assert page.status_code == 403
    assert STILL_SIGNED_IN in unescape(page.text)
    assert 'href="/dashboard">Go to the dashboard' in page.text
    assert merchant.get("/dashboard").status_code == 200
    stranger = Merchant(merchant.at)
    page = stranger.get(stranger.authorize(button="rejected"))
    assert STILL_SIGNED_IN not in unescape(page.text)
    assert "Go to the dashboard" not in page.text


def test_every_error_leads_a_signed_in_merchant_to_the_dashboard(redis_url: str) -> None:
    """L17: and a visitor to the front page; the words name neither of the two."""

    def broken() -> str:
        raise RuntimeError

    with running_stack(redis_url, rate_limits=True) as stack:
        stack.app.view_functions["pages.landing"] = broken
        merchant, stranger = Merchant(stack), Merchant(stack)
        merchant.sign_in()
        for person, way_on in (
            (merchant, ["Go to the dashboard", "/dashboard"]),
            (stranger, ["Go to the home page", "/"]),
        ):
            pages = [
                person.get("/no-such-page"),
                person.get("/token/refresh"),
                person.post("/login/password", {"csrf_token": "expired"}),
                person.post("/login/password", b"x" * 3_000_000),
                person.get("/"),
                *(person.get("/login") for _ in range(101)),
            ]
            shown = {page.status_code: page for page in pages if page.status_code != 302}
            assert set(shown) == {400, 404, 405, 413, 429, 500}
            for page in shown.values():
                ways_on = re.findall(r'<a class="button[^>]*href="([^"]*)">([^<]*)', page.text)
                assert [[name, url] for url, name in ways_on] == [way_on], page
                assert "to the home page." not in page.text
        # Where the dashboard itself fails, it is no way on.
        stack.app.view_functions["pages.dashboard"] = broken
        assert "Go to the home page" in merchant.get("/dashboard").text


def test_a_notice_stands_on_the_very_next_page_and_on_no_other(merchant: Merchant) -> None:
    merchant.sign_in()
    merchant.press("/dashboard", "/token/refresh")
    assert "Tokens refreshed" in merchant.get("/customers").text
    assert "Tokens refreshed" not in merchant.get("/dashboard").text
    merchant.press("/dashboard", "/token/refresh")
    assert "Tokens refreshed" in merchant.get("/no-such-page").text
    assert "Tokens refreshed" not in merchant.get("/dashboard").text


def test_programs_get_errors_as_json(merchant: Merchant) -> None:
    answer = merchant.get("/no-such-page", headers={"Accept": "application/json"})
    assert answer.status_code == 404
    assert answer.json()["reference"] == answer.headers["X-Request-ID"]


def test_text_from_a_query_is_not_shown_as_the_apps_own_words(merchant: Merchant) -> None:
    """B5, B7"""
    state = "A" * 43
    for description in ("<script>alert(1)</script>", "\u202eyou owe 5 USD", "x" * 8000):
        answer = merchant.get(
            "/callback",
            params={"state": state, "error": "oops", "error_description": description},
        )
        assert answer.status_code == 400
        assert description[:20] not in answer.text
        assert "oops" not in answer.text


def seconds_of_redis(merchant: Merchant) -> float:
    """How long this app has waited for Redis in all, by its own metrics."""
    found = re.search(r"^omnifund_redis_seconds_sum (\S+)$", merchant.get("/metrics").text, re.M)
    assert found is not None
    return float(found[1])


class TestRedisAway:
    """F5, F6, F8"""

    @pytest.fixture(autouse=True)
    def bring_it_back(self, valkey: ValkeyServer) -> object:
        yield
        valkey.resume()

    def test_a_silent_redis_means_503_soon_and_the_cookie_stays(
        self, stack: Stack, merchant: Merchant, valkey: ValkeyServer
    ) -> None:
        merchant.sign_in()
        cookie = merchant.cookies["omnifund_session"]
        valkey.pause()
        for path in ("/dashboard", "/customers", "/session"):
            before = seconds_of_redis(merchant)
            answer = merchant.get(path)
            assert seconds_of_redis(merchant) - before < 2
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert "Set-Cookie" not in answer.headers
            assert "You have not been signed out" in answer.text or path == "/session"
        assert merchant.get("/healthz").status_code == 200
        assert merchant.get("/static/app.css").status_code == 200
        assert merchant.get("/readyz").status_code == 503
        assert Merchant(stack).get("/").status_code == 200
        valkey.resume()
        assert merchant.status()["signed_in"] is True
        assert merchant.cookies["omnifund_session"] == cookie

    def test_a_connection_that_ends_while_redis_is_away_is_503_and_not_500(
        self, stack: Stack, merchant: Merchant, valkey: ValkeyServer
    ) -> None:
        """F8: removing what is left of the session fails inside an error handler."""
        merchant.sign_in()

        def ended() -> str:
            valkey.pause()
            raise ReauthorizationRequired("the connection has ended")

        stack.app.view_functions["pages.landing"] = ended
        answer = merchant.get("/")
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "Set-Cookie" not in answer.headers

    def test_a_failed_button_leads_back_to_the_dashboard(
        self, merchant: Merchant, valkey: ValkeyServer
    ) -> None:
        merchant.sign_in()
        page = merchant.get("/dashboard")
        valkey.pause()
        for action in ("/token/refresh", "/logout"):
            answer = merchant.submit(form_to(page, action))
            assert answer.status_code == 503
            assert 'href="/dashboard">Go to the dashboard' in answer.text

    @pytest.mark.parametrize(
        ("path", "action"), [("/lab", "/lab/deny"), ("/login/password", "/login/password")]
    )
    def test_a_form_that_cannot_be_checked_has_not_expired(
        self, merchant: Merchant, valkey: ValkeyServer, path: str, action: str
    ) -> None:
        """Its token is in the session that cannot be read now."""
        merchant.sign_in()
        page = merchant.get(path)
        valkey.pause()
        answer = merchant.submit(form_to(page, action), {"username": "x", "password": "x"})
        assert answer.status_code == 503
        assert "You have not been signed out" in answer.text

    def test_a_session_that_cannot_be_saved_is_a_line_without_a_traceback(
        self,
        stack: Stack,
        merchant: Merchant,
        valkey: ValkeyServer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Redis goes away while the page is being made."""

        def change_the_session() -> str:
            session["changed"] = True
            valkey.pause()
            return "done"

        merchant.sign_in()
        stack.app.view_functions["pages.dashboard"] = change_the_session
        assert merchant.get("/dashboard").status_code == 503
        assert len(caplog.records) > 0
        assert [record for record in caplog.records if record.exc_info] == []

    def test_a_sign_out_that_failed_is_not_called_a_success(
        self, merchant: Merchant, valkey: ValkeyServer
    ) -> None:
        merchant.sign_in()
        page = merchant.get("/dashboard")
        valkey.pause()
        answer = merchant.submit(form_to(page, "/logout"))
        assert answer.status_code == 503
        assert "Set-Cookie" not in answer.headers
        valkey.resume()
        assert merchant.status()["signed_in"] is True

    def test_a_callback_that_redis_could_not_claim_exchanges_no_code(
        self, merchant: Merchant, valkey: ValkeyServer
    ) -> None:
        """F5: Redis may carry out the claim when it wakes up, long after the request has ended."""
        callback = merchant.authorize()
        valkey.pause()
        assert merchant.get(callback).status_code == 503
        valkey.resume()
        assert merchant.get(callback).status_code in (303, 400)
        assert merchant.sign_in().status_code == 303

    def test_closed_idle_connections_are_not_noticed(
        self, merchant: Merchant, valkey: ValkeyServer
    ) -> None:
        """F6: as after a restart or a fail-over that kept the data."""
        merchant.sign_in()
        for _ in range(3):
            with valkey.client() as client:
                client.client_kill_filter(_type="normal", skipme=True)
            assert merchant.get("/customers").status_code == 200
            with valkey.client() as client:
                client.client_kill_filter(_type="normal", skipme=True)
            assert merchant.press("/dashboard", "/token/refresh").status_code == 303

    def test_a_restarted_redis_costs_one_sign_in(
        self, merchant: Merchant, valkey: ValkeyServer
    ) -> None:
        """F6"""
        merchant.sign_in()
        callback = merchant.authorize()
        valkey.kill()
        assert merchant.get("/dashboard").status_code == 503
        assert merchant.get(callback).status_code == 503
        valkey.start()
        assert merchant.get("/dashboard").headers["Location"] == "/login?next=/dashboard"


def test_ready_means_that_redis_takes_a_write(merchant: Merchant) -> None:
    """H3"""
    assert merchant.get("/readyz").json() == {"status": "ready"}


def test_metrics_count_outcomes_and_identify_no_one(merchant: Merchant) -> None:
    """H4"""
    merchant.sign_in()
    text = merchant.get("/metrics").text
    assert 'omnifund_events_total{event="sign_in:attempt:succeeded",outcome=""} 1.0' in text
    assert "merchant" not in text
    assert merchant.cookies["omnifund_session"] not in text


def test_a_foreign_host_is_refused_where_hosts_are_configured(redis_url: str) -> None:
    """G4"""
    with running_stack(redis_url, allowed_hosts=("app.example", ".shop.example")) as stack:
        client = stack.app.test_client()
        for host, status in (
            ("app.example", 200),
            ("app.example:8000", 200),
            ("a.shop.example", 200),
            ("evil.example", 400),
            ("app.example.evil.example", 400),
            ("app.example@evil.example", 400),
            ("", 400),
            ("APP.Example.", 200),
            ("notshop.example", 400),
            ("shop.example", 200),
        ):
            answer = client.get("/", headers={"Host": host})
            assert answer.status_code == status, host
            assert "evil" not in answer.text


@pytest.mark.parametrize(
    ("host", "allowed", "expected"),
    [
        ("shop.example.com", "Shop.Example.com", True),
        ("SHOP.example.com:443", "shop.example.com", True),
        ("a.shop.example.com", ".Shop.Example.com", True),
        ("[::1]:8000", "[::1]", True),
        ("[::1]", "::1", True),
        ("[::2]", "[::1]", False),
        ("[::1].evil", "[::1]", False),
        ("[::1]evil:80", "[::1]", False),
        ("evil[::1]", "[::1]", False),
        ("[::1]..:80", "[::1]", False),
        ("::1", "[::1]", False),
        ("192.0.2.7:80", "192.0.2.7", True),
        ("192.0.2.77", "192.0.2.7", False),
    ],
)
def test_an_allowed_host_may_be_an_ip_address_and_is_in_any_case(
    host: str, allowed: str, expected: bool
) -> None:
    """K33"""
    assert is_allowed(host, (allowed,)) is expected


@pytest.mark.parametrize("host", ["10.0.0.7:8000", "app-7f9c.svc", "a..b", ""])
def test_probes_and_scrapes_are_served_whatever_the_host(
    redis_url: str, host: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """K34, P3; and a host that is refused is in the log."""
    with running_stack(redis_url, allowed_hosts=("app.example",)) as stack:
        client = stack.app.test_client()
        for path in ("/healthz", "/readyz", "/metrics"):
            assert client.get(path, headers={"Host": host}).status_code == 200
        for path in ("/", "/healthz/", "/metrics/x", "/login"):
            assert client.get(path, headers={"Host": host}).status_code == 400
    lines = printed(capfd)
    assert lines.count("http:host:refused") == 4
    assert host in lines


@pytest.mark.parametrize("host", ["a..b", ".localhost", "..", f"{'a' * 64}.example"])
@pytest.mark.parametrize("allowed", [(), ("app.example",)])
def test_a_host_that_no_machine_can_have_is_refused_with_a_page(
    redis_url: str, host: str, allowed: tuple[str, ...]
) -> None:
    """G4"""
    with running_stack(redis_url, allowed_hosts=allowed) as stack:
        client = stack.app.test_client()
        for path in ("/", "/dashboard", "/session", "/static/no-such-file", "/no-such-page"):
            answer = client.get(path, headers={"Host": host, "Accept": "text/html"})
            assert (answer.status_code, path) == (400, path)
            assert '<a class="button' in answer.text
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert client.post("/logout", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("query", ["x=\xff", "\xe9", "state=%ff"])
def test_a_query_that_is_not_utf_8_is_no_obstacle_to_a_page(redis_url: str, query: str) -> None:
    """K1: not every server refuses the raw bytes."""
    with running_stack(redis_url) as stack:
        client = stack.app.test_client(use_cookies=False)
        overrides = {"QUERY_STRING": query}
        for method, path, status in (
            *(("GET", "/nothing", 404), ("POST", "/", 405), ("GET", "/callback", 400)),
            *(("GET", "/dashboard", 302), ("GET", "/customers", 302)),
        ):
            answer = client.open(path, method=method, environ_overrides=overrides)
            assert (answer.status_code, path) == (status, path)
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_only_a_form_is_read(merchant: Merchant) -> None:
    """A probe, a file, or a page that does not exist is what it is, whatever is sent to it."""
    too_long = "x" * 70_000
    for method, path, status in (
        *(("GET", "/healthz", 200), ("GET", "/static/app.css", 200), ("POST", "/nothing", 404)),
        *(("POST", "/", 405), ("PUT", "/logout", 405), ("POST", "/logout", 413)),
    ):
        answer = merchant.http.request(
            method, merchant.site + path, data=too_long, allow_redirects=False, timeout=10
        )
        assert (answer.status_code, path) == (status, path)


def test_no_form_of_any_page_does_anything_without_its_token(merchant: Merchant) -> None:
    """G1: those of the demo, and of pages to come. ``CSRFProtect`` checks POST, and not HEAD."""
    merchant.sign_in()
    forms = 0
    for rule in merchant.at.app.url_map.iter_rules():
        unsafe = (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}
        assert unsafe <= {"POST"}, rule
        if unsafe:
            answer = merchant.post(re.sub(r"<[^>]+>", "x", rule.rule), {})
            assert (answer.status_code, "form has expired" in answer.text) == (400, True), rule
            forms += 1
    assert forms > 5
    assert merchant.get("/session").json()["signed_in"] is True


def seen_by_the_app(stack: Stack, headers: dict[str, str], path: str = "/") -> Request:
    """The request as the app's views see it."""
    seen = []

    def look() -> str:
        seen.append(request._get_current_object())  # type: ignore[attr-defined]  # of the proxy
        return ""

    stack.app.view_functions["pages.landing"] = look
    stack.app.test_client(use_cookies=False).get(path, headers=headers)
    (found,) = seen
    return cast(Request, found)


@pytest.mark.parametrize(("proxies", "address"), [(0, "127.0.0.1"), (1, "2.2.2.2"), (2, "1.1.1.1")])
def test_forwarded_headers_are_trusted_from_the_configured_number_of_proxies(
    redis_url: str, proxies: int, address: str
) -> None:
    """G4"""
    with running_stack(redis_url, trusted_proxies=proxies) as stack:
        seen = seen_by_the_app(stack, {"X-Forwarded-For": "1.1.1.1, 2.2.2.2"})
        assert seen.remote_addr == address


@pytest.mark.parametrize(
    ("appended", "address"),
    [
        ("203.0.113.7:4711", "203.0.113.7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:db8:0:0:0:0:0:7:4711", "2001:db8:0:0:0:0:0:7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::2:3:4:5:6:7:8", "::2:3:4:5:6:7:8"),
        ("203.0.113.7", "203.0.113.7"),
        ("unknown:4711", "unknown"),
    ],
)
def test_a_port_is_no_part_of_an_address(redis_url: str, appended: str, address: str) -> None:
    """K42"""
    with running_stack(redis_url, trusted_proxies=1) as stack:
        seen = seen_by_the_app(stack, {"X-Forwarded-For": f"1.1.1.1, {appended}"})
        assert seen.remote_addr == address


@pytest.mark.parametrize(
    "visitors", ['"', '"1.1.1.1', '\\"', '", "', '""', ",", '"\\', "1.1.1.1,,"]
)
@pytest.mark.parametrize("name", ["For", "Proto", "Host", "Port"])
def test_a_visitor_cannot_shape_what_the_trusted_proxy_appends(
    redis_url: str, visitors: str, name: str
) -> None:
    """K43: a lone quote makes a quoted string of everything after it."""
    appended = {"For": "203.0.113.7", "Proto": "https", "Host": "shop.example", "Port": "8443"}
    with running_stack(redis_url, trusted_proxies=1) as stack:
        header = f"{visitors}, {appended[name]}"
        seen = seen_by_the_app(stack, {f"X-Forwarded-{name}": header})
        found = {
            "For": seen.remote_addr,
            "Proto": seen.scheme,
            "Host": seen.host,
            "Port": seen.host.rpartition(":")[2],
        }
        assert found[name] == appended[name]


@pytest.mark.parametrize(
    ("proxies", "given", "kept"),
    [
        (1, "0f8fad5b-d9cb-469f-a165-70867728950e", True),
        (0, "0f8fad5b-d9cb-469f-a165-70867728950e", False),
        (1, "short", False),
        (1, "<script>alert(1)</script>", False),
        (1, "x" * 100, False),
    ],
)
def test_a_request_id_comes_in_from_a_proxy_and_goes_out_again(
    redis_url: str, proxies: int, given: str, kept: bool
) -> None:
    with running_stack(redis_url, trusted_proxies=proxies) as stack:
        answer = stack.app.test_client().get("/no-such-page", headers={"X-Request-ID": given})
        assert (answer.headers["X-Request-ID"] == given) is kept
        assert (given in answer.text) is kept


def test_an_answer_names_no_server_software_of_its_own(merchant: Merchant) -> None:
    answer: requests.Response = merchant.get("/")
    assert "X-Powered-By" not in answer.headers
