"""Signing in through OmniFund's authorize page, staying, and signing out."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import redis

from tests.support.browsing import PASSWORD, SimulatedBrowser, forms, query_of
from tests.support.merchant import Merchant
from tests.support.stack import Stack, running_stack


def test_a_merchant_signs_in_sees_live_data_and_signs_out(merchant: Merchant) -> None:
    assert "Sign in with OmniFund" in merchant.get("/").text
    assert merchant.status() == {"signed_in": False}

    answer = merchant.sign_in("/customers?page=2")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/customers?page=2")

    assert merchant.status()["signed_in"] is True
    assert merchant.get("/dashboard").status_code == 200
    assert "Customers" in merchant.get("/customers?page=2").text

    answer = merchant.press("/dashboard", "/logout")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert merchant.status() == {"signed_in": False}
    assert merchant.get("/dashboard").headers["Location"] == "/login?next=/dashboard"


def test_the_redirect_to_omnifund_holds_what_it_needs_and_nothing_else(
    stack: Stack, merchant: Merchant
) -> None:
    """A1, A3, A8"""
    answer = merchant.get(
        "/login?next=/customers&client_id=x&scope=y&redirect_uri=http://evil.example&state=z"
    )
    assert answer.status_code == 302
    url = answer.headers["Location"]
    assert url.startswith(f"{stack.omnifund_url}/oauth/v2/auth?")
    query = query_of(url)
    assert set(query) == {
        "client_id",
        "response_type",
        "redirect_uri",
        "state",
        "code_challenge",
        "code_challenge_method",
    }
    assert query["client_id"] == stack.settings.omnifund_client_id
    assert query["response_type"] == "code"
    assert query["redirect_uri"] == stack.settings.omnifund_redirect_uri
    assert query["code_challenge_method"] == "S256"
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", query["state"])


def test_without_pkce_the_same_sign_in_works(redis_url: str) -> None:
    """A8"""
    with running_stack(redis_url, pkce=False) as stack:
        merchant = Merchant(stack)
        query = query_of(merchant.get("/login").headers["Location"])
        assert set(query) == {"client_id", "response_type", "redirect_uri", "state"}
        assert merchant.sign_in().status_code == 303
        assert merchant.status()["signed_in"] is True


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Purpose": "prefetch"},
        {"Purpose": "prefetch"},
        {"X-Moz": "prefetch"},
        {"X-Requested-With": "XMLHttpRequest"},
    ],
)
def test_only_a_person_opening_the_page_starts_a_sign_in(
    merchant: Merchant, headers: dict[str, str]
) -> None:
    """A1"""
    answer = merchant.get("/login", headers=headers)
    assert answer.status_code == 400
    assert "Location" not in answer.headers
    assert "Set-Cookie" not in answer.headers


def test_a_head_request_starts_nothing_and_exchanges_nothing(merchant: Merchant) -> None:
    """A1"""
    answer = merchant.request("HEAD", f"{merchant.at.url}/login")
    assert (answer.status_code, answer.headers.get("Location")) == (400, None)
    callback = merchant.authorize()
    assert merchant.request("HEAD", callback, timeout=10).status_code == 405
    assert merchant.get(callback).status_code == 303


@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host", "X-Forwarded-Proto"])
def test_the_redirect_uri_is_the_configured_one_whatever_the_request_says(
    stack: Stack, merchant: Merchant, header: str
) -> None:
    """A2"""
    answer = merchant.get("/login", headers={header: "evil.example"})
    assert query_of(answer.headers["Location"])["redirect_uri"] == (
        stack.settings.omnifund_redirect_uri
    )


def test_a_visitor_at_127_0_0_1_is_sent_to_localhost_first(
    stack: Stack, merchant: Merchant
) -> None:
    """A7"""
    port = urlsplit(stack.url).port
    here = {"Host": f"127.0.0.1:{port}"}
    answer = merchant.get("/login?next=/customers", headers=here)
    assert answer.status_code == 302
    moved = answer.headers["Location"]
    assert moved.startswith(f"http://localhost:{port}/login?next=/customers")
    assert "Set-Cookie" not in answer.headers
    # A proxy may rewrite Host every time; that must not become a loop.
    again = merchant.get(urlsplit(moved)._replace(scheme="", netloc="").geturl(), headers=here)
    assert again.headers["Location"].startswith(stack.omnifund_url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:1",
        "127.0.0.1",
        "app.example",
        "localhost.evil.example",
        "[::1]:99",
    ],
)
def test_any_other_difference_of_hosts_is_a_proxys_and_no_reason_to_move(
    stack: Stack, merchant: Merchant, host: str
) -> None:
    """A7"""
    answer = merchant.get("/login", headers={"Host": host})
    assert answer.headers["Location"].startswith(stack.omnifund_url)


def test_a_denial_is_explained_and_changes_nothing_else(merchant: Merchant) -> None:
    """B4"""
    merchant.sign_in()
    before = merchant.status()
    callback = merchant.authorize(button="rejected")
    assert query_of(callback)["error"] == "access_denied"
    answer = merchant.get(callback)
    assert answer.status_code == 403
    assert "You denied access" in answer.text
    assert "/login" in answer.text
    assert merchant.status() == before
    # The state is used up: a code that is added later opens nothing.
    replay = f"/callback?code=stolen&state={query_of(callback)['state']}"
    assert merchant.get(replay).status_code == 400


def test_reloading_the_callback_leads_to_the_dashboard_and_exchanges_nothing(
    merchant: Merchant,
) -> None:
    """B3"""
    callback = merchant.authorize()
    merchant.get(callback)
    before = merchant.status()
    for _ in range(3):
        answer = merchant.get(callback)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/dashboard")
    assert merchant.status() == before


def test_a_browser_that_missed_the_answer_gets_the_same_session_again(merchant: Merchant) -> None:
    """B3, B14"""
    callback = merchant.authorize()
    missed = merchant.get(callback).cookies["omnifund_session"]
    del merchant.cookies["omnifund_session"]
    assert merchant.status() == {"signed_in": False}
    assert merchant.get(callback).cookies["omnifund_session"] == missed
    assert merchant.status()["signed_in"] is True


def test_another_browser_cannot_use_a_callback(stack: Stack, merchant: Merchant) -> None:
    """B1"""
    callback = merchant.authorize()
    other = Merchant(stack)
    assert other.get(callback).status_code == 400
    assert other.status() == {"signed_in": False}
    assert merchant.get(callback).status_code == 303


def test_a_pending_request_is_valid_for_ten_minutes(stack: Stack, merchant: Merchant) -> None:
    """B1"""
    callback = merchant.authorize()
    stack.clock.advance(601)
    answer = merchant.get(callback)
    assert answer.status_code == 400
    assert "be completed" in answer.text


def test_two_tabs_finish_in_either_order_and_the_last_one_wins(merchant: Merchant) -> None:
    """B11"""
    first, second = merchant.authorize("/customers"), merchant.authorize("/transactions")
    assert merchant.get(second).headers["Location"] == "/transactions"
    earlier = merchant.cookies["omnifund_session"]
    assert merchant.get(first).headers["Location"] == "/customers"
    assert merchant.status()["signed_in"] is True
    del merchant.cookies["omnifund_session"]
    assert merchant.get("/session", headers={"Cookie": f"omnifund_session={earlier}"}).json() == {
        "signed_in": False
    }


def test_signing_in_again_leaves_nothing_of_the_session_before(
    stack: Stack, merchant: Merchant
) -> None:
    """B12, F1"""
    merchant.sign_in()
    with redis.Redis.from_url(stack.redis_url) as client:
        before = set(client.keys("omnifund:{*"))
        merchant.sign_in()
        after = set(client.keys("omnifund:{*"))
    assert len(after) == len(before)
    assert not before & after


def test_a_browser_has_at_most_seven_pending_requests_and_the_newest_stay(
    merchant: Merchant,
) -> None:
    """A5"""
    for _ in range(30):
        answer = merchant.get("/login")
        merchant.at.clock.advance(1)
    cookies = [c for c in merchant.cookies if c.name.startswith("omnifund_attempt_")]
    assert len(cookies) == 7
    assert all(len(f"{c.name}={c.value}") < 4096 for c in cookies)
    state = query_of(answer.headers["Location"])["state"]
    # The newest is known (its code is not), the others of the seven too.
    assert merchant.get(f"/callback?state={state}&code=x").status_code == 400


def test_a_thousand_views_and_starts_ask_nothing_of_redis(stack: Stack) -> None:
    """A6: not even a look-up, so there can be no new key."""
    visitor = stack.app.test_client(use_cookies=False)
    with redis.Redis.from_url(stack.redis_url) as client:
        before = client.info("stats")["total_commands_processed"]
        for _ in range(1000):
            assert visitor.get("/").status_code == 200
        for _ in range(100):
            assert visitor.get("/login").status_code == 302
            assert visitor.get("/login/password").status_code == 200
            assert visitor.get("/session").json == {"signed_in": False}
            assert visitor.get("/callback?code=x&state=" + "A" * 43).status_code == 400
        # The one command is this test's own INFO.
        assert client.info("stats")["total_commands_processed"] == before + 1
        assert client.keys("omnifund:*") == []


def test_the_callback_leaves_for_a_clean_address(merchant: Merchant) -> None:
    """B13"""
    answer = merchant.sign_in()
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "?" not in answer.headers["Location"]


def test_the_password_grant_signs_in(merchant: Merchant) -> None:
    answer = merchant.press(
        "/login/password?next=/customers",
        "/login/password",
        username="merchant",
        password=PASSWORD,
    )
    assert (answer.status_code, answer.headers["Location"]) == (303, "/customers")
    assert merchant.status()["signed_in"] is True


@pytest.mark.parametrize(("username", "password"), [("merchant", "wrong"), ("nobody", PASSWORD)])
def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(
    merchant: Merchant, username: str, password: str
) -> None:
    """G6"""
    answer = merchant.press(
        "/login/password", "/login/password", username=username, password=password
    )
    assert answer.status_code == 401
    assert "Incorrect username or password." in answer.text
    assert password not in answer.text
    assert merchant.status() == {"signed_in": False}


def test_the_password_form_wants_its_csrf_token(merchant: Merchant) -> None:
    """G1"""
    answer = merchant.post("/login/password", data={"username": "merchant", "password": PASSWORD})
    assert answer.status_code == 400
    assert merchant.status() == {"signed_in": False}


def test_the_password_grant_is_not_there_when_it_is_off(redis_url: str) -> None:
    """G6"""
    with running_stack(redis_url, password_grant=False) as stack:
        merchant = Merchant(stack)
        assert merchant.get("/login/password").status_code == 404
        assert merchant.post("/login/password", data={"username": "merchant"}).status_code == 404
        assert "/login/password" not in merchant.get("/").text


@pytest.mark.parametrize("path", ["/logout", "/token/refresh"])
def test_a_signed_in_form_without_its_csrf_token_does_nothing(
    merchant: Merchant, path: str
) -> None:
    """G1"""
    merchant.sign_in()
    before = merchant.status()
    assert merchant.post(path).status_code == 400
    assert merchant.post(path, data={"csrf_token": "forged"}).status_code == 400
    assert merchant.status() == before


def test_signed_out_forms_only_redirect(merchant: Merchant) -> None:
    assert merchant.post("/logout").headers["Location"] == "/"
    assert merchant.post("/token/refresh").headers["Location"] == "/login?next=/dashboard"


def test_signing_out_is_not_a_link(merchant: Merchant) -> None:
    """F3"""
    merchant.sign_in()
    assert merchant.get("/logout").status_code == 405
    assert merchant.status()["signed_in"] is True


def test_a_copied_cookie_is_dead_after_sign_out(stack: Stack, merchant: Merchant) -> None:
    """F3"""
    merchant.sign_in()
    thief = Merchant(stack)
    thief.cookies.update(merchant.cookies)
    assert thief.status()["signed_in"] is True
    merchant.press("/dashboard", "/logout")
    assert thief.status() == {"signed_in": False}
    with redis.Redis.from_url(stack.redis_url) as client:
        assert client.keys("omnifund:{*") == []


def test_idle_and_absolute_limits_end_a_session(redis_url: str) -> None:
    """F2"""
    with running_stack(redis_url, session_lifetime_seconds=3600) as stack:
        merchant = Merchant(stack)
        with redis.Redis.from_url(redis_url) as client:
            before, _ = client.time()
            merchant.sign_in()
            ends = {client.pexpiretime(key) / 1000 for key in client.keys("omnifund:{*")}
            after, _ = client.time()
        assert before + 1800 <= min(ends) <= max(ends) <= after + 1 + 1800
        stack.clock.advance(3599)
        assert merchant.status()["signed_in"] is True
        stack.clock.advance(1)
        assert merchant.status() == {"signed_in": False}
        with redis.Redis.from_url(redis_url) as client:
            assert client.keys("omnifund:{*") == []


# --- what belongs to a browser ---------------------------------------------------------------


def attempt_cookies(merchant: Merchant) -> list[str]:
    return sorted(each.name for each in merchant.cookies if "omnifund_attempt_" in each.name)


def close_the_browser(merchant: Merchant) -> None:
    """End the browser's session: cookies without an expiry are gone (RFC 6265 §5.3)."""
    merchant.cookies.clear_session_cookies()


