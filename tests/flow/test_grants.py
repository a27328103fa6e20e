"""The real OAuth client against the real Local OmniFund: every grant, every refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from local_omnifund.settings import DEMO_MERCHANT_PASSWORD
from omnifund.authorization import AuthorizationCode
from omnifund.client import OmniFund
from omnifund.errors import ClientMisconfigured, InvalidGrant, OmniFundError
from omnifund.http import HTTPClient
from omnifund.oauth import OAuthClient
from omnifund.token import Token
from tests.local_omnifund.visitor import Visitor
from tests.support.browsing import form_to, query_of
from tests.support.merchant import Merchant
from tests.support.stack import Stack

UNKNOWN_TOKEN = (
    "MDFjZGI1MTg4MTk3YmEwOWJmMzA4NmRiMTgxNTM0ZDc1MGI3NDgzYjIwNmI3NGQ0NGE0YTQ5YTVhNmNlNDZhZQ"
)


def oauth(
    stack: Stack,
    *,
    client_id: str | None = None,
    client_secret: str | None = None,
    redirect_uri: str | None = None,
) -> OAuthClient:
    """The app's OAuth client, with other credentials or redirect URI where a test says so."""
    settings = stack.settings
    return OAuthClient(
        HTTPClient(stack.omnifund_url),
        client_id=client_id or settings.omnifund_client_id,
        client_secret=client_secret or settings.omnifund_client_secret.get_secret_value(),
        redirect_uri=redirect_uri or settings.omnifund_redirect_uri,
        clock=stack.clock,
    )


def granted_code(stack: Stack) -> AuthorizationCode:
    """A code as OmniFund issues it after Allow, with the request that it belongs to."""
    omnifund: OmniFund = stack.app.extensions["omnifund"]
    merchant, started = Merchant(stack), omnifund.create_authorization_request({})
    code = query_of(merchant.authorize_at(started.url))["code"]
    return AuthorizationCode(code, started.request)


def password_token(stack: Stack) -> Token:
    return oauth(stack).password("merchant", DEMO_MERCHANT_PASSWORD)


def test_every_grant_gives_a_token_in_omnifunds_form(stack: Stack) -> None:
    by_code = oauth(stack).exchange_code(granted_code(stack))
    by_password = password_token(stack)
    refreshed = oauth(stack).refresh(by_password)
    for token in (by_code, by_password, refreshed):
        assert len(token.access_token) == 86
        assert len(token.refresh_token or "") == 86
        assert token.expires_at == stack.clock() + 3600
        assert token.scope is None
    assert refreshed.refresh_token != by_password.refresh_token
    assert refreshed.generation == 1


def used_code(stack: Stack) -> None:
    code = granted_code(stack)
    oauth(stack).exchange_code(code)
    oauth(stack).exchange_code(code)


def expired_code(stack: Stack) -> None:
    code = granted_code(stack)
    stack.clock.advance(31)
    oauth(stack).exchange_code(code)


def unknown_code(stack: Stack) -> None:
    code = granted_code(stack)
    oauth(stack).exchange_code(AuthorizationCode(UNKNOWN_TOKEN, code.request))


def code_of_another_request(stack: Stack) -> None:
    """PKCE: the code is good, the verifier belongs to another one (RFC 7636 §4.6)."""
    first, second = granted_code(stack), granted_code(stack)
    oauth(stack).exchange_code(AuthorizationCode(first.value, second.request))


def used_refresh_token(stack: Stack) -> None:
    token = password_token(stack)
    oauth(stack).refresh(token)
    oauth(stack).refresh(token)


def expired_refresh_token(stack: Stack) -> None:
    token = password_token(stack)
    stack.clock.advance(14 * 24 * 3600 + 1)
    oauth(stack).refresh(token)


def unknown_refresh_token(stack: Stack) -> None:
    oauth(stack).refresh(Token("a", UNKNOWN_TOKEN, 0, 0))


def wrong_password(stack: Stack) -> None:
    oauth(stack).password("merchant", "wrong")


def unknown_user(stack: Stack) -> None:
    oauth(stack).password("nobody", DEMO_MERCHANT_PASSWORD)


@pytest.mark.parametrize(
    "send",
    [
        used_code,
        expired_code,
        unknown_code,
        code_of_another_request,
        used_refresh_token,
        expired_refresh_token,
        unknown_refresh_token,
        wrong_password,
        unknown_user,
    ],
)
def test_a_grant_that_is_used_up_expired_or_wrong_is_rejected(
    stack: Stack, send: Callable[[Stack], None]
) -> None:
    """C8"""
    with pytest.raises(InvalidGrant):
        send(stack)


def wrong_secret(stack: Stack) -> None:
    oauth(stack, client_secret="wrong").password("merchant", DEMO_MERCHANT_PASSWORD)


def unknown_client(stack: Stack) -> None:
    oauth(stack, client_id="9_unknown").password("merchant", DEMO_MERCHANT_PASSWORD)


def client_id_in_another_form(stack: Stack) -> None:
    oauth(stack, client_id="unknown").exchange_code(granted_code(stack))


def wrong_redirect_uri(stack: Stack) -> None:
    code = granted_code(stack)
    other = f"{stack.settings.omnifund_redirect_uri}/"
    oauth(stack, redirect_uri=other).exchange_code(code)


@pytest.mark.parametrize(
    ("send", "code"),
    [
        (wrong_secret, "invalid_client"),
        (unknown_client, "invalid_client"),
        (client_id_in_another_form, "invalid_client"),
        (wrong_redirect_uri, "redirect_uri_mismatch"),
    ],
)
def test_what_only_the_operator_can_fix_is_told_apart(
    stack: Stack, send: Callable[[Stack], None], code: str
) -> None:
    """C8"""
    with pytest.raises(ClientMisconfigured) as caught:
        send(stack)
    assert caught.value.code == code


def test_a_misconfigured_client_keeps_sessions_and_says_so(stack: Stack) -> None:
    """C8"""
    merchant = Merchant(stack)
    merchant.sign_in()
    callback = merchant.authorize()
    path = f"/profile/api-access/{stack.settings.omnifund_client_id}"
    with Visitor(stack.omnifund_url) as developer:
        developer.sign_in()
        developer.submit(form_to(developer.get(path), path + "/deactivate"))
    answer = merchant.get(callback)
    assert answer.status_code == 502
    assert "configured correctly for OmniFund" in answer.text
    assert "invalid_client" in answer.text
    assert merchant.status()["signed_in"] is True


def test_no_error_of_the_client_shows_a_secret(stack: Stack) -> None:
    """D2"""
    with pytest.raises(OmniFundError) as caught:
        wrong_secret(stack)
    assert "wrong" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
