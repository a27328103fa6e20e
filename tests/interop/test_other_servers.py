"""The app as a client of third-party authorization servers.

docs/interoperability.md says what is different about each; every difference is seen here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.interop.django_oauth_toolkit import MERCHANT, PASSWORD
from tests.interop.other_server import OtherServer, Visit, other_server, visiting
from tests.support.browsing import forms, query_of
from tests.support.programs import node

NODE = Path(__file__).parent / "node"


def by_password(visit: Visit, password: str) -> requests.Response:
    """Sign in with the password grant."""
    return visit.press("/login/password", "/login/password", username=MERCHANT, password=password)


def refresh(visit: Visit) -> requests.Response:
    """Press the dashboard's button."""
    return visit.press("/dashboard", "/token/refresh")


def assert_refreshing_rotates(visit: Visit) -> None:
    """A refresh replaces both tokens, and the old refresh token is not accepted again.

    That is the last refresh: the connection ends with the access token, and not before (K24).
    """
    before = visit.stored
    assert refresh(visit).headers["Location"] == "/dashboard"
    after = visit.stored
    assert before.token.access_token != after.token.access_token
    assert before.token.refresh_token != after.token.refresh_token
    visit.put_back(before)
    assert_not_refreshed(visit)


def assert_not_refreshed(visit: Visit) -> None:
    """The server has refused to refresh: the merchant is signed in until the token expires."""
    assert refresh(visit).headers["Location"] == "/dashboard"
    assert "Not refreshed" in visit.get("/dashboard").text
    assert visit.status()["refreshable"] is False
    visit.at.clock.now = visit.stored.token.expires_at - 1
    assert visit.get("/dashboard").status_code == 200
    visit.at.clock.advance(1)
    assert visit.get("/dashboard").headers["Location"] == "/login?next=/dashboard"
    assert visit.status() == {"signed_in": False}


def assert_refused(answer: requests.Response, status: int, code: str) -> None:
    """The app has shown a page that names the server's error."""
    assert answer.status_code == status, answer.text
    assert f"error code: {code}" in answer.text


@pytest.fixture
def visit(server: OtherServer, redis_url: str) -> Iterator[Visit]:
    """A visit to the app with the ``server`` of the test's class."""
    with visiting(server, redis_url) as visit:
        yield visit


class TestDjangoOAuthToolkit:
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[OtherServer]:
        with other_server([sys.executable, "-m", "tests.interop.django_oauth_toolkit"]) as server:
            yield server

    def answer_consent(self, visit: Visit, **button: str) -> str:
        """Press a button of the consent page; return the callback's URL."""
        page = visit.get("/login", follow=True)
        (form,) = forms(page)
        fields = {name: value for name, value in form.fields.items() if name != "allow"}
        answer = visit.post(form.url, {**fields, **button})
        return answer.headers["Location"]

    def test_a_sign_in_with_pkce_and_a_refresh_with_rotation(self, visit: Visit) -> None:
        answer = visit.get(self.answer_consent(visit, allow="Authorize"))
        assert answer.headers["Location"] == "/dashboard", answer.text
        # It says which scopes a client gets that asks for none.
        assert visit.status()["scope"] == "read write"
        assert_refreshing_rotates(visit)

    def test_a_denial(self, visit: Visit) -> None:
        assert_refused(visit.get(self.answer_consent(visit)), 403, "access_denied")

    def test_it_insists_on_pkce(self, server: OtherServer, redis_url: str) -> None:
        with visiting(server, redis_url, pkce=False) as visit:
            callback = visit.follow(visit.get("/login"), until=server.callback)
            # Its description is about the challenge; the code alone is shown.
            assert_refused(visit.get(callback), 400, "invalid_request")

    def test_a_wrong_client_secret_is_on_the_side_of_the_app(
        self, server: OtherServer, redis_url: str
    ) -> None:
        """The status of ``invalid_client`` is 401 here, and 400 at OmniFund."""
        with visiting(server, redis_url, omnifund_client_secret="another") as visit:
            answer = visit.get(self.answer_consent(visit, allow="Authorize"))
            assert_refused(answer, 502, "invalid_client")

    def test_the_password_grant(self, server: OtherServer, redis_url: str) -> None:
        """A client has one grant type, so this is another client of the same server."""
        with visiting(server, redis_url, omnifund_client_id="interop-password") as visit:
            assert by_password(visit, "wrong").status_code == 401
            assert by_password(visit, PASSWORD).status_code == 303
            assert_refreshing_rotates(visit)

    def test_a_grant_that_the_client_may_not_use_is_on_the_side_of_the_app(
        self, visit: Visit
    ) -> None:
        assert_refused(by_password(visit, PASSWORD), 502, "unauthorized_client")


