"""The bytes around the consent form, as FOSOAuthServerBundle reads and sends them."""

import json
from email.utils import parsedate_to_datetime

import pytest
import requests

from tests.local_omnifund.conftest import Site
from tests.local_omnifund.visitor import AUTHORIZE_FORM, Visitor
from tests.support.browsing import form_to, forms, query_of

OPENED_SESSION = "max-age=0, must-revalidate, private"
OPENED_SESSION_AND_NO_STORE = "max-age=0, must-revalidate, no-store, private"


def submit_consent(site: Site, visitor: Visitor, extra: dict[str, str]) -> requests.Response:
    """Open the consent page and submit its form with `extra` fields and no button."""
    visitor.sign_in()
    page = visitor.get("/oauth/v2/auth", site.authorize_parameters())
    return visitor.submit(form_to(page, "/oauth/v2/auth"), extra)


# --- K53: the consent form's buttons -----------------------------------------------------------


@pytest.mark.parametrize(
    "buttons",
    [
        {"accepted": "Allow"},
        {"accepted": ""},
        {"accepted": "no"},
        {"accepted": "Allow", "rejected": "Deny"},
    ],
)
def test_the_presence_of_accepted_at_the_top_level_of_the_body_is_allow(
    site: Site, visitor: Visitor, buttons: dict[str, str]
) -> None:
    """K53"""
    response = submit_consent(site, visitor, buttons)

    assert "code" in query_of(response.headers["Location"])


@pytest.mark.parametrize("buttons", [{"rejected": "Deny"}, {}, {"Accepted": "Allow"}, {"x": "y"}])
def test_every_other_submission_is_deny(
    site: Site, visitor: Visitor, buttons: dict[str, str]
) -> None:
    """K53"""
    response = submit_consent(site, visitor, buttons)

    assert query_of(response.headers["Location"])["error"] == "access_denied"


@pytest.mark.parametrize("field", ["accepted", "rejected", "nonce", "", "state][0", "_csrf_token"])
def test_an_extra_field_inside_the_form_shows_the_page_once_more(
    site: Site, visitor: Visitor, field: str
) -> None:
    """K53: the names that this server once used for its buttons are extra fields too."""
    page = submit_consent(site, visitor, {f"{AUTHORIZE_FORM}[{field}]": "1", "accepted": "Allow"})

    assert page.status_code == 200
    form = form_to(page, "/oauth/v2/auth")
    assert form.fields[f"{AUTHORIZE_FORM}[state]"] == "xyz"
    assert site.redis.keys("local_omnifund:code:*") == []
    # The page that came back works.
    assert "code" in query_of(visitor.submit(form, accepted="Allow").headers["Location"])


def test_extra_fields_at_the_top_level_of_the_body_are_ignored(
    site: Site, visitor: Visitor
) -> None:
    """K53"""
    extra = {"nonce": "1", "_token": "wrong", "accepted": "Allow"}

    assert "code" in query_of(submit_consent(site, visitor, extra).headers["Location"])


# --- K54: redirects and cache headers ------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        (
            {"response_type": "token"},
            {"error": "unsupported_response_type", "error_description": None, "state": "xyz"},
        ),
        (
            {"response_type": "id_token", "state": ""},
            {"error": "unsupported_response_type", "error_description": None},
        ),
        (
            {"response_type": ""},
            {
                "error": "invalid_request",
                "error_description": "Invalid response type.",
                "state": "xyz",
            },
        ),
        (
            {"scope": "read", "state": ""},
            {
                "error": "invalid_scope",
                "error_description": "An unsupported scope was requested.",
            },
        ),
    ],
)
def test_an_error_redirects_body_names_a_missing_description_and_its_location_omits_it(
    site: Site, visitor: Visitor, changes: dict[str, str], body: dict[str, str | None]
) -> None:
    """K54: `"error_description":null`"""
    visitor.sign_in()
    response = visitor.decide(site.authorize_parameters(**changes))

    assert response.text == json.dumps(body, separators=(",", ":"))
    sent = {name: value for name, value in body.items() if value is not None}
    assert query_of(response.headers["Location"]) == sent
    assert response.headers["Content-Type"].startswith("text/html")


