"""Every row of the error table: status 400, the error, its text, the headers, the key order."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import requests

from local_omnifund.models import Client, digest
from local_omnifund.store import Store
from tests.local_omnifund.conftest import Site
from tests.support.browsing import TIMEOUT

Case = Callable[[Site], requests.Response]

UNSUPPORTED_SCOPE = ("invalid_scope", "An unsupported scope was requested.")
BAD_GRANT_TYPE = ("invalid_request", "Invalid grant_type parameter or parameter missing")
BAD_CREDENTIALS = ("invalid_client", "The client credentials are invalid")
UNAUTHORIZED = ("unauthorized_client", "The grant type is unauthorized for this client_id")
NO_SUCH_CODE = ("invalid_grant", "Code doesn't exist or is invalid for the client")
NO_SUCH_REFRESH_TOKEN = ("invalid_grant", "Invalid refresh token")

OTHER = Client(
    client_id="7_other",
    owner="merchant",
    name="Another application",
    secret_digest=digest("other-secret"),
    redirect_uris=("http://localhost:8000/callback",),
)
OTHER_CREDENTIALS = {"client_id": "7_other", "client_secret": "other-secret"}


def assert_is_the_error(answer: requests.Response, error: str, description: str | None) -> None:
    assert answer.status_code == 400
    expected = {"error": error, "error_description": description}
    assert answer.text == json.dumps(expected, separators=(",", ":"))
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store, private"
    assert answer.headers["Pragma"] == "no-cache"
    assert "WWW-Authenticate" not in answer.headers


def with_other_client(site: Site, **changes: object) -> None:
    """Register a second client, as the portal cannot: with a secret that the test knows."""
    Store(site.redis, site.clock).save_client(replace(OTHER, **changes))  # type: ignore[arg-type]  # fields of different types


def post_json(site: Site, body: str) -> requests.Response:
    headers = {"Content-Type": "application/json"}
    return requests.post(
        site.url + "/oauth/v2/token", data=body.encode(), headers=headers, timeout=TIMEOUT
    )


def grant(site: Site, grant_type: str) -> requests.Response:
    return site.token(site.credentials() | {"grant_type": grant_type})


GRANT_TYPES: dict[str, Case] = {
    "no parameters": lambda site: site.token({}),
    "empty grant_type": lambda site: grant(site, ""),
    "unknown grant_type": lambda site: grant(site, "foo"),
    "grant_type in another case": lambda site: grant(site, "Password"),
    "an array": lambda site: site.token(site.credentials() | {"grant_type[]": "password"}),
    "an array in JSON": lambda site: post_json(site, '{"grant_type": ["password"]}'),
    "JSON that is no object": lambda site: post_json(site, '"grant_type"'),
    "broken JSON": lambda site: post_json(site, '{"grant_type": '),
    "deeply nested JSON": lambda site: post_json(site, "[" * 20_000),
    "parameters in the query of a POST": lambda site: requests.post(
        site.url + "/oauth/v2/token", params={"grant_type": "password"}, timeout=TIMEOUT
    ),
}


@pytest.mark.parametrize("case", GRANT_TYPES.values(), ids=GRANT_TYPES.keys())
def test_without_a_known_grant_type_nothing_else_is_looked_at(site: Site, case: Case) -> None:
    assert_is_the_error(case(site), *BAD_GRANT_TYPE)


CLIENTS: dict[str, tuple[Case, str]] = {
    "no client_id anywhere": (
        lambda site: site.token({"grant_type": "password"}),
        "Client id was not found in the headers or body",
    ),
    "empty client_id": (
        lambda site: site.token({"grant_type": "password", "client_id": ""}),
        "Client id was not found in the headers or body",
    ),
    "unknown client": (
        lambda site: site.password(client_id="9_unknown"),
        "The client credentials are invalid",
    ),
    "client_id that is no text": (
        lambda site: post_json(site, '{"grant_type": "password", "client_id": "\\ud800\\u0000"}'),
        "The client credentials are invalid",
    ),
    "wrong secret": (
        lambda site: site.password(client_secret="wrong"),
        "The client credentials are invalid",
    ),
    "secret that is not ASCII": (
        lambda site: site.password(client_secret="pä%ss+ wörd"),
        "The client credentials are invalid",
    ),
    "no secret": (
        lambda site: site.token({"grant_type": "password", "client_id": site.client_id}),
        "The client credentials are invalid",
    ),
    "wrong HTTP Basic": (
        lambda site: site.token({"grant_type": "password"}, auth=(site.client_id, "wrong")),
        "The client credentials are invalid",
    ),
    "unknown client in HTTP Basic": (
        lambda site: site.token({"grant_type": "password"}, auth=("9_unknown", "wrong")),
        "The client credentials are invalid",
    ),
}


@pytest.mark.parametrize(("case", "description"), CLIENTS.values(), ids=CLIENTS.keys())
def test_the_client_is_checked_before_the_grant(site: Site, case: Case, description: str) -> None:
    assert_is_the_error(case(site), "invalid_client", description)


def test_a_deactivated_client_is_as_unknown_as_one_that_never_was(site: Site) -> None:
    with_other_client(site, active=False)

    assert_is_the_error(site.password(**OTHER_CREDENTIALS), *BAD_CREDENTIALS)


@pytest.mark.parametrize(
    "grant_type",
    ["client_credentials", "token", "urn:ietf:params:oauth:grant-type:jwt-bearer", "https://a.b/c"],
)
def test_a_known_grant_type_must_be_allowed_for_the_client(site: Site, grant_type: str) -> None:
    assert_is_the_error(grant(site, grant_type), *UNAUTHORIZED)


def test_a_client_without_the_refresh_grant_gets_refresh_tokens_it_cannot_use(site: Site) -> None:
    with_other_client(site, grant_types=("password",))
    refresh_token = site.password(**OTHER_CREDENTIALS).json()["refresh_token"]

    assert_is_the_error(site.refresh(refresh_token, **OTHER_CREDENTIALS), *UNAUTHORIZED)


def test_an_allowed_grant_type_without_a_handler_is_unsupported(site: Site) -> None:
    with_other_client(site, grant_types=("urn:example:grant",))
    answer = site.token(OTHER_CREDENTIALS | {"grant_type": "urn:example:grant"})

    assert_is_the_error(answer, "unsupported_grant_type", None)


PARAMETERS: dict[str, tuple[Case, str, str]] = {
    "missing code": (
        lambda site: site.exchange(""),
        "invalid_request",
        'Missing parameter. "code" is required',
    ),
    "missing code and redirect_uri": (
        lambda site: site.exchange("", redirect_uri=""),
        "invalid_request",
        'Missing parameter. "code" is required',
    ),
    "missing redirect_uri": (
        lambda site: site.exchange("unknown", redirect_uri=""),
        "invalid_request",
        "The redirect URI parameter is required.",
    ),
    "unknown code": (lambda site: site.exchange("unknown"), *NO_SUCH_CODE),
    "code that is not ASCII": (lambda site: site.exchange("cödé\0"), *NO_SUCH_CODE),
    "missing username": (
        lambda site: site.password(username=""),
        "invalid_request",
        'Missing parameters. "username" and "password" required',
    ),
    "missing password": (
        lambda site: site.password(password=""),
        "invalid_request",
        'Missing parameters. "username" and "password" required',
    ),
    "wrong password": (
        lambda site: site.password(password="wrong"),
        "invalid_grant",
        "Invalid username and password combination",
    ),
    "unknown user": (
        lambda site: site.password(username="nobody"),
        "invalid_grant",
        "Invalid username and password combination",
    ),
    "missing refresh_token": (
        lambda site: site.refresh(""),
        "invalid_request",
        'No "refresh_token" parameter found',
    ),
    "unknown refresh_token": (lambda site: site.refresh("unknown"), *NO_SUCH_REFRESH_TOKEN),
    "access token instead of a refresh token": (
        lambda site: site.refresh(site.password().json()["access_token"]),
        *NO_SUCH_REFRESH_TOKEN,
    ),
    "password with a scope": (lambda site: site.password(scope="read"), *UNSUPPORTED_SCOPE),
    "wrong password with a scope": (
        lambda site: site.password(scope="read", password="wrong"),
        "invalid_grant",
        "Invalid username and password combination",
    ),
}


@pytest.mark.parametrize(
    ("case", "error", "description"), PARAMETERS.values(), ids=PARAMETERS.keys()
)
def test_each_grant_checks_its_own_parameters(
    site: Site, case: Case, error: str, description: str
) -> None:
    assert_is_the_error(case(site), error, description)


def test_a_used_code_does_not_exist_any_more(site: Site) -> None:
    code = site.code()
    assert site.exchange(code).status_code == 200

    assert_is_the_error(site.exchange(code), *NO_SUCH_CODE)


def test_another_clients_code_does_not_exist_and_is_not_consumed(site: Site) -> None:
    with_other_client(site)
    code = site.code()

    assert_is_the_error(site.exchange(code, **OTHER_CREDENTIALS), *NO_SUCH_CODE)
    assert site.exchange(code).status_code == 200


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "http://localhost:8000/callback/extra",
        "http://localhost:8000/callback?a=b",
        "HTTP://LOCALHOST:8000/CALLBACK",
        "http://127.0.0.1:8000/callback",
        "http://localhost:8001/callback",
    ],
)
def test_the_redirect_uri_of_an_exchange_must_be_the_same_to_the_letter(
    site: Site, redirect_uri: str
) -> None:
    code = site.code()

    assert_is_the_error(
        site.exchange(code, redirect_uri=redirect_uri),
        "redirect_uri_mismatch",
        "The redirect URI is missing or do not match",
    )
    assert site.exchange(code).status_code == 200


def test_a_code_with_a_scope_is_refused_and_not_consumed(site: Site) -> None:
    code = site.code()

    assert_is_the_error(site.exchange(code, scope="read"), *UNSUPPORTED_SCOPE)
    assert site.exchange(code).status_code == 200


def test_another_clients_refresh_token_is_invalid_and_not_consumed(site: Site) -> None:
    with_other_client(site)
    refresh_token = site.password().json()["refresh_token"]

    assert_is_the_error(site.refresh(refresh_token, **OTHER_CREDENTIALS), *NO_SUCH_REFRESH_TOKEN)
    assert site.refresh(refresh_token).status_code == 200


def test_a_refresh_with_a_scope_is_refused_and_not_consumed(site: Site) -> None:
    refresh_token = site.password().json()["refresh_token"]

    assert_is_the_error(site.refresh(refresh_token, scope="read"), *UNSUPPORTED_SCOPE)
    assert site.refresh(refresh_token).status_code == 200


def test_a_code_works_for_30_seconds_and_has_expired_a_second_later(site: Site) -> None:
    in_time, too_late = site.code(), site.code()

    site.clock.now += 30
    assert site.exchange(in_time).status_code == 200
    site.clock.now += 1
    assert_is_the_error(
        site.exchange(too_late), "invalid_grant", "The authorization code has expired"
    )
    assert_is_the_error(
        site.exchange(too_late, redirect_uri="http://localhost:8000/other"),
        "redirect_uri_mismatch",
        "The redirect URI is missing or do not match",
    )


def test_a_refresh_token_works_for_14_days_and_has_expired_a_second_later(site: Site) -> None:
    in_time = site.password().json()["refresh_token"]
    too_late = site.password().json()["refresh_token"]

    site.clock.now += 14 * 24 * 3600
    newer = site.refresh(in_time)
    assert newer.status_code == 200
    site.clock.now += 1
    assert_is_the_error(site.refresh(too_late), "invalid_grant", "Refresh token has expired")
    site.clock.now += 13 * 24 * 3600
    assert site.refresh(newer.json()["refresh_token"]).status_code == 200


def test_a_body_that_is_too_large_is_refused(site: Site) -> None:
    answer = site.token({"grant_type": "x" * 100_000})

    assert answer.status_code == 413
    assert "The request is larger than this server accepts." in answer.text
