"""Data of OmniFund's API that is too much, too odd, or refused."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from omnifund.api import MAX_ACCOUNTS, MAX_MEMBERS
from tests.faults import provider as kit
from tests.support.merchant import Merchant
from tests.support.rig import Rig, rig
from tests.support.stack import Stack, running_stack
from web import sessions


@contextmanager
def odd_redis(reply: bytes) -> Iterator[int]:
    """Run a server that replies so to every command; return its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while received := self.request.recv(65536):
                commands = re.findall(rb"^\*\d+\r$", received, re.MULTILINE)
                self.request.sendall(reply * len(commands))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def running(redis_url: str) -> Iterator[Rig]:
    with rig(redis_url) as app:
        yield app


@pytest.mark.parametrize("count", [MAX_MEMBERS + 1, 100_000])
@pytest.mark.parametrize("path", ["/customers", "/transactions", "/transactions?kind=pending"])
def test_more_members_than_a_page_can_have_are_an_invalid_response(
    running: Rig, path: str, count: int
) -> None:
    """K18"""
    merchant = running.merchant()
    running.provider.next_api_answer(kit.json_answer({"hydra:member": [{"id": 1}] * count}))
    shown = merchant.get(path)
    assert shown.status_code == 502
    assert len(shown.text) < 100_000


def test_as_many_members_as_a_page_can_have_are_shown(running: Rig) -> None:
    """K18"""
    merchant = running.merchant()
    members = [{"id": number, "firstName": "Ada"} for number in range(MAX_MEMBERS)]
    running.provider.next_api_answer(kit.json_answer({"hydra:member": members}))
    assert merchant.get("/customers").text.count("Ada") == MAX_MEMBERS


def test_a_customer_with_a_million_accounts_is_a_page_of_ordinary_size(running: Rig) -> None:
    """K18: the members of a member are too many as well."""
    merchant = running.merchant()
    member = {"id": 1, "paymentAccounts": [{}] * 1_000_000}
    running.provider.next_api_answer(kit.json_answer({"hydra:member": [member]}))
    shown = merchant.get("/customers")
    assert shown.status_code == 200
    assert shown.text.count('class="account"') == MAX_ACCOUNTS


@pytest.mark.parametrize(
    "path",
    [
        "/transactions?amount=abc",
        "/transactions?amount=1,50",
        "/transactions?id=x",
        "/transactions?from=2026-09-31",
        "/transactions?from=0026-01-01",
        "/transactions?to=9999-01-01",
        "/customers?id=x",
    ],
)
def test_a_search_that_omnifund_does_not_understand_is_explained_beside_its_form(
    stack: Stack, path: str
) -> None:
    """K20"""
    merchant = Merchant(stack)
    merchant.sign_in()
    shown = merchant.get(path)
    assert shown.status_code == 400
    assert "understand this search" in shown.text
    value = path.partition("=")[2]
    assert f'value="{value}"' in shown.text


@pytest.mark.parametrize(
    "content", [b"{}", b"[]", b"null", b"7", b'{"signed_in_at": null}', b'{"signed_in_at": "x"}']
)
def test_a_session_of_another_version_counts_as_none(running: Rig, content: bytes) -> None:
    """K1: decrypted with the right key, and yet nothing that this version can read."""
    merchant = running.merchant()
    store = running.app.extensions["omnifund"].store
    with running.app.test_request_context():
        key = sessions.current().key(merchant.session_id)
    cipher = running.app.extensions["omnifund"].cipher
    store.execute(("SET", key, cipher.seal(content, secret=merchant.session_id, name=key)))
    assert merchant.get("/session").json() == {"signed_in": False}
    assert urlsplit(merchant.get("/dashboard").headers["Location"]).path == "/login"


@pytest.mark.parametrize(
    ("reply", "status"),
    [(b":99", 503), (b"+OK", 302), (b"$2\r\n{}", 302), (b"*0", 302)],
)
def test_whatever_a_redis_replies_the_response_is_a_page(reply: bytes, status: int) -> None:
    """K1: a server that speaks the protocol, and is no Redis. No text is a record of this app's."""
    with odd_redis(reply + b"\r\n") as port, rig(f"redis://127.0.0.1:{port}/0") as app:
        merchant = Merchant(app)
        merchant.cookies["omnifund_session"] = "x" * 43
        for path in ("/", "/dashboard", "/login"):
            shown = merchant.get(path)
            assert shown.status_code in (200, 302, status), path
            assert "frame-ancestors 'none'" in shown.headers["Content-Security-Policy"]
        assert merchant.get("/dashboard").status_code == status
        assert merchant.get("/session").status_code == (503 if status == 503 else 200)


