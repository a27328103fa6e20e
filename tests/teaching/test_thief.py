"""Place the thief: each verdict of the inspector, tried out by a thief with just that loot."""

from __future__ import annotations

import json
from html import unescape
from urllib.parse import quote, urlsplit

import pytest
import requests

from omnifund.encryption import Cipher, Unreadable
from tests.support.browsing import SimulatedBrowser, query_of
from tests.support.merchant import Merchant
from tests.support.rig import fleet
from tests.support.stack import Stack
from tests.support.valkey import ValkeyServer


def ask_for_a_token(stack: Stack, **fields: str) -> requests.Response:
    """Send a token request, as anybody may."""
    body = {"client_id": stack.settings.omnifund_client_id, **fields}
    return requests.post(f"{stack.omnifund_url}/oauth/v2/token", data=body, timeout=10)


def read_customers(stack: Stack, access_token: str) -> int:
    """Return the status of an API request with a token."""
    headers = {"Authorization": f"Bearer {access_token}"}
    return requests.get(
        f"{stack.omnifund_url}/api/customers", headers=headers, timeout=10
    ).status_code


def secret_of(stack: Stack) -> str:
    """The client secret."""
    return stack.settings.omnifund_client_secret.get_secret_value()


def test_the_browsers_history_is_worth_nothing(stack: Stack, merchant: Merchant) -> None:
    """L24: in another browser the callback is refused; the code needs the verifier, used or not."""
    used = merchant.authorize()
    assert merchant.get(used).status_code == 303
    unused = merchant.authorize()
    for callback in (used, unused):
        assert SimulatedBrowser(stack.url).get(callback).status_code == 400
        answer = ask_for_a_token(
            stack,
            grant_type="authorization_code",
            code=query_of(callback)["code"],
            redirect_uri=stack.settings.omnifund_redirect_uri,
            client_secret=secret_of(stack),  # even if he has that too
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_the_log_is_worth_nothing(redis_url: str) -> None:
    """L24: no line has a query, a header, or a body."""
    with fleet(redis_url, workers=1) as running:
        merchant = running.merchant()
        merchant.get("/customers?lastName=canary-in-a-query", headers={"X-Canary": "canary-two"})
        assert running.server.stop() == 0
        log = running.server.log
    assert "/customers" in log
    assert "canary" not in log
    assert merchant.session_id not in log


def test_a_dump_of_redis_needs_the_secret_key_and_the_session_id_together(
    stack: Stack, merchant: Merchant, valkey: ValkeyServer
) -> None:
    """L24"""
    merchant.sign_in()
    token, sid = merchant.stored.token, merchant.session_id
    with valkey.client() as redis:
        dump = {key: redis.get(key) for key in redis.scan_iter("omnifund:*:token")}
        everything = b"".join(redis.dump(key) or b"" for key in redis.scan_iter("omnifund:*"))
    ((name, record),) = dump.items()
    assert record is not None
    assert not any(
        secret.encode() in everything
        for secret in (token.access_token, token.refresh_token or "", sid)
    )
    right = stack.settings.secret_keys
    for keys, secret in ((["x" * 40], sid), (right, "y" * 43)):
        with pytest.raises(Unreadable):
            Cipher(keys).open(record, secret=secret, name=name.decode())
    opened = Cipher(right).open(record, secret=sid, name=name.decode())
    assert token.access_token.encode() in opened


def test_with_the_cookie_he_is_the_merchant_until_the_sign_out(merchant: Merchant) -> None:
    """L24: and no page shows him a token."""
    merchant.sign_in()
    token = merchant.stored.token
    thief = merchant.copy()
    pages = [thief.get(path) for path in ("/dashboard", "/customers", "/inspector", "/session")]
    assert {page.status_code for page in pages} == {200}
    assert not any(token.access_token in page.text for page in pages)
    merchant.post_form("/logout")
    assert thief.get("/customers").status_code == 302


def test_with_the_client_secret_alone_he_has_nobodys_tokens(
    stack: Stack, merchant: Merchant
) -> None:
    """L24"""
    answers = [
        ask_for_a_token(
            stack,
            client_secret=secret_of(stack),
            **{"grant_type": grant, name: "made-up", "redirect_uri": "http://localhost/"},
        )
        for grant, name in (("authorization_code", "code"), ("refresh_token", "refresh_token"))
    ]
    assert {answer.status_code for answer in answers} == {400}
    # A code goes to the registered redirect URI only.
    started = merchant.get("/login").headers["Location"]
    own = stack.settings.omnifund_redirect_uri
    stolen = started.replace(quote(own, safe=""), "https%3A%2F%2Fthief.example")
    assert stolen != started
    refused = merchant.get(stolen, follow=True)
    assert urlsplit(refused.url).netloc == urlsplit(stack.omnifund_url).netloc
    assert "redirect_uri" in unescape(refused.text)


def test_with_the_tokens_alone_he_reads_for_an_hour(stack: Stack, merchant: Merchant) -> None:
    """L24"""
    merchant.sign_in()
    token = merchant.stored.token
    assert read_customers(stack, token.access_token) == 200
    fields = {"grant_type": "refresh_token", "refresh_token": token.refresh_token or ""}
    assert ask_for_a_token(stack, **fields).status_code == 400
    assert ask_for_a_token(stack, **fields, client_secret="wrong").status_code == 400
    stack.clock.advance(3602)
    assert read_customers(stack, token.access_token) == 401


def test_with_tokens_and_client_secret_he_has_the_connection_and_the_app_notices(
    stack: Stack, merchant: Merchant
) -> None:
    """L24"""
    merchant.sign_in()
    refresh_token = merchant.stored.token.refresh_token or ""
    for _ in range(3):
        answer = ask_for_a_token(
            stack,
            grant_type="refresh_token",
            refresh_token=refresh_token,
            client_secret=secret_of(stack),
        )
        assert answer.status_code == 200
        refresh_token = answer.json()["refresh_token"]
    assert read_customers(stack, answer.json()["access_token"]) == 200
    stack.clock.advance(3602)
    assert merchant.get("/customers").headers["Location"] == "/login?next=/customers"


def test_the_inspector_offers_it_for_a_sign_in_only(merchant: Merchant) -> None:
    """L24"""
    merchant.sign_in()
    merchant.get("/customers")
    recordings = json.loads(merchant.get("/inspector/recordings.json").text)["recordings"]
    assert 'id="thief-history"' in merchant.get("/inspector").text
    (page,) = (each["id"] for each in recordings if each["exchanges"][0]["step"] == "page")
    assert 'id="thief-history"' not in merchant.get(f"/inspector?show={page}").text