def test_a_pending_request_ends_with_the_browsers_session(merchant: Merchant) -> None:
    """K8"""
    started = merchant.get("/login")
    (header,) = [
        value
        for name, value in started.raw.headers.items()
        if name == "Set-Cookie" and "omnifund_attempt_" in value
    ]
    attributes = {part.strip().partition("=")[0].lower() for part in header.split(";")[1:]}
    assert attributes == {"httponly", "path", "samesite"}


@pytest.mark.parametrize("is_completed", [True, False])
def test_a_callback_from_the_history_of_a_closed_browser_is_refused(
    merchant: Merchant, is_completed: bool
) -> None:
    """K8"""
    callback = merchant.authorize()
    if is_completed:
        assert merchant.get(callback).status_code == 303
    close_the_browser(merchant)
    page = merchant.get(callback)
    assert page.status_code == 400, page
    assert merchant.status() == {"signed_in": False}


def test_the_same_callback_before_the_browser_is_closed_is_a_reload(merchant: Merchant) -> None:
    """B3, K8: the test above can fail."""
    callback = merchant.authorize()
    merchant.get(callback)
    assert merchant.get(callback).status_code == 303
    assert merchant.status()["signed_in"] is True


@pytest.mark.parametrize("path", ["/", "/session", "/no-such-page", "/callback", "/dashboard"])
def test_surplus_of_sign_ins_that_started_in_parallel_is_deleted_by_any_response(
    stack: Stack, merchant: Merchant, path: str
) -> None:
    """K5: the starts don't see each other's cookies."""
    merchant.get("/login")
    tabs = [merchant.copy() for _ in range(30)]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda tab: tab.get("/login"), tabs))
    for tab in tabs:
        stack.clock.advance(0.01)
        tab.get("/login")
        merchant.cookies.update(tab.cookies)
    before = attempt_cookies(merchant)
    assert len(before) > 30
    merchant.get(path)
    assert attempt_cookies(merchant) == before[-7:]
    # The last one started can still be completed.
    newest = query_of(tabs[-1].get("/login").headers["Location"])["state"]
    assert newest
    assert merchant.sign_in().status_code == 303


