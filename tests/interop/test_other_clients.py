"""Local OmniFund as a server for third-party clients: all three grants, and the errors.

The manual's own commands, run as they are printed, are in tests/local_omnifund/test_manual.py.
docs/interoperability.md says what a user of each client has to know; all of it is seen here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from oauthlib.oauth2 import LegacyApplicationClient
from oauthlib.oauth2.rfc6749.errors import (
    AccessDeniedError,
    InsecureTransportError,
    InvalidClientError,
    InvalidGrantError,
    MismatchingStateError,
)
from requests_oauthlib import OAuth2Session

from local_omnifund import create_app
from local_omnifund.settings import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET, Settings
from tests.local_omnifund.visitor import Visitor
from tests.support.browsing import PASSWORD, USERNAME, query_of
from tests.support.programs import clean_environment, node, program
from tests.support.servers import serve

REDIRECT_URI = "http://localhost:8000/callback"
CREDENTIALS = {"client_id": DEMO_CLIENT_ID, "client_secret": DEMO_CLIENT_SECRET}
LOGIN = {"username": USERNAME, "password": PASSWORD}
STATE, VERIFIER = "s" * 43, "v" * 43


@pytest.fixture
def omnifund(redis_url: str) -> Iterator[str]:
    """Its address."""
    with serve(create_app(Settings(redis_url))) as server:
        yield server.url


def decide(authorize_url: str, button: str = "accepted") -> str:
    """Sign in at the page that a client sends people to, and answer; return the callback's URL."""
    origin, path, _query = authorize_url.partition("/oauth/v2/auth")
    assert path, authorize_url
    with Visitor(origin) as visitor:
        visitor.sign_in()
        return str(visitor.decide(query_of(authorize_url), button).headers["Location"])


