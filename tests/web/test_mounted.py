"""The app below a path of its host, behind proxies that strip that path and that do not (K39)."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient

from tests.support.stack import Stack, running_stack
from tests.support.valkey import ValkeyServer

HOST = "https://shop.example"


@pytest.fixture
def stack(redis_url: str) -> Iterator[Stack]:
    with running_stack(
        redis_url, omnifund_redirect_uri=f"{HOST}/pay/callback", allowed_hosts=("shop.example",)
    ) as running:
        yield running


@pytest.fixture(params=["", "/pay"], ids=["the proxy strips the path", "the proxy keeps the path"])
def visitor(stack: Stack, request: pytest.FixtureRequest) -> tuple[FlaskClient, str]:
    return stack.app.test_client(), request.param


def test_links_forms_and_files_lead_below_the_path(visitor: tuple[FlaskClient, str]) -> None:
    """K39"""
    client, prefix = visitor
    page = client.get(f"{prefix}/", base_url=HOST).text
    assert 'href="/pay/login"' in page
    assert 'href="/pay/static/app.css?v=' in page
    with client.get(f"{prefix}/static/app.css", base_url=HOST) as file:
        assert file.status_code == 200


def test_a_protected_page_comes_back_to_itself_below_the_path(
    visitor: tuple[FlaskClient, str],
) -> None:
    """K39"""
    client, prefix = visitor
    answer = client.get(f"{prefix}/customers?page=2", base_url=HOST)
    assert answer.headers["Location"] == "/pay/login?next=/pay/customers%3Fpage%3D2"
    started = client.get(f"{prefix}/login?next=/pay/customers%3Fpage%3D2", base_url=HOST)
    query = parse_qs(urlsplit(started.headers["Location"]).query)
    assert query["redirect_uri"] == [f"{HOST}/pay/callback"]
    cookie = started.headers["Set-Cookie"]
    assert cookie.startswith("__Host-omnifund_attempt_")
    assert "Path=/;" in cookie


@pytest.mark.parametrize(
    "path", ["/pay/login", "/pay/callback?code=x", "/pay/%6cogin", "/pay/logout"]
)
def test_a_sign_in_never_leads_to_signing_in_or_out_below_the_path(stack: Stack, path: str) -> None:
    """K6, K39"""
    assert stack.app.extensions["omnifund"].safe_next(path) is None


@pytest.mark.parametrize("path", ["/healthz", "/pay/healthz", "/readyz", "/pay/readyz"])
def test_probes_reach_the_app_with_the_path_and_without(stack: Stack, path: str) -> None:
    """K34, K39: whatever the host is called."""
    for base_url in (HOST, "http://10.0.0.7:8000"):
        assert stack.app.test_client().get(path, base_url=base_url).status_code == 200


@pytest.mark.parametrize("path", ["/payment", "/pay/pay/", "/PAY/", "/pay;/"])
def test_another_path_is_not_taken_for_it(stack: Stack, path: str) -> None:
    """K39"""
    assert stack.app.test_client().get(path, base_url=HOST).status_code == 404


def test_the_way_on_from_an_error_page_stays_below_the_path(
    visitor: tuple[FlaskClient, str], valkey: ValkeyServer
) -> None:
    """K39"""
    client, prefix = visitor
    client.set_cookie("__Host-omnifund_session", "x" * 43, secure=True, domain="shop.example")
    valkey.pause()
    try:
        page = client.get(f"{prefix}/customers?page=2", base_url=HOST)
    finally:
        valkey.resume()
    assert page.status_code == 503
    assert 'href="/pay/customers?page=2"' in page.text