@pytest.mark.parametrize("count", [0, 1, 7])
def test_as_many_as_a_browser_may_have_are_left_alone(
    stack: Stack, merchant: Merchant, count: int
) -> None:
    """K5, A5"""
    for _ in range(count):
        merchant.get("/login")
        stack.clock.advance(1)
    page = merchant.get("/")
    assert "Set-Cookie" not in page.headers
    assert len(attempt_cookies(merchant)) == count


@pytest.mark.parametrize(
    "wanted",
    [
        "/l%256fgin",
        "/l%25256fgin",
        "/a/%252e%252e/login",
        "/c%2561llback%3Fcode=x",
        "/login%252f",
        "/login%253Fnext=/x",
        "/logou%2574",
        "/t%256fken/refresh",
        "/%252flogin",
        "//evil.example",
        "/%255cevil.example",
    ],
)
def test_a_sign_in_never_leads_into_another_one(merchant: Merchant, wanted: str) -> None:
    """K6, G2: escaped once more here than the app reads it."""
    response = merchant.sign_in(wanted)
    assert (response.status_code, response.headers["Location"]) == (303, "/dashboard")
    assert merchant.get("/dashboard").status_code == 200


class TestLogout:
    """K7: a notice only after the thing has happened."""

    def test_a_post_from_another_site_shows_no_notice_and_deletes_nothing(
        self, stack: Stack, merchant: Merchant
    ) -> None:
        """K7: browsers send no SameSite=Lax cookie with it."""
        merchant.sign_in()
        stranger = SimulatedBrowser(merchant.site)
        headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}
        response = stranger.post("/logout", headers=headers)
        assert response.headers["Location"] == "/"
        merchant.cookies.update(stranger.cookies)
        for path in ("/", "/dashboard"):
            page = merchant.get(path)
            assert page.status_code == 200, page
            assert "You are signed out" not in page.text
        assert merchant.status()["signed_in"] is True
        assert merchant.stored

    @pytest.mark.parametrize("token", [{}, {"csrf_token": ""}, {"csrf_token": "forged"}])
    def test_without_the_token_nothing_is_deleted_and_nothing_is_announced(
        self, merchant: Merchant, token: dict[str, str]
    ) -> None:
        """K7, G1: a browser that does send its cookies."""
        merchant.sign_in()
        assert merchant.post("/logout", token).status_code == 400
        assert "You are signed out" not in merchant.get("/").text
        assert merchant.status()["signed_in"] is True

    def test_another_merchants_token_is_no_token(self, stack: Stack, merchant: Merchant) -> None:
        """K7, G1"""
        merchant.sign_in()
        other = Merchant(stack)
        other.sign_in()
        assert merchant.post("/logout", {"csrf_token": other.csrf_token()}).status_code == 400
        assert merchant.status()["signed_in"] is True

    def test_the_notice_comes_once_after_a_sign_out(self, merchant: Merchant) -> None:
        """K7"""
        merchant.sign_in()
        merchant.post_form("/logout")
        assert "You are signed out" in merchant.get("/").text
        assert "You are signed out" not in merchant.get("/").text


