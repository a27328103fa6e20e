"""Signing in through OmniFund's authorize page, staying, and signing out."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
import redis

from tests.support.stack import PASSWORD, Person, Stack, query_of, running_stack


def test_a_merchant_signs_in_sees_live_data_and_signs_out(person: Person) -> None:
    assert "Sign in with OmniFund" in person.get("/").text
    assert person.status() == {"signed_in": False}

    answer = person.sign_in("/customers?page=2")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/customers?page=2")

    assert person.status()["signed_in"] is True
    assert person.get("/dashboard").status_code == 200
    assert "Customers" in person.get("/customers?page=2").text

    answer = person.press("/dashboard", "/logout")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert person.status() == {"signed_in": False}
    assert person.get("/dashboard").headers["Location"] == "/login?next=/dashboard"


def test_the_redirect_to_omnifund_holds_what_it_needs_and_nothing_else(
    stack: Stack, person: Person
) -> None:
    """A1, A3, A8"""
    answer = person.get(
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
        person = stack.person()
        query = query_of(person.get("/login").headers["Location"])
        assert set(query) == {"client_id", "response_type", "redirect_uri", "state"}
        assert person.sign_in().status_code == 303
        assert person.status()["signed_in"] is True


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
    person: Person, headers: dict[str, str]
) -> None:
    """A1"""
    answer = person.get("/login", headers=headers)
    assert answer.status_code == 400
    assert "Location" not in answer.headers
    assert "Set-Cookie" not in answer.headers


def test_a_head_request_starts_nothing_and_redeems_nothing(person: Person) -> None:
    """A1"""
    answer = person.browser.head(f"{person.stack.url}/login", allow_redirects=False, timeout=10)
    assert (answer.status_code, answer.headers.get("Location")) == (400, None)
    callback = person.authorize()
    assert person.browser.head(callback, timeout=10).status_code == 405
    assert person.get(callback).status_code == 303


@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host", "X-Forwarded-Proto"])
def test_the_redirect_uri_is_the_configured_one_whatever_the_request_says(
    stack: Stack, person: Person, header: str
) -> None:
    """A2"""
    answer = person.get("/login", headers={header: "evil.example"})
    assert query_of(answer.headers["Location"])["redirect_uri"] == (
        stack.settings.omnifund_redirect_uri
    )


def test_somebody_who_came_to_127_0_0_1_is_sent_to_localhost_first(
    stack: Stack, person: Person
) -> None:
    """A7"""
    port = urlsplit(stack.url).port
    here = {"Host": f"127.0.0.1:{port}"}
    answer = person.get("/login?next=/customers", headers=here)
    assert answer.status_code == 302
    moved = answer.headers["Location"]
    assert moved.startswith(f"http://localhost:{port}/login?next=/customers")
    assert "Set-Cookie" not in answer.headers
    # A proxy may rewrite Host every time; that must not become a loop.
    again = person.get(urlsplit(moved)._replace(scheme="", netloc="").geturl(), headers=here)
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
    stack: Stack, person: Person, host: str
) -> None:
    """A7"""
    answer = person.get("/login", headers={"Host": host})
    assert answer.headers["Location"].startswith(stack.omnifund_url)


def test_a_denial_is_explained_and_changes_nothing_else(person: Person) -> None:
    """B4"""
    person.sign_in()
    before = person.status()
    callback = person.authorize(answer="rejected")
    assert query_of(callback)["error"] == "access_denied"
    answer = person.get(callback)
    assert answer.status_code == 403
    assert "You denied access" in answer.text
    assert "/login" in answer.text
    assert person.status() == before
    # The state is used up: a code that somebody adds later opens nothing.
    replay = f"/callback?code=stolen&state={query_of(callback)['state']}"
    assert person.get(replay).status_code == 400


def test_reloading_the_callback_leads_to_the_dashboard_and_redeems_nothing(
    person: Person,
) -> None:
    """B3"""
    callback = person.authorize()
    person.get(callback)
    before = person.status()
    for _ in range(3):
        answer = person.get(callback)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/dashboard")
    assert person.status() == before


def test_a_browser_that_missed_the_answer_gets_the_same_session_again(person: Person) -> None:
    """B3, B14"""
    callback = person.authorize()
    missed = person.get(callback).cookies["omnifund_session"]
    del person.browser.cookies["omnifund_session"]
    assert person.status() == {"signed_in": False}
    assert person.get(callback).cookies["omnifund_session"] == missed
    assert person.status()["signed_in"] is True


def test_another_browser_cannot_use_a_callback(stack: Stack, person: Person) -> None:
    """B1"""
    callback = person.authorize()
    other = stack.person()
    assert other.get(callback).status_code == 400
    assert other.status() == {"signed_in": False}
    assert person.get(callback).status_code == 303


def test_an_attempt_is_good_for_ten_minutes(stack: Stack, person: Person) -> None:
    """B1"""
    callback = person.authorize()
    stack.clock.advance(601)
    answer = person.get(callback)
    assert answer.status_code == 400
    assert "be completed" in answer.text


def test_two_tabs_finish_in_either_order_and_the_last_one_wins(person: Person) -> None:
    """B11"""
    first, second = person.authorize("/customers"), person.authorize("/transactions")
    assert person.get(second).headers["Location"] == "/transactions"
    earlier = person.browser.cookies["omnifund_session"]
    assert person.get(first).headers["Location"] == "/customers"
    assert person.status()["signed_in"] is True
    del person.browser.cookies["omnifund_session"]
    assert person.get("/session", headers={"Cookie": f"omnifund_session={earlier}"}).json() == {
        "signed_in": False
    }


def test_signing_in_again_leaves_nothing_of_the_session_before(
    stack: Stack, person: Person
) -> None:
    """B12, F1"""
    person.sign_in()
    with redis.Redis.from_url(stack.redis_url) as client:
        before = set(client.keys("omnifund:{*"))
        person.sign_in()
        after = set(client.keys("omnifund:{*"))
    assert len(after) == len(before)
    assert not before & after


def test_at_most_seven_attempts_live_in_a_browser_and_the_newest_survive(person: Person) -> None:
    """A5"""
    for _ in range(30):
        answer = person.get("/login")
        person.stack.clock.advance(1)
    cookies = [c for c in person.browser.cookies if c.name.startswith("omnifund_attempt_")]
    assert len(cookies) == 7
    assert all(len(f"{c.name}={c.value}") < 4096 for c in cookies)
    state = query_of(answer.headers["Location"])["state"]
    # The newest is known (its code is not), the others of the seven too.
    assert person.get(f"/callback?state={state}&code=x").status_code == 400


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


def test_the_callback_leaves_for_a_clean_address(person: Person) -> None:
    """B13"""
    answer = person.sign_in()
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "?" not in answer.headers["Location"]


def test_the_password_work_flow_signs_in(person: Person) -> None:
    answer = person.press(
        "/login/password?next=/customers",
        "/login/password",
        username="merchant",
        password=PASSWORD,
    )
    assert (answer.status_code, answer.headers["Location"]) == (303, "/customers")
    assert person.status()["signed_in"] is True


@pytest.mark.parametrize(("username", "password"), [("merchant", "wrong"), ("nobody", PASSWORD)])
def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(
    person: Person, username: str, password: str
) -> None:
    """G6"""
    answer = person.press(
        "/login/password", "/login/password", username=username, password=password
    )
    assert answer.status_code == 401
    assert "Incorrect username or password." in answer.text
    assert password not in answer.text
    assert person.status() == {"signed_in": False}


def test_the_password_form_wants_its_csrf_token(person: Person) -> None:
    """G1"""
    answer = person.post("/login/password", data={"username": "merchant", "password": PASSWORD})
    assert answer.status_code == 400
    assert person.status() == {"signed_in": False}


def test_the_password_work_flow_is_not_there_when_it_is_off(redis_url: str) -> None:
    """G6"""
    with running_stack(redis_url, password_grant=False) as stack:
        person = stack.person()
        assert person.get("/login/password").status_code == 404
        assert person.post("/login/password", data={"username": "merchant"}).status_code == 404
        assert "/login/password" not in person.get("/").text


@pytest.mark.parametrize("path", ["/logout", "/token/refresh"])
def test_a_signed_in_form_without_its_csrf_token_does_nothing(person: Person, path: str) -> None:
    """G1"""
    person.sign_in()
    before = person.status()
    assert person.post(path).status_code == 400
    assert person.post(path, data={"csrf_token": "forged"}).status_code == 400
    assert person.status() == before


def test_signed_out_forms_only_redirect(person: Person) -> None:
    assert person.post("/logout").headers["Location"] == "/"
    assert person.post("/token/refresh").headers["Location"] == "/login?next=/dashboard"


def test_signing_out_is_not_a_link(person: Person) -> None:
    """F3"""
    person.sign_in()
    assert person.get("/logout").status_code == 405
    assert person.status()["signed_in"] is True


def test_a_copied_cookie_is_dead_after_sign_out(stack: Stack, person: Person) -> None:
    """F3"""
    person.sign_in()
    thief = stack.person()
    thief.browser.cookies.update(person.browser.cookies)
    assert thief.status()["signed_in"] is True
    person.press("/dashboard", "/logout")
    assert thief.status() == {"signed_in": False}
    with redis.Redis.from_url(stack.redis_url) as client:
        assert client.keys("omnifund:{*") == []


def test_idle_and_absolute_limits_end_a_session(redis_url: str) -> None:
    """F2"""
    with running_stack(redis_url, session_lifetime_seconds=3600) as stack:
        person = stack.person()
        person.sign_in()
        with redis.Redis.from_url(redis_url) as client:
            assert {client.ttl(key) for key in client.keys("omnifund:{*")} <= {1799, 1800}
        stack.clock.advance(3599)
        assert person.status()["signed_in"] is True
        stack.clock.advance(1)
        assert person.status() == {"signed_in": False}
        with redis.Redis.from_url(redis_url) as client:
            assert client.keys("omnifund:{*") == []
