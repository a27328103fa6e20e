"""The real gateway against the real Local OmniFund: every grant, and what each refusal means."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from local_omnifund.settings import DEMO_MERCHANT_PASSWORD
from omnifund.attempts import Attempt
from omnifund.callback import AuthorizationCode
from omnifund.errors import ClientMisconfigured, GrantRejected, OmniFundError
from omnifund.gateway import Gateway
from omnifund.http import HTTPClient
from omnifund.token import Token
from tests.local_omnifund.visitor import Visitor, form_to
from tests.support.stack import Stack, query_of

UNKNOWN_TOKEN = (
    "MDFjZGI1MTg4MTk3YmEwOWJmMzA4NmRiMTgxNTM0ZDc1MGI3NDgzYjIwNmI3NGQ0NGE0YTQ5YTVhNmNlNDZhZQ"
)


def gateway(
    stack: Stack,
    *,
    client_id: str | None = None,
    client_secret: str | None = None,
    redirect_uri: str | None = None,
) -> Gateway:
    """The app's gateway, with other credentials or another redirect URI where a test says so."""
    settings = stack.settings
    return Gateway(
        HTTPClient(stack.omnifund_url),
        client_id=client_id or settings.omnifund_client_id,
        client_secret=client_secret or settings.omnifund_client_secret.get_secret_value(),
        redirect_uri=redirect_uri or settings.omnifund_redirect_uri,
        clock=stack.clock,
    )


def granted_code(stack: Stack) -> AuthorizationCode:
    """A code as OmniFund hands it out after Allow, with the attempt that it belongs to."""
    person, parts = stack.person(), stack.app.extensions["omnifund"]
    query = query_of(person.authorize())
    cookies = person.browser.cookies.get_dict()
    attempt: Attempt = parts.attempts.find(query["state"], cookies, now=stack.clock())
    return AuthorizationCode(query["code"], attempt)


def password_token(stack: Stack) -> Token:
    return gateway(stack).password("merchant", DEMO_MERCHANT_PASSWORD)


def test_every_grant_gives_a_token_in_omnifunds_form(stack: Stack) -> None:
    by_code = gateway(stack).redeem(granted_code(stack))
    by_password = password_token(stack)
    refreshed = gateway(stack).refresh(by_password)
    for token in (by_code, by_password, refreshed):
        assert len(token.access_token) == 86
        assert len(token.refresh_token or "") == 86
        assert token.expires_at == stack.clock() + 3600
        assert token.scope is None
    assert refreshed.refresh_token != by_password.refresh_token
    assert refreshed.generation == 1


def used_code(stack: Stack) -> None:
    code = granted_code(stack)
    gateway(stack).redeem(code)
    gateway(stack).redeem(code)


def expired_code(stack: Stack) -> None:
    code = granted_code(stack)
    stack.clock.advance(31)
    gateway(stack).redeem(code)


def unknown_code(stack: Stack) -> None:
    code = granted_code(stack)
    gateway(stack).redeem(AuthorizationCode(UNKNOWN_TOKEN, code.attempt))


def code_of_another_attempt(stack: Stack) -> None:
    """PKCE: the code is good, the verifier belongs to another one (RFC 7636 §4.6)."""
    first, second = granted_code(stack), granted_code(stack)
    gateway(stack).redeem(AuthorizationCode(first.value, second.attempt))


def used_refresh_token(stack: Stack) -> None:
    token = password_token(stack)
    gateway(stack).refresh(token)
    gateway(stack).refresh(token)


def expired_refresh_token(stack: Stack) -> None:
    token = password_token(stack)
    stack.clock.advance(14 * 24 * 3600 + 1)
    gateway(stack).refresh(token)


def unknown_refresh_token(stack: Stack) -> None:
    gateway(stack).refresh(Token("a", UNKNOWN_TOKEN, 0, 0))


def wrong_password(stack: Stack) -> None:
    gateway(stack).password("merchant", "wrong")


def unknown_user(stack: Stack) -> None:
    gateway(stack).password("nobody", DEMO_MERCHANT_PASSWORD)


@pytest.mark.parametrize(
    "attempt",
    [
        used_code,
        expired_code,
        unknown_code,
        code_of_another_attempt,
        used_refresh_token,
        expired_refresh_token,
        unknown_refresh_token,
        wrong_password,
        unknown_user,
    ],
)
def test_a_grant_that_is_used_up_expired_or_wrong_is_rejected(
    stack: Stack, attempt: Callable[[Stack], None]
) -> None:
    """C8"""
    with pytest.raises(GrantRejected):
        attempt(stack)


def wrong_secret(stack: Stack) -> None:
    gateway(stack, client_secret="wrong").password("merchant", DEMO_MERCHANT_PASSWORD)


def unknown_client(stack: Stack) -> None:
    gateway(stack, client_id="9_unknown").password("merchant", DEMO_MERCHANT_PASSWORD)


def client_id_in_another_form(stack: Stack) -> None:
    gateway(stack, client_id="unknown").redeem(granted_code(stack))


def wrong_redirect_uri(stack: Stack) -> None:
    code = granted_code(stack)
    other = f"{stack.settings.omnifund_redirect_uri}/"
    gateway(stack, redirect_uri=other).redeem(code)


@pytest.mark.parametrize(
    ("attempt", "code"),
    [
        (wrong_secret, "invalid_client"),
        (unknown_client, "invalid_client"),
        (client_id_in_another_form, "invalid_client"),
        (wrong_redirect_uri, "redirect_uri_mismatch"),
    ],
)
def test_what_only_the_operator_can_mend_is_told_apart(
    stack: Stack, attempt: Callable[[Stack], None], code: str
) -> None:
    """C8"""
    with pytest.raises(ClientMisconfigured) as caught:
        attempt(stack)
    assert caught.value.code == code


def test_a_misconfigured_client_keeps_sessions_and_says_so(stack: Stack) -> None:
    """C8"""
    person = stack.person()
    person.sign_in()
    callback = person.authorize()
    path = f"/profile/api-access/{stack.settings.omnifund_client_id}"
    with Visitor(stack.omnifund_url) as developer:
        developer.sign_in()
        developer.submit(form_to(developer.get(path), path + "/deactivate"))
    answer = person.get(callback)
    assert answer.status_code == 502
    assert "not set up correctly" in answer.text
    assert "invalid_client" in answer.text
    assert person.status()["signed_in"] is True


def test_no_error_of_the_gateway_shows_a_secret(stack: Stack) -> None:
    """D2"""
    with pytest.raises(OmniFundError) as caught:
        wrong_secret(stack)
    assert "wrong" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