@pytest.mark.parametrize("path", ["/customers", "/transactions"])
def test_a_new_token_that_is_rejected_too_is_a_state_of_its_own(running: Rig, path: str) -> None:
    """K21"""
    merchant = running.merchant()
    running.provider.next_api_answer(*[kit.json_answer({"error": "invalid_grant"}, 401)] * 2)
    shown = merchant.get(path)
    assert shown.status_code == 502
    assert "rejects its own new token" in shown.text
    assert running.provider.refreshes == 1
    assert merchant.get("/session").json()["signed_in"] is True


def test_two_callbacks_truly_at_once_leave_one_session(running: Rig) -> None:
    """K9, B11: both tabs send the same cookies, and neither has a session yet."""
    for _ in range(5):
        merchant = Merchant(running)
        urls = [merchant.authorize(), merchant.authorize()]
        browsers = [Merchant(running) for _ in urls]
        for browser in browsers:
            browser.cookies.update(merchant.cookies)
        with ThreadPoolExecutor(2) as pool:
            done = list(
                pool.map(lambda pair: pair[0].get(pair[1]), zip(browsers, urls, strict=True))
            )
        assert [answer.status_code for answer in done] == [303, 303]
        signed_in = [browser.get("/session").json()["signed_in"] for browser in browsers]
        assert sorted(signed_in) == [False, True]


@pytest.mark.parametrize(
    ("redirect_uri", "host", "moves"),
    [
        ("https://app.shop.example/callback", "www.shop.example", True),
        ("https://app.shop.example/callback", "shop.example", True),
        ("https://shop.example/callback", "www.shop.example", True),
        ("https://app.shop.example/callback", "my_shop.shop.example", True),
        ("https://app.shop.example/callback", "app.shop.example", False),
        ("https://my_app.shop.example/callback", "my_app.shop.example", False),
        ("https://app.shop.example/callback", "evil.example", False),
        ("https://10.0.0.1/callback", "127.0.0.1", False),
        ("https://app.shop.example/callback", "gunicorn", False),
    ],
)
def test_another_name_of_the_site_is_moved_to_the_configured_one_before_the_start(
    redis_url: str, redirect_uri: str, host: str, *, moves: bool
) -> None:
    """K13"""
    with running_stack(redis_url, omnifund_redirect_uri=redirect_uri) as stack:
        client = stack.app.test_client()
        answer = client.get("/login?next=/customers", base_url=f"https://{host}")
        location = answer.headers["Location"]
        configured = redirect_uri.removesuffix("/callback")
        assert location.startswith(configured) is moves
        if moves:
            assert "next=/customers" in location
            # However a proxy rewrites the host, it never becomes a loop.
            again = client.get(location.removeprefix(configured), base_url=f"https://{host}")
            assert again.headers["Location"].startswith(stack.omnifund_url)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:443", "[::1]", "[::1]:443"])
@pytest.mark.parametrize("port", [None, "443"])
def test_a_default_port_makes_no_other_host(redis_url: str, host: str, port: str | None) -> None:
    """A7: a proxy names it in ``X-Forwarded-Port``."""
    options: dict[str, Any] = {"omnifund_redirect_uri": "https://localhost/callback"}
    with running_stack(redis_url, trusted_proxies=1, **options) as stack:
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": host}
        if port is not None:
            forwarded["X-Forwarded-Port"] = port
        answer = stack.app.test_client().get("/login", headers=forwarded)
        assert answer.headers["Location"].startswith("https://localhost/login?")


@pytest.mark.parametrize(
    ("base_url", "label"),
    [("https://staging.example", "Other OmniFund"), ("http://localhost:9", "Local OmniFund")],
)
def test_the_header_says_which_omnifund_is_meant(redis_url: str, base_url: str, label: str) -> None:
    """K41"""
    with running_stack(redis_url, omnifund_base_url=base_url) as stack:
        client = stack.app.test_client()
        page = client.get("/").text
        assert label in page
        assert ("fictional" in page) is (label == "Local OmniFund")
        is_local = label == "Local OmniFund"
        assert (client.get("/lab").status_code == 200) is is_local
