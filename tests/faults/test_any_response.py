"""Whatever OmniFund sends: only the package's own errors, and no page is a bare server error."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnifund.client import OmniFund
from omnifund.errors import ConnectionNotFound, OmniFundError
from omnifund.token import Token
from omnifund.token_store import RedisTokenStore
from pytest_omnifund import Clock
from redis_url import connect
from tests.faults import provider as kit
from tests.faults.provider import ScriptedProvider
from tests.support.examples import count
from tests.support.merchant import Merchant
from tests.support.rig import rig
from tests.support.valkey import ValkeyServer

TOKEN = "/oauth/v2/token"
NOW = 1_800_000_000

numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**400), 2**63, 2**64, 1e308, -0.0, 10**18])
)
texts = (
    st.text(max_size=20)
    | st.text(st.characters(min_codepoint=0xD7FF, max_codepoint=0xE000), max_size=4)
    | st.sampled_from(["bearer", "Bearer", "invalid_grant", "invalid_client", "9" * 400, "<b>"])
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda children: st.lists(children) | st.dictionaries(texts, children),
    max_leaves=6,
)


def spelled(value: Any) -> bytes:
    """JSON as a careless server spells it: 1e400, NaN, and half of a surrogate pair."""
    return json.dumps(value).replace("Infinity", "1e400").encode()


def responses(fields: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[kit.Answer]:
    """HTTP responses: any status and headers, and a body that is JSON, nearly JSON, or bytes."""
    bodies = (
        fields.map(spelled)
        | values.map(spelled)
        | st.binary(max_size=60)
        | st.tuples(fields.map(spelled), st.integers(0, 80)).map(lambda cut: cut[0][: cut[1]])
    )
    header_values = (
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=30)
        | st.integers().map(str)
        | st.sampled_from(
            [
                "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
                "Mon, 01 Jan 2030 00:00:00 +99999999999999",
                "Fri, 31 Dec 9999 23:59:59 -1400",
                "Sat, 01 Jan 0000 00:00:00 GMT",
                "http://[",
                "9" * 400,
            ]
        )
    )
    names = st.sampled_from(["Retry-After", "Date", "Location", "WWW-Authenticate", "X-Odd"])
    return st.builds(
        kit.raw_answer,
        bodies,
        st.sampled_from([200, 200, 200, 400, 400, 401, 403, 404, 429, 500, 503])
        | st.integers(200, 599),
        st.sampled_from(
            ["application/json", "application/json", "application/ld+json", "text/html"]
        ),
        st.dictionaries(names, header_values, max_size=3),
    )


token_fields = st.sampled_from(
    ["access_token", "refresh_token", "token_type", "expires_in", "scope", "error"]
)
token_responses = responses(
    st.dictionaries(token_fields | texts, values, max_size=6)
    # Good ones with one odd field: what is odd elsewhere is never reached otherwise.
    | st.tuples(token_fields | texts, values).map(
        lambda odd: {
            "access_token": "a" * 40,
            "refresh_token": "r" * 40,
            "token_type": "bearer",
            "expires_in": 3600,
            odd[0]: odd[1],
        }
    )
)
member_fields = st.sampled_from(
    ["id", "company", "firstName", "amount", "tranDate", "customer", "paymentAccounts", "status"]
)
page_fields = st.sampled_from(["hydra:member", "hydra:totalItems", "hydra:view", "@context"])
pages = responses(
    st.dictionaries(page_fields | texts, values, max_size=4)
    | st.lists(st.dictionaries(member_fields, values, max_size=5), max_size=4).map(
        lambda members: {"hydra:member": [{"id": 1, **member} for member in members]}
    )
)


@pytest.fixture(scope="module")
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as running:
        yield running


@dataclass
class Client:
    """A client, made once: making one reads every authority's certificate."""

    omnifund: OmniFund
    redis: Any
    clock: Clock


@pytest.fixture(scope="module")
def client(provider: ScriptedProvider, valkey: ValkeyServer) -> Iterator[Client]:
    valkey.flush()
    clock = Clock()
    omnifund = OmniFund(
        RedisTokenStore(connect(valkey.url)),
        base_url=provider.url,
        client_id="an id",
        client_secret="a secret",
        redirect_uri="http://localhost:8000/callback",
        secret_keys=["k" * 40],
        clock=clock,
    )
    with valkey.client() as directly:
        yield Client(omnifund, directly, clock)


each_example = settings(
    # With responses to both kinds of requests, `make fuzz` has as many as it has requests.
    max_examples=count(600) // 2,
    deadline=None,
    # The tests' fixtures are servers, which any number of examples may share.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@each_example
@given(answer=token_responses, has_expired=st.booleans())
def test_any_token_response_to_a_refresh(
    provider: ScriptedProvider, client: Client, answer: kit.Answer, has_expired: bool
) -> None:
    """K17, C6, C7, C10, C11, C12: only the package's errors; the lock and the token are right."""
    client.clock.now = NOW + (3600 if has_expired else 3590)
    omnifund = client.omnifund
    connection_id = secrets.token_urlsafe(32)
    old = Token("o" * 40, "p" * 40, NOW, NOW + 3600)
    omnifund.tokens.save(connection_id, old, seconds=60)
    stored = omnifund.tokens.load(connection_id)
    provider.on("POST", TOKEN, answer)
    with contextlib.suppress(OmniFundError):
        assert omnifund.renew(connection_id, stored).token.generation == 1
    try:
        left = omnifund.tokens.load(connection_id)
        if left.token.generation == 0:
            assert left.token.access_token == old.access_token
            assert left.token.refresh_token in (old.refresh_token, None)
    except ConnectionNotFound:
        # Only an expired token whose refresh was refused.
        assert has_expired
    key = RedisTokenStore.lock_key(connection_id)
    mark, left_ms = client.redis.get(key), client.redis.pttl(key)
    assert mark is None or mark.startswith(b"failed ")
    assert mark is None or 0 < left_ms <= 3_600_000


@pytest.fixture(scope="module")
def merchant(valkey: Any) -> Iterator[Merchant]:
    with rig(valkey.url) as running:
        yield running.merchant()


@each_example
@given(answer=pages, path=st.sampled_from(["/customers", "/transactions"]))
def test_any_api_response_is_a_page_of_the_apps_own(
    merchant: Merchant, answer: kit.Answer, path: str
) -> None:
    """K17, E13"""
    merchant.at.provider.next_api_answer(answer)
    page = merchant.get(path)
    # 500 would be the app's own fault. After a 401 the honest provider responds.
    assert page.status_code in (200, 400, 403, 404, 502, 503), page
    assert "<h1" in page.text, page
    if page.status_code == 503:
        assert 1 <= int(page.headers["Retry-After"]) <= 3600
    assert merchant.get("/session").json()["signed_in"] is True
    merchant.at.provider._next["api"].clear()