def run(command: list[str], stdin: str = "") -> str:
    """Run a program to its end; return what it has printed."""
    done = subprocess.run(
        command,
        input=stdin,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


# --- HTTPie and curl -----------------------------------------------------------------------------

Post = Callable[[str, dict[str, str]], tuple[int, dict[str, Any]]]


def httpie(*options: str) -> Post:
    """HTTPie as in the manual; without ``--form`` it sends JSON."""

    def post(omnifund: str, fields: dict[str, str]) -> tuple[int, dict[str, Any]]:
        pairs = [f"{name}={value}" for name, value in fields.items()]
        command = [program("http"), *options, "--ignore-stdin", "--print=hb", "--pretty=none"]
        printed = run([*command, "POST", f"{omnifund}/oauth/v2/token", *pairs])
        head, _, body = printed.replace("\r\n", "\n").partition("\n\n")
        return int(head.split()[1]), json.loads(body)

    return post


def curl(omnifund: str, fields: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """curl sends a form."""
    found = shutil.which("curl")
    assert found is not None, "no curl; `make test` installs one"
    command = [found, "--silent", "--write-out", "\n%{http_code}"]
    for name, value in fields.items():
        command += ["--data-urlencode", f"{name}={value}"]
    printed = run([*command, f"{omnifund}/oauth/v2/token"])
    body, _, status = printed.rpartition("\n")
    return int(status), json.loads(body)


@pytest.mark.parametrize(
    "post", [httpie(), httpie("--form"), curl], ids=["httpie", "httpie --form", "curl"]
)
def test_programs_of_the_command_line(omnifund: str, post: Post) -> None:
    status, token = post(omnifund, {"grant_type": "password", **CREDENTIALS, **LOGIN})
    assert (status, token["token_type"], token["scope"]) == (200, "bearer", None)

    asked = f"client_id={DEMO_CLIENT_ID}&response_type=code&redirect_uri={REDIRECT_URI}&state=xyz"
    code = query_of(decide(f"{omnifund}/oauth/v2/auth?{asked}"))["code"]
    exchange = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT_URI}
    assert post(omnifund, {**CREDENTIALS, **exchange})[0] == 200

    refresh = {"grant_type": "refresh_token", "refresh_token": token["refresh_token"]}
    status, fresh = post(omnifund, {**CREDENTIALS, **refresh})
    assert (status, fresh["refresh_token"] != token["refresh_token"]) == (200, True)

    for fields, error in [
        ({**CREDENTIALS, **exchange}, "invalid_grant"),
        ({**CREDENTIALS, **refresh}, "invalid_grant"),
        ({"grant_type": "password", **CREDENTIALS, **LOGIN, "password": "no"}, "invalid_grant"),
        ({**refresh, **CREDENTIALS, "client_secret": "wrong"}, "invalid_client"),
        ({**CREDENTIALS, "grant_type": "authorization_code", "code": "x"}, "invalid_request"),
        ({**CREDENTIALS, "grant_type": "made_up"}, "invalid_request"),
    ]:
        status, answer = post(omnifund, fields)
        assert (status, answer["error"]) == (400, error)


# --- requests-oauthlib ---------------------------------------------------------------------------


def test_requests_oauthlib(omnifund: str, monkeypatch: pytest.MonkeyPatch) -> None:
    token_url, authorize_url = f"{omnifund}/oauth/v2/token", f"{omnifund}/oauth/v2/auth"
    # The credentials in the body: it would send them by HTTP Basic, which works as well.
    secret = {"client_secret": DEMO_CLIENT_SECRET, "include_client_id": True}

    session = OAuth2Session(DEMO_CLIENT_ID, redirect_uri=REDIRECT_URI, pkce="S256")
    with pytest.raises(InsecureTransportError):
        session.authorization_url(authorize_url)
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    callback = decide(session.authorization_url(authorize_url)[0])
    token = session.fetch_token(token_url, authorization_response=callback, **secret)
    assert session.get(f"{omnifund}/api/customers").json()["hydra:totalItems"] == 60
    fresh = session.refresh_token(token_url, **CREDENTIALS)
    assert fresh["refresh_token"] != token["refresh_token"]
    with pytest.raises(InvalidGrantError):
        session.refresh_token(token_url, refresh_token=token["refresh_token"], **CREDENTIALS)

    with OAuth2Session(client=LegacyApplicationClient(DEMO_CLIENT_ID)) as by_password:
        assert by_password.fetch_token(token_url, **LOGIN, **secret)["access_token"]
        with pytest.raises(InvalidClientError):
            by_password.fetch_token(token_url, **LOGIN, **{**secret, "client_secret": "wrong"})

    for button, error in [("rejected", AccessDeniedError), ("accepted", MismatchingStateError)]:
        session = OAuth2Session(DEMO_CLIENT_ID, redirect_uri=REDIRECT_URI)
        url, state = session.authorization_url(authorize_url)
        callback = decide(url, button)
        if error is MismatchingStateError:
            callback = callback.replace(state, "another")
        with pytest.raises(error):
            session.fetch_token(token_url, authorization_response=callback, **secret)


# --- Authlib on httpx ----------------------------------------------------------------------------


def test_authlib_on_httpx(omnifund: str) -> None:
    token_url = f"{omnifund}/oauth/v2/token"
    with OAuth2Client(
        **CREDENTIALS,
        token_endpoint_auth_method="client_secret_post",
        redirect_uri=REDIRECT_URI,
        code_challenge_method="S256",
    ) as client:

        def ask(button: str) -> str:
            url, _state = client.create_authorization_url(
                f"{omnifund}/oauth/v2/auth", state=STATE, code_verifier=VERIFIER
            )
            return decide(url, button)

        def fetch(**parameters: str) -> dict[str, Any]:
            token: dict[str, Any] = client.fetch_token(token_url, **parameters)
            return token

        token = fetch(authorization_response=ask("accepted"), state=STATE, code_verifier=VERIFIER)
        # It writes "Bearer" whatever the answer's token_type looks like; Local OmniFund, as
        # OmniFund's server family, takes nothing else.
        assert client.get(f"{omnifund}/api/customers").json()["hydra:totalItems"] == 60
        fresh = client.refresh_token(token_url)
        assert fresh["refresh_token"] != token["refresh_token"]
        with pytest.raises(OAuthError, match="invalid_grant"):
            client.refresh_token(token_url, refresh_token=token["refresh_token"])
        with pytest.raises(OAuthError, match="invalid_grant"):
            fetch(**{**LOGIN, "password": "wrong"})
        with pytest.raises(AuthlibBaseError, match="mismatching_state"):
            fetch(authorization_response=ask("accepted"), state="another")
        # A denial it does not notice: without a code it sends something else.
        with pytest.raises(OAuthError, match="invalid_request"):
            fetch(authorization_response=ask("rejected"), state=STATE)
        assert fetch(**LOGIN)["access_token"]


def test_http_basic_works_too(omnifund: str) -> None:
    """The other way of client authentication, which many clients have for their default."""
    answer = httpx2.post(
        f"{omnifund}/oauth/v2/token",
        data={"grant_type": "password", **LOGIN},
        auth=(DEMO_CLIENT_ID, DEMO_CLIENT_SECRET),
    )
    assert answer.status_code == 200


# --- simple-oauth2 and openid-client, on Node ----------------------------------------------------


def orders(script: str, omnifund: str) -> Callable[..., dict[str, Any]]:
    """Return what has ``script`` do one thing; it returns the answer or raises the problem."""
    command = node(Path(__file__).parent / "node" / script)

    def order(kind: str, secret: str = DEMO_CLIENT_SECRET, **order: Any) -> Any:
        about = {"baseUrl": omnifund, "clientId": DEMO_CLIENT_ID, "clientSecret": secret}
        found = json.loads(run(command, json.dumps({"kind": kind, **about, **order})))
        if "problem" in found:
            raise ProblemError(found["problem"])
        return found["answer"]

    return order


class ProblemError(Exception):
    """What a client on Node has thrown."""


def test_simple_oauth2(omnifund: str) -> None:
    order = orders("simple_oauth2.js", omnifund)
    # It knows no PKCE, but passes on what it is given.
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=")
    proof = {"code_challenge": challenge.decode(), "code_challenge_method": "S256"}
    asked = {"redirect_uri": REDIRECT_URI, "state": STATE, **proof}
    url: Any = order("authorize", params=asked)
    exchange = {"code": query_of(decide(url))["code"], "redirect_uri": REDIRECT_URI}
    with pytest.raises(ProblemError, match="'error': 'invalid_"):
        order("code", params=exchange)
    exchange |= {"code": query_of(decide(url))["code"], "code_verifier": VERIFIER}
    token = order("code", params=exchange)
    with pytest.raises(ProblemError, match="'error': 'invalid_grant'"):
        order("code", params=exchange)
    assert order("refresh", params=token)["refresh_token"] != token["refresh_token"]
    with pytest.raises(ProblemError, match="'status': 400, 'error': 'invalid_grant'"):
        order("refresh", params=token)
    assert order("password", params=LOGIN)["token_type"] == "bearer"
    with pytest.raises(ProblemError, match="'error': 'invalid_client'"):
        order("password", "wrong", params=LOGIN)


def test_openid_client(omnifund: str) -> None:
    order = orders("openid_client.js", omnifund)
    proof = {"state": STATE, "codeVerifier": VERIFIER}

    def ask(button: str) -> dict[str, str]:
        url: Any = order("authorize", params={"redirect_uri": REDIRECT_URI, **proof})
        return {"callback": decide(url, button), **proof}

    # As it comes it takes no null for a scope, and so no answer of OmniFund's form. The code has
    # been spent by then.
    spent = ask("accepted")
    with pytest.raises(ProblemError, match="OAUTH_INVALID_RESPONSE"):
        order("code", params=spent)
    with pytest.raises(ProblemError, match="'error': 'invalid_grant'"):
        order("code", params=spent, mendScope=True)

    token = order("code", params=ask("accepted"), mendScope=True)
    assert order("customers", params=token)["hydra:totalItems"] == 60
    fresh = order("refresh", params=token, mendScope=True)
    assert fresh["refresh_token"] != token["refresh_token"]
    with pytest.raises(ProblemError, match="'error': 'invalid_grant'"):
        order("refresh", params=token)
    with pytest.raises(ProblemError, match="'error': 'access_denied'"):
        order("code", params=ask("rejected"))
    with pytest.raises(ProblemError, match="'error': 'invalid_client'"):
        order("password", "wrong", params=LOGIN)
    assert order("password", params=LOGIN, mendScope=True)["token_type"] == "bearer"
