"""The token endpoint's answers to requests that succeed."""

import base64
import json
import re

import pytest
import requests

from tests.local_omnifund.conftest import Site
from tests.support.browsing import TIMEOUT

TOKEN = re.compile(r"[MNOYZ][A-Za-z0-9]{85}")


def assert_is_a_token_answer(answer: requests.Response) -> dict[str, object]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store, private"
    assert answer.headers["Pragma"] == "no-cache"
    assert "WWW-Authenticate" not in answer.headers
    assert "Set-Cookie" not in answer.headers
    body: dict[str, object] = answer.json()
    assert list(body) == ["access_token", "expires_in", "token_type", "scope", "refresh_token"]
    assert answer.text == json.dumps(body, separators=(",", ":"))
    assert (body["expires_in"], body["token_type"], body["scope"]) == (3600, "bearer", None)
    for name in ("access_token", "refresh_token"):
        token = str(body[name])
        assert TOKEN.fullmatch(token)
        assert re.fullmatch(rb"[0-9a-f]{64}", base64.urlsafe_b64decode(token + "=="))
    assert body["access_token"] != body["refresh_token"]
    return body


def test_a_code_is_exchanged_for_tokens_that_open_the_api(site: Site) -> None:
    tokens = assert_is_a_token_answer(site.exchange(site.code()))

    assert site.api("customers", str(tokens["access_token"])).status_code == 200


def test_a_username_and_password_are_exchanged_for_tokens_that_open_the_api(site: Site) -> None:
    tokens = assert_is_a_token_answer(site.password())

    assert site.api("customers", str(tokens["access_token"])).status_code == 200


def test_a_refresh_rotates_both_tokens_and_the_old_access_token_lives_on(site: Site) -> None:
    old = site.password().json()

    new = assert_is_a_token_answer(site.refresh(old["refresh_token"]))

    assert new["access_token"] != old["access_token"]
    assert new["refresh_token"] != old["refresh_token"]
    assert site.api("customers", old["access_token"]).status_code == 200
    assert site.api("customers", str(new["access_token"])).status_code == 200
    assert site.refresh(old["refresh_token"]).json()["error_description"] == "Invalid refresh token"
    assert_is_a_token_answer(site.refresh(str(new["refresh_token"])))


def test_replaying_a_code_or_refresh_token_leaves_issued_tokens_alone(site: Site) -> None:
    code = site.code()
    tokens = site.exchange(code).json()

    assert site.exchange(code).status_code == 400
    assert site.api("customers", tokens["access_token"]).status_code == 200

    newer = site.refresh(tokens["refresh_token"]).json()
    assert site.refresh(tokens["refresh_token"]).status_code == 400
    assert site.refresh(newer["refresh_token"]).status_code == 200


def test_the_body_may_be_json(site: Site) -> None:
    answer = requests.post(
        site.url + "/oauth/v2/token",
        json=site.credentials()
        | {
            "grant_type": "password",
            "username": "merchant",
            "password": "local-omnifund-demo",
        },
        timeout=TIMEOUT,
    )

    assert_is_a_token_answer(answer)


def test_the_body_may_be_multipart(site: Site) -> None:
    fields = site.credentials() | {
        "grant_type": "refresh_token",
        "refresh_token": site.password().json()["refresh_token"],
    }
    answer = requests.post(
        site.url + "/oauth/v2/token",
        files={name: (None, value) for name, value in fields.items()},
        timeout=TIMEOUT,
    )

    assert_is_a_token_answer(answer)


def test_a_get_request_is_read_from_its_query(site: Site) -> None:
    parameters = site.credentials() | {
        "grant_type": "authorization_code",
        "code": site.code(),
        "redirect_uri": site.redirect_uri,
    }
    answer = requests.get(site.url + "/oauth/v2/token", params=parameters, timeout=TIMEOUT)

    assert_is_a_token_answer(answer)


def test_http_basic_is_accepted_and_wins_over_the_body(site: Site) -> None:
    grant = {"grant_type": "password", "username": "merchant", "password": "local-omnifund-demo"}
    good = (site.client_id, site.client_secret)
    bad = (site.client_id, "wrong")

    assert_is_a_token_answer(site.token(grant, auth=good))
    assert_is_a_token_answer(site.token(grant | {"client_secret": "wrong"}, auth=good))
    refused = site.token(grant | site.credentials(), auth=bad)
    assert refused.status_code == 400
    assert refused.json()["error"] == "invalid_client"
    assert "WWW-Authenticate" not in refused.headers


def test_http_basic_without_a_user_falls_back_to_the_body(site: Site) -> None:
    grant = {"grant_type": "password", "username": "merchant", "password": "local-omnifund-demo"}

    assert_is_a_token_answer(site.token(grant | site.credentials(), auth=("", "anything")))


def test_of_a_repeated_parameter_the_last_one_wins(site: Site) -> None:
    parameters = [
        ("grant_type", "nonsense"),
        ("grant_type", "password"),
        ("username", "nobody"),
        ("username", "merchant"),
        ("password", "local-omnifund-demo"),
        *site.credentials().items(),
    ]
    answer = requests.post(site.url + "/oauth/v2/token", data=parameters, timeout=TIMEOUT)

    assert_is_a_token_answer(answer)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused_with_a_page(site: Site, method: str) -> None:
    answer = requests.request(method, site.url + "/oauth/v2/token", timeout=TIMEOUT)

    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, POST"
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "accept this HTTP method." in answer.text
