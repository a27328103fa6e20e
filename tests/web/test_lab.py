"""``/lab``: where it exists, what it may do, and what a page says about it."""

from __future__ import annotations

import pytest
from werkzeug.test import Client

from app import create_app
from tests.support.rig import rig
from tests.support.stack import Person, Stack, app_settings, running_stack


@pytest.mark.parametrize("path", ["/lab", "/lab/five-tabs", "/lab/deny"])
def test_outside_local_there_is_no_lab(redis_url: str, path: str) -> None:
    settings = app_settings(
        redis_url,
        omnifund_environment="sandbox",
        omnifund_client_id="1_x",
        omnifund_client_secret="made-up-secret-made-up",
        omnifund_redirect_uri="https://app.example.com/callback",
    )
    client: Client = create_app(settings).test_client()
    assert client.get(path).status_code == 404
    assert client.post(path).status_code in (400, 404)


def test_its_page_alone_may_lead_a_form_to_omnifund(stack: Stack, person: Person) -> None:
    """G3"""
    lab = person.get("/lab").headers["Content-Security-Policy"]
    assert f"form-action 'self' {stack.omnifund_url};" in lab
    assert (
        lab.replace(f" {stack.omnifund_url}", "")
        == (person.get("/").headers["Content-Security-Policy"])
    )


def test_a_card_wants_the_forms_token(person: Person) -> None:
    """G1"""
    assert person.post("/lab/deny").status_code == 400
    assert person.press("/lab", "/lab/deny").status_code == 302


def test_an_unknown_card_is_not_there(person: Person) -> None:
    token = {"csrf_token": _csrf_token(person)}
    assert person.post("/lab/no-such-card", data=token).status_code == 404


def test_a_card_that_needs_a_connection_asks_a_stranger_to_sign_in(person: Person) -> None:
    answer = person.post("/lab/api_403", data={"csrf_token": _csrf_token(person)})
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/login?next=")


def test_an_omnifund_without_switches_is_said_so(redis_url: str) -> None:
    with rig(redis_url) as app:
        merchant = app.merchant()
        answer = merchant.press("/lab/api_403")
        assert answer.status_code == 503
        assert "no such fault to switch on" in answer.text


def test_the_explanation_appears_once_and_only_for_known_cards(person: Person) -> None:
    answer = person.get("/", headers={"Cookie": "omnifund_lab=deny"})
    assert "The merchant presses Deny" in answer.text
    assert "omnifund_lab=;" in answer.headers["Set-Cookie"]
    answer = person.get("/", headers={"Cookie": "omnifund_lab=<script>"})
    assert "Back to the lab" not in answer.text


def test_whoever_came_by_the_other_name_of_this_machine_is_sent_over(
    stack: Stack, person: Person
) -> None:
    """A7"""
    port = stack.settings.app_port
    answer = person.browser.get(f"http://127.0.0.1:{port}/lab", allow_redirects=False, timeout=5)
    assert answer.headers["Location"] == f"http://localhost:{port}/lab?moved=1"
    moved = f"http://127.0.0.1:{port}/lab?moved=1"
    assert person.browser.get(moved, allow_redirects=False, timeout=5).status_code == 200


def test_without_the_demos_launcher_redis_is_not_offered_to_be_stopped(person: Person) -> None:
    person.sign_in()
    page = person.get("/lab").text
    assert "/lab/redis_outage" not in page
    token = {"csrf_token": _csrf_token(person)}
    assert person.post("/lab/redis_outage", data=token).status_code == 404


@pytest.mark.parametrize(("seconds", "words"), [(330, "5 minutes ahead"), (-120, "behind")])
def test_clocks_that_disagree_are_pointed_out(person: Person, seconds: int, words: str) -> None:
    person.sign_in()
    assert "The clocks disagree" not in person.get("/dashboard").text
    person.stack.clock.advance(seconds)
    person.get("/customers")
    page = person.get("/dashboard").text
    assert "The clocks disagree" in page
    assert words in page


def test_developers_get_the_cause_while_the_inspector_is_on(redis_url: str) -> None:
    for inspector in (True, False):
        with running_stack(redis_url, flow_inspector=inspector) as stack:
            page = stack.person().get("/callback?state=x&code=y")
            assert page.status_code == 400
            assert ("AttemptInvalid" in page.text) is inspector
            assert ('href="/inspector"' in page.text) is inspector


def _csrf_token(person: Person) -> str:
    page = person.get("/lab").text
    return page.split('name="csrf_token" value="')[1].split('"')[0]