class TestOidcProvider:
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[OtherServer]:
        with other_server(node(NODE / "oidc_provider.js")) as server:
            yield server

    def open_consent(self, visit: Visit) -> requests.Response:
        """Log in at its pages; return the one that asks for consent."""
        page = visit.get("/login", follow=True)
        (form,) = forms(page)
        fields = {**form.fields, "login": MERCHANT, "password": "any"}
        return visit.post(form.url, fields, follow=True)

    def consent(self, visit: Visit, server: OtherServer) -> str:
        """Log in and press Continue; return the callback's URL."""
        page = self.open_consent(visit)
        (form,) = forms(page)
        answer = visit.post(form.url, form.fields)
        return visit.follow(answer, until=server.callback)

    def test_a_sign_in_with_pkce_and_a_refresh_with_rotation(
        self, server: OtherServer, visit: Visit
    ) -> None:
        callback = self.consent(visit, server)
        # It names itself (RFC 9207), as whom the app expects.
        assert query_of(callback)["iss"] == server.url
        answer = visit.get(callback)
        assert answer.headers["Location"] == "/dashboard", answer.text
        # The app asked for no scope; the one that was granted is kept, the ID token is not.
        assert visit.status()["scope"] == "openid"
        assert "id_token" in visit.get("/inspector").text
        assert_refreshing_rotates(visit)

    def test_a_denial(self, server: OtherServer, visit: Visit) -> None:
        abort = visit.get(f"{self.open_consent(visit).url}/abort")
        callback = visit.follow(abort, until=server.callback)
        assert query_of(callback)["iss"] == server.url
        assert_refused(visit.get(callback), 403, "access_denied")

    def test_its_name_must_exactly_match_the_base_url(
        self, server: OtherServer, redis_url: str
    ) -> None:
        """B9"""
        other_name = server.url.replace("localhost", "127.0.0.1")
        with visiting(server, redis_url, omnifund_base_url=other_name) as visit:
            answer = visit.get(self.consent(visit, server))
            assert answer.status_code == 400
            assert visit.status() == {"signed_in": False}

    def test_it_insists_on_pkce(self, server: OtherServer, redis_url: str) -> None:
        with visiting(server, redis_url, pkce=False) as visit:
            callback = visit.follow(visit.get("/login"), until=server.callback)
            assert_refused(visit.get(callback), 400, "invalid_request")

    def test_without_a_scope_it_has_nothing_to_grant(
        self, server: OtherServer, redis_url: str
    ) -> None:
        client_id = f"{server.client_id}-without-a-scope"
        with visiting(server, redis_url, omnifund_client_id=client_id) as visit:
            assert_refused(visit.get(self.consent(visit, server)), 403, "access_denied")

    def test_a_wrong_client_secret_is_on_the_side_of_the_app(
        self, server: OtherServer, redis_url: str
    ) -> None:
        with visiting(server, redis_url, omnifund_client_secret="another") as visit:
            answer = visit.get(self.consent(visit, server))
            assert_refused(answer, 502, "invalid_client")

    def test_it_has_no_password_grant(self, visit: Visit) -> None:
        assert_refused(by_password(visit, PASSWORD), 502, "unsupported_grant_type")


class TestOAuth2MockServer:
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[OtherServer]:
        with other_server(node(NODE / "mock_server.js")) as server:
            yield server

    def sign_in(self, visit: Visit, server: OtherServer) -> requests.Response:
        """Sign in; it has no pages."""
        return visit.get(visit.follow(visit.get("/login"), until=server.callback))

    def answer_next(self, server: OtherServer, **errors: str) -> None:
        """Have its next answer be an error: of ``authorize`` or ``token``."""
        requests.post(f"{server.url}/answer", json=errors, timeout=10).raise_for_status()

    def test_a_sign_in_with_pkce_and_a_refresh(self, server: OtherServer, visit: Visit) -> None:
        assert self.sign_in(visit, server).headers["Location"] == "/dashboard"
        before = visit.stored
        # The app requested no scope, and no ID token; the one that comes along is not stored.
        assert before.token.scope == "dummy"
        assert "id_token" in visit.get("/inspector").text
        # Its access tokens are JWTs.
        assert before.token.access_token.count(".") == 2
        assert refresh(visit).headers["Location"] == "/dashboard"
        after = visit.stored.token
        assert after.generation == 1
        assert after.refresh_token != before.token.refresh_token
        # It keeps no count of refresh tokens.
        visit.put_back(before)
        assert refresh(visit).headers["Location"] == "/dashboard"

    def test_a_denial(self, server: OtherServer, visit: Visit) -> None:
        self.answer_next(server, authorize="access_denied")
        assert_refused(self.sign_in(visit, server), 403, "access_denied")

    def test_a_code_that_it_refuses(self, server: OtherServer, visit: Visit) -> None:
        self.answer_next(server, token="invalid_grant")
        assert self.sign_in(visit, server).status_code == 400
        assert visit.status() == {"signed_in": False}

    def test_a_refresh_token_that_it_refuses(self, server: OtherServer, visit: Visit) -> None:
        self.sign_in(visit, server)
        self.answer_next(server, token="invalid_grant")
        assert_not_refreshed(visit)

    def test_the_password_grant(self, server: OtherServer, visit: Visit) -> None:
        assert by_password(visit, "any").headers["Location"] == "/dashboard"
        # No scope in the response: neither side has ever named one.
        assert visit.status()["scope"] is None
        assert refresh(visit).headers["Location"] == "/dashboard"