@pytest.mark.parametrize("part", ["token", "session"])
def test_when_redis_has_dropped_a_part_every_page_says_the_same(
    stack: Stack, merchant: Merchant, part: str
) -> None:
    """K31: evicted, as a Redis with a policy for it does."""
    merchant.sign_in()
    with redis.Redis.from_url(stack.redis_url) as client:
        (key,) = client.keys(f"omnifund:*:{part}")
        client.delete(key)
    assert merchant.status() == {"signed_in": False}
    for path in ("/", "/no-such-page", "/login/password", "/callback"):
        page = merchant.get(path)
        assert "/logout" not in {form.action for form in forms(page)}, page
        assert "Sign out" not in page.text, page
    for path in ("/dashboard", "/customers", "/transactions"):
        assert merchant.get(path).headers["Location"] == f"/login?next={path}"
    assert merchant.post("/token/refresh").headers["Location"] == "/login?next=/dashboard"
    assert merchant.post("/logout").headers["Location"] == "/"
    assert merchant.sign_in("/customers").headers["Location"] == "/customers"
    assert merchant.get("/customers").status_code == 200
    with redis.Redis.from_url(stack.redis_url) as client:
        for each in ("session", "token"):
            assert len(client.keys(f"omnifund:*:{each}")) == 1, "of the session before"
