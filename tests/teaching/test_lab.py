"""``/lab``: where it exists, what it may do, and what a page says about it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from werkzeug.test import Client

from app import create_app
from demo import recorder
from demo.failures import CARDS, Card
from demo.lab import proof_source
from demo.rules import describe
from omnifund.client import OmniFund
from tests.support.browsing import csrf_token_of, forms
from tests.support.merchant import Merchant
from tests.support.rig import rig
from tests.support.stack import Stack, app_settings, running_stack


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


@pytest.mark.parametrize("path", ["/lab", "/lab/deny"])
def test_its_pages_alone_may_lead_a_form_to_omnifund(
    stack: Stack, merchant: Merchant, path: str
) -> None:
    """G3"""
    lab = merchant.get(path).headers["Content-Security-Policy"]
    assert f"form-action 'self' {stack.omnifund_url};" in lab
    assert (
        lab.replace(f" {stack.omnifund_url}", "")
        == (merchant.get("/").headers["Content-Security-Policy"])
    )


def test_a_card_wants_the_forms_token(merchant: Merchant) -> None:
    """G1"""
    assert merchant.post("/lab/deny").status_code == 400
    assert merchant.press("/lab", "/lab/deny").status_code == 302


def test_an_unknown_card_is_not_there(merchant: Merchant) -> None:
    token = {"csrf_token": csrf_token_of(merchant.get("/lab").text)}
    assert merchant.post("/lab/no-such-card", data=token).status_code == 404


def test_a_card_that_needs_a_connection_leads_to_the_sign_in(merchant: Merchant) -> None:
    answer = merchant.post(
        "/lab/api_403", data={"csrf_token": csrf_token_of(merchant.get("/lab").text)}
    )
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/login?next=")


def test_a_card_shows_the_test_that_proves_it_from_the_files_beside_the_app(
    merchant: Merchant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = merchant.get("/lab/deny").text
    assert "def test_a_denial_is_explained_and_changes_nothing_else" in page
    assert CARDS["deny"].proof in page
    # An image for production holds no tests.
    monkeypatch.setattr(recorder, "ROOT", tmp_path)
    page = merchant.get("/lab/deny").text
    assert "installed here" in page
    assert merchant.get("/lab/no-such-card").status_code == 404


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS.keys())
def test_the_proof_that_a_card_names_exists(card: Card) -> None:
    source = proof_source(card.proof)
    assert source is not None
    assert "def " in dict(source.lines)[source.place.line]


def test_after_a_card_has_run_the_lab_leads_to_its_conversation(merchant: Merchant) -> None:
    merchant.sign_in()
    page = merchant.get(merchant.press("/lab", "/lab/api_500").headers["Location"])
    assert 'href="/lab#api_500"' in page.text
    shown = re.search(r'href="/inspector\?show=([0-9a-f]+)"', merchant.get("/lab").text)
    assert shown is not None
    assert "OmniFundUnavailable" in merchant.get(f"/inspector?show={shown[1]}").text


def test_the_story_of_a_revoked_connection_survives_its_session(merchant: Merchant) -> None:
    """Its session is gone when the page that follows is shown, and so is what lay beside it."""
    merchant.sign_in()
    answer = merchant.press("/lab", "/lab/refresh_revoked")
    answer = merchant.get(answer.headers["Location"])
    assert answer.status_code == 302
    merchant.sign_in("/customers")
    page = merchant.get("/customers").text
    assert CARDS["refresh_revoked"].ours in page
    (shown,) = re.findall(r'href="/inspector\?show=([0-9a-f]+)"', page)
    assert "invalid_grant" in merchant.get(f"/inspector?show={shown}").text


def test_a_repeated_callback_is_recorded_too(merchant: Merchant) -> None:
    merchant.sign_in()
    again = merchant.press("/lab", "/lab/callback_replayed").headers["Location"]
    callback = merchant.get(again).headers["Location"]
    page = merchant.get(merchant.get(callback).headers["Location"]).text
    (shown,) = re.findall(r'href="/inspector\?show=([0-9a-f]+)"', page)
    conversation = merchant.get(f"/inspector?show={shown}").text
    assert "Sign-in, repeated" in conversation
    assert describe(OmniFund._repeated).text in conversation


def test_a_card_clears_what_an_earlier_one_left_for_this_visitor_only(stack: Stack) -> None:
    """K57"""
    one, other = Merchant(stack), Merchant(stack)
    for merchant in (one, other):
        merchant.sign_in()
        merchant.press("/lab", "/lab/api_odd_json")  # and the page that follows is not opened
    page = one.get(one.press("/lab", "/lab/access_token_expired").headers["Location"])
    assert page.status_code == 200
    assert CARDS["access_token_expired"].ours in page.text
    assert other.get("/customers").status_code == 502


@pytest.mark.parametrize(
    ("fields", "status", "left"),
    [
        ({"scope": "state", "state": "x"}, 204, ["all"]),
        ({"scope": "all"}, 204, ["state"]),
        ({}, 204, []),
        ({"scope": "bearer"}, 401, ["all", "state"]),
        ({"scope": "nowhere"}, 400, ["all", "state"]),
    ],
)
def test_local_omnifund_clears_the_faults_of_one_scope(
    stack: Stack, fields: dict[str, str], status: int, left: list[str]
) -> None:
    """K57"""
    merchant, url = Merchant(stack), f"{stack.omnifund_url}/faults"
    for scope in ("all", "state"):
        arm = {"id": "token_500", "scope": scope, "state": "x"}
        assert merchant.post(url, data=arm).status_code == 201
    assert merchant.request("DELETE", url, data=fields, timeout=5).status_code == status
    armed = merchant.get(f"{stack.omnifund_url}/faults.json").json()["armed"]
    assert [each["scope"] for each in armed] == left


@pytest.mark.parametrize(
    ("card", "left"),
    [
        ("access_token_expired", [("access_token_expired", "token")]),
        ("refresh_slow", [("access_token_expired", "token"), ("refresh_slow", "grant")]),
        ("five_tabs", [("refresh_slow", "grant")]),
    ],
)
def test_a_card_expires_no_other_access_token(
    stack: Stack, card: str, left: list[tuple[str, str]]
) -> None:
    """Otherwise it would strike the one that another tab is given at this moment."""
    merchant = Merchant(stack)
    merchant.sign_in()
    for _ in range(2):
        merchant.press("/lab", f"/lab/{card}")
    armed = merchant.get(f"{stack.omnifund_url}/faults.json").json()["armed"]
    assert sorted((each["id"], each["scope"]) for each in armed) == left


def test_an_omnifund_without_switches_has_no_lab(redis_url: str) -> None:
    with rig(redis_url) as app:
        for path in ("/lab", "/lab/deny", "/lab/naive"):
            assert app.merchant().get(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "back"),
    [
        ("/lab/api_403", "/lab"),
        ("/lab/deny", "/lab"),
        ("/lab/naive/forged_callback", "/lab/naive"),
        ("/inspector/step-through/authorize", "/inspector/step-through"),
    ],
)
def test_a_form_whose_session_is_gone_leads_to_the_sign_in_and_back(
    stack: Stack, path: str, back: str
) -> None:
    """K14: the visitor has signed out in another tab, or the session has ended."""
    merchant = Merchant(stack)
    merchant.sign_in()
    token = csrf_token_of(merchant.get(back).text)
    merchant.press("/dashboard", "/logout")
    answer = merchant.post(path, data={"csrf_token": token})
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/login?next={back}")
    signed_in = merchant.post(path, data={"csrf_token": token}, headers={"Cookie": ""})
    assert signed_in.headers["Location"] == f"/login?next={back}"


def test_a_form_of_a_session_that_lives_needs_its_token(merchant: Merchant) -> None:
    """G1"""
    merchant.sign_in()
    assert merchant.post("/lab/api_403", data={"csrf_token": "another"}).status_code == 400


def test_where_the_switches_are_off_no_lab_is_offered(redis_url: str) -> None:
    """K41"""
    with running_stack(redis_url, local_omnifund_faults=False) as stack:
        merchant = Merchant(stack)
        assert merchant.get("/lab").status_code == 404
        for path in ("/", "/inspector/example", "/nothing"):
            assert 'href="/lab' not in merchant.get(path).text
        merchant.sign_in()
        assert 'href="/lab' not in merchant.get("/inspector").text


def test_the_explanation_appears_once_and_only_for_known_cards(merchant: Merchant) -> None:
    answer = merchant.get("/", headers={"Cookie": "omnifund_lab=deny"})
    assert "The merchant chooses Deny" in answer.text
    assert "omnifund_lab=;" in answer.headers["Set-Cookie"]
    answer = merchant.get("/", headers={"Cookie": "omnifund_lab=<script>"})
    assert "Back to the lab" not in answer.text


def test_a_visitor_who_came_by_another_name_of_this_machine_is_redirected(
    stack: Stack, merchant: Merchant
) -> None:
    """A7"""
    port = stack.settings.app_port
    for path in ("/lab", "/lab/deny"):
        here = f"http://127.0.0.1:{port}{path}"
        answer = merchant.get(here)
        assert answer.headers["Location"] == f"http://localhost:{port}{path}?moved=1"
    moved = f"http://127.0.0.1:{port}/lab?moved=1"
    assert merchant.get(moved).status_code == 200


def test_without_the_demos_launcher_redis_is_not_offered_to_be_stopped(merchant: Merchant) -> None:
    merchant.sign_in()
    assert "/lab/redis_outage" not in {form.action for form in forms(merchant.get("/lab"))}
    token = {"csrf_token": csrf_token_of(merchant.get("/lab").text)}
    assert merchant.post("/lab/redis_outage", data=token).status_code == 404


def test_with_a_launcher_that_has_gone_nothing_is_stopped(tmp_path: Path, redis_url: str) -> None:
    pipe = tmp_path / "control"
    os.mkfifo(pipe)
    with running_stack(redis_url, demo_control=pipe) as stack:
        merchant = Merchant(stack)
        merchant.sign_in()
        assert merchant.press("/lab", "/lab/redis_outage").status_code == 404
        assert merchant.get("/dashboard").status_code == 200


@pytest.mark.parametrize(("seconds", "words"), [(330, "5 minutes ahead"), (-120, "behind")])
def test_clocks_that_disagree_are_pointed_out(merchant: Merchant, seconds: int, words: str) -> None:
    merchant.sign_in()
    assert "Clock out of sync" not in merchant.get("/dashboard").text
    merchant.at.clock.advance(seconds)
    merchant.get("/customers")
    page = merchant.get("/dashboard").text
    assert "Clock out of sync" in page
    assert words in page


def test_developers_get_the_cause_while_the_inspector_is_on(redis_url: str) -> None:
    for inspector in (True, False):
        with running_stack(redis_url, flow_inspector=inspector) as stack:
            page = Merchant(stack).get("/callback?state=x&code=y")
            assert page.status_code == 400
            assert ("InvalidState" in page.text) is inspector
            assert ('href="/inspector?show=' in page.text) is inspector