def test_every_redirect_around_the_login_names_the_host(site: Site, visitor: Visitor) -> None:
    """K54: before and after the login, after a failed one, after signing out and switching."""
    login = f"{site.url}/login"

    assert visitor.get("/customers?page=2").headers["Location"] == login
    assert visitor.sign_in("merchant", "wrong").headers["Location"] == login
    assert visitor.sign_in().headers["Location"] == f"{site.url}/customers?page=2"
    assert visitor.submit(form_to(visitor.get("/"), "/logout")).headers["Location"] == login
    assert visitor.sign_in().headers["Location"] == f"{site.url}/"
    page = visitor.get("/oauth/v2/auth", site.authorize_parameters())
    assert visitor.submit(form_to(page, "/switch-account")).headers["Location"] == login
    assert visitor.sign_in().headers["Location"].startswith(f"{site.url}/oauth/v2/auth?client_id=")


@pytest.mark.parametrize(
    "changes",
    [
        {"redirect_uri": "https://elsewhere.example/"},
        {"redirect_uri": ""},
        {"redirect_uri": "http://["},
    ],
)
@pytest.mark.parametrize("signed_in", [True, False])
def test_a_redirect_uri_error_has_the_headers_of_a_session_and_of_json(
    site: Site, visitor: Visitor, changes: dict[str, str], signed_in: bool
) -> None:
    """K54: `max-age=0, must-revalidate, no-store, private` and `Expires`"""
    if signed_in:
        visitor.sign_in()
    visitor.http.headers["Accept"] = "*/*"
    response = visitor.get("/oauth/v2/auth", site.authorize_parameters(**changes))

    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == OPENED_SESSION_AND_NO_STORE
    assert response.headers["Pragma"] == "no-cache"
    assert_expires_now(site, response)


@pytest.mark.parametrize("button", ["accepted", "rejected"])
@pytest.mark.parametrize("changes", [{}, {"response_type": "token"}])
def test_the_response_to_a_decision_has_the_headers_of_a_session(
    site: Site, visitor: Visitor, changes: dict[str, str], button: str
) -> None:
    """K54"""
    visitor.sign_in()
    response = visitor.decide(site.authorize_parameters(**changes), button)

    assert response.status_code == 302
    assert response.headers["Cache-Control"] == OPENED_SESSION
    assert_expires_now(site, response)


@pytest.mark.parametrize("client_id", ["", "9_unknown"])
def test_the_page_about_a_wrong_client_has_the_headers_of_a_session(
    site: Site, visitor: Visitor, client_id: str
) -> None:
    """K54"""
    response = visitor.get("/oauth/v2/auth", site.authorize_parameters(client_id=client_id))

    assert response.headers["Cache-Control"] == OPENED_SESSION
    assert_expires_now(site, response)


def test_the_token_endpoint_opens_no_session(site: Site) -> None:
    """K54: its responses stay as they were."""
    for response in (site.password(), site.token({}), site.token({"grant_type": "foo"})):
        assert response.headers["Cache-Control"] == "no-store, private"
        assert "Expires" not in response.headers
        assert "Set-Cookie" not in response.headers


def assert_expires_now(site: Site, response: requests.Response) -> None:
    expires = parsedate_to_datetime(response.headers["Expires"])
    assert int(expires.timestamp()) == int(site.clock.now)


# --- L21: a wrong password -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("username", "kept"),
    [
        ("second-merchant", "second-merchant"),
        ('"><script>alert(1)', '"><script>alert(1)'),
        ("x" * 5000, "x" * 180),
        ("\0", "\0"),
    ],
)
def test_the_username_is_kept_after_a_wrong_password(
    visitor: Visitor, username: str, kept: str
) -> None:
    """L21"""
    visitor.sign_in(username, "wrong")
    page = visitor.get("/login")

    assert forms(page)[0].fields["_username"] == kept
    assert "<script>" not in page.text
    # The merchant types only the password.
    merchant = visitor.submit(forms(page)[0], _username="merchant", _password="local-omnifund-demo")
    assert merchant.headers["Location"] == f"{visitor.site}/"
    visitor.submit(form_to(visitor.get("/"), "/logout"))
    assert forms(visitor.get("/login"))[0].fields["_username"] == ""
