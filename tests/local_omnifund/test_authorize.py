"""The authorize endpoint: from the link to the answer at the client's redirect URI."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from urllib.parse import quote, urlsplit

import pytest
import requests

from local_omnifund.models import Client, digest
from local_omnifund.store import Store
from tests.local_omnifund.conftest import Site
from tests.local_omnifund.visitor import AUTHORIZE_FORM, Visitor
from tests.support.browsing import TIMEOUT, form_to, forms, query_of

CODE = r"[MNOYZ][A-Za-z0-9]{85}"


def register(site: Site, *redirect_uris: str, active: bool = True) -> str:
    """Make another client with these redirect URIs; returns its id."""
    client = Client("7_other", "merchant", "Another application", digest("s"), redirect_uris)
    Store(site.redis, site.clock).save_client(replace(client, active=active))
    return client.client_id


def test_a_stranger_is_sent_to_the_login_page_and_then_back(site: Site, visitor: Visitor) -> None:
    start = visitor.get("/oauth/v2/auth", site.authorize_parameters(state="a b&ü"))

    assert start.status_code == 302
    assert start.headers["Location"] == site.url + "/login"
    cookie = start.headers["Set-Cookie"]
    assert cookie.startswith("PHPSESSID=")
    assert {"HttpOnly", "Path=/", "SameSite=Lax"} == set(cookie.split("; ")[1:])

    signed_in = visitor.sign_in()

    assert signed_in.status_code == 302
    target = urlsplit(signed_in.headers["Location"])
    assert target.path == "/oauth/v2/auth"
    # Sorted by name and encoded anew.
    assert target.query == (
        f"client_id={site.client_id}&redirect_uri={quote(site.redirect_uri, safe='')}"
        "&response_type=code&state=a%20b%26%C3%BC"
    )


def test_signing_in_gives_a_new_session_id_and_kills_the_old_one(
    site: Site, visitor: Visitor
) -> None:
    visitor.get("/login")
    before = visitor.http.cookies["PHPSESSID"]
    visitor.sign_in()
    after = visitor.http.cookies["PHPSESSID"]

    assert before != after
    planted = requests.get(
        site.url + "/customers",
        cookies={"PHPSESSID": before},
        allow_redirects=False,
        timeout=TIMEOUT,
    )
    assert planted.status_code == 302


def test_a_session_id_that_the_server_did_not_make_is_never_adopted(visitor: Visitor) -> None:
    visitor.http.headers["Cookie"] = "PHPSESSID=planted"

    answer = visitor.get("/login")

    assert "PHPSESSID=planted" not in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("username", "password"),
    [("merchant", "wrong"), ("nobody", "local-omnifund-demo"), ("", ""), ("merchant", "")],
)
def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(
    site: Site, visitor: Visitor, username: str, password: str
) -> None:
    answer = visitor.sign_in(username, password)

    assert answer.status_code == 302
    assert answer.headers["Location"] == site.url + "/login"
    assert "Invalid credentials." in visitor.get("/login").text
    assert "Invalid credentials." not in visitor.get("/login").text


def test_the_login_form_needs_its_csrf_token(site: Site, visitor: Visitor) -> None:
    form = forms(visitor.get("/login"))[0]
    answer = visitor.submit(
        form, _username="merchant", _password="local-omnifund-demo", _csrf_token="wrong"
    )

    assert answer.headers["Location"] == site.url + "/login"
    assert "Invalid CSRF token." in visitor.get("/login").text
    assert visitor.get("/").status_code == 302


def test_the_consent_page_names_the_client_the_destination_and_the_merchant(
    site: Site, visitor: Visitor
) -> None:
    visitor.sign_in()
    page = visitor.get("/oauth/v2/auth", site.authorize_parameters())

    assert page.status_code == 200
    assert "OmniFund Reference Integration" in page.text
    assert "<code>localhost:8000</code>" in page.text
    assert "<code>merchant</code>" in page.text
    assert page.headers["Cache-Control"] == "max-age=0, must-revalidate, private"
    assert "Expires" in page.headers
    form = form_to(page, "/oauth/v2/auth")
    assert list(form.fields) == [
        f"{AUTHORIZE_FORM}[{name}]"
        for name in ("client_id", "response_type", "redirect_uri", "state", "scope", "_token")
    ]
    assert form.buttons == {"accepted": "Allow", "rejected": "Deny"}


def test_allow_sends_the_state_first_and_then_the_code(site: Site, visitor: Visitor) -> None:
    visitor.sign_in()
    answer = visitor.decide(site.authorize_parameters(state="a b&c"))

    assert answer.status_code == 302
    assert answer.text == ""
    assert re.fullmatch(
        re.escape(site.redirect_uri) + r"\?state=a\+b%26c&code=" + CODE, answer.headers["Location"]
    )


def test_allow_without_a_state_sends_an_empty_one(site: Site, visitor: Visitor) -> None:
    visitor.sign_in()
    answer = visitor.decide(site.authorize_parameters(state=""))

    assert re.search(r"/callback\?state=&code=" + CODE + "$", answer.headers["Location"])


def test_deny_tells_the_client_and_keeps_the_state(site: Site, visitor: Visitor) -> None:
    visitor.sign_in()
    answer = visitor.decide(site.authorize_parameters(state="<x>"), "rejected")

    assert answer.status_code == 302
    assert answer.headers["Location"] == (
        site.redirect_uri + "?error=access_denied"
        "&error_description=The+user+denied+access+to+your+application&state=%3Cx%3E"
    )
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "<" not in answer.text
    assert json.loads(answer.text) == {
        "error": "access_denied",
        "error_description": "The user denied access to your application",
        "state": "<x>",
    }


def test_deny_without_a_state_sends_none(site: Site, visitor: Visitor) -> None:
    visitor.sign_in()
    answer = visitor.decide(site.authorize_parameters(state=""), "rejected")

    assert "state" not in query_of(answer.headers["Location"])


def test_a_form_without_the_allow_button_is_a_denial(site: Site, visitor: Visitor) -> None:
    visitor.sign_in()
    page = visitor.get("/oauth/v2/auth", site.authorize_parameters())
    answer = visitor.submit(form_to(page, "/oauth/v2/auth"))

    assert query_of(answer.headers["Location"])["error"] == "access_denied"


def test_the_query_of_a_redirect_uri_is_kept(site: Site, visitor: Visitor) -> None:
    uri = "http://localhost:8000/callback?tenant=a%20b"
    client_id = register(site, uri)
    visitor.sign_in()
    answer = visitor.decide(site.authorize_parameters(client_id=client_id, redirect_uri=uri))

    assert answer.headers["Location"].startswith(uri + "&state=xyz&code=")


@pytest.mark.parametrize("token", ["", "wrong"])
def test_without_the_csrf_token_the_page_is_shown_again(
    site: Site, visitor: Visitor, token: str
) -> None:
    visitor.sign_in()
    page = visitor.get("/oauth/v2/auth", site.authorize_parameters())
    changes = {f"{AUTHORIZE_FORM}[_token]": token, "accepted": "Allow"}
    again = visitor.submit(form_to(page, "/oauth/v2/auth"), changes)

    assert again.status_code == 200
    form = form_to(again, "/oauth/v2/auth")
    assert form.fields[f"{AUTHORIZE_FORM}[state]"] == "xyz"
    assert site.redis.keys("local_omnifund:code:*") == []


def test_a_post_without_the_form_shows_the_page_again(site: Site, visitor: Visitor) -> None:
    visitor.sign_in()
    page = visitor.http.post(
        site.url + "/oauth/v2/auth",
        params=site.authorize_parameters(),
        data={"accepted": "Allow"},
        timeout=TIMEOUT,
    )

    assert page.status_code == 200
    assert form_to(page, "/oauth/v2/auth")


def test_a_session_that_ended_before_allow_leads_through_the_login_page_back_to_the_question(
    site: Site, visitor: Visitor
) -> None:
    visitor.sign_in()
    page = visitor.get("/oauth/v2/auth", site.authorize_parameters())
    visitor.http.cookies.clear()
    allow = {"accepted": "Allow"}
    answer = visitor.submit(form_to(page, "/oauth/v2/auth"), allow)

    assert answer.headers["Location"] == site.url + "/login"
    back = visitor.sign_in()
    page = visitor.get(back.headers["Location"])
    assert page.status_code == 200
    assert form_to(page, "/oauth/v2/auth").fields[f"{AUTHORIZE_FORM}[state]"] == "xyz"


def test_a_consent_page_of_another_session_cannot_be_submitted(site: Site) -> None:
    with site.visitor() as attacker, site.visitor() as victim:
        attacker.sign_in("second-merchant")
        victim.sign_in()
        page = attacker.get("/oauth/v2/auth", site.authorize_parameters())
        allow = {"accepted": "Allow"}
        answer = victim.submit(form_to(page, "/oauth/v2/auth"), allow)

    assert answer.status_code == 200


def test_another_account_can_be_used_for_the_same_request(site: Site, visitor: Visitor) -> None:
    visitor.sign_in()
    page = visitor.get("/oauth/v2/auth", site.authorize_parameters(state="a&b=c"))
    answer = visitor.submit(form_to(page, "/switch-account"))

    assert answer.headers["Location"] == site.url + "/login"
    back = visitor.sign_in("second-merchant")
    assert query_of(back.headers["Location"]) == site.authorize_parameters(state="a&b=c")
    page = visitor.get(back.headers["Location"])
    assert "<code>second-merchant</code>" in page.text


@pytest.mark.parametrize(
    ("changes", "status", "sentence"),
    [
        ({"client_id": ""}, 400, "The request has no client_id"),
        ({"client_id": "9_unknown"}, 404, "No active OAuth client has this client_id."),
        ({"client_id": "no-underscore"}, 404, "No active OAuth client has this client_id."),
        ({"client_id": "1_ü\0"}, 404, "No active OAuth client has this client_id."),
    ],
)
def test_a_wrong_client_gets_a_page_before_any_password_is_asked_for(
    site: Site, visitor: Visitor, changes: dict[str, str], status: int, sentence: str
) -> None:
    for _ in ("signed out", "signed in"):
        page = visitor.get("/oauth/v2/auth", site.authorize_parameters(**changes))
        assert page.status_code == status
        assert page.headers["Content-Type"].startswith("text/html")
        assert sentence in page.text
        visitor.sign_in()


def test_a_deactivated_client_is_unknown(site: Site, visitor: Visitor) -> None:
    client_id = register(site, site.redirect_uri, active=False)
    page = visitor.get("/oauth/v2/auth", site.authorize_parameters(client_id=client_id))

    assert page.status_code == 404


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "http://localhost:8000/callback/extra",
        "http://localhost:8000/callbackx",
        "http://localhost:8000/callback?a=b",
        "http://localhost:8000/callback#frag",
        "http://localhost:8000/callback/../x",
        "http://localhost:8000/Callback",
        "http://localhost:8001/callback",
        "http://user@localhost:8000/callback",
        "https://localhost:8000/callback",
        "http://localhost:8000/callback ",
        "//localhost:8000/callback",
        "javascript:alert(1)",
    ],
)
def test_a_redirect_uri_that_is_not_registered_is_shown_and_never_followed(
    site: Site, visitor: Visitor, redirect_uri: str
) -> None:
    parameters = site.authorize_parameters(redirect_uri=redirect_uri)
    page = visitor.get("/oauth/v2/auth", parameters)

    assert page.status_code == 400
    assert "Location" not in page.headers
    assert "The redirect URI provided does not match registered URI(s)." in page.text

    program = requests.get(site.url + "/oauth/v2/auth", params=parameters, timeout=TIMEOUT)
    assert program.status_code == 400
    assert program.headers["Content-Type"] == "application/json"
    assert program.text == (
        '{"error":"redirect_uri_mismatch",'
        '"error_description":"The redirect URI provided does not match registered URI(s)."}'
    )


@pytest.mark.parametrize(
    ("registered", "sentence"),
    [
        ([], "No redirect URL was supplied or registered."),
        (["http://a.test/"], "The redirect URI is mandatory and was not supplied."),
        (
            ["http://a.test/", "http://b.test/"],
            "No redirect URL was supplied and more than one is registered.",
        ),
    ],
)
def test_a_missing_redirect_uri_is_explained(
    site: Site, visitor: Visitor, registered: list[str], sentence: str
) -> None:
    client_id = register(site, *registered)
    page = visitor.get(
        "/oauth/v2/auth", site.authorize_parameters(client_id=client_id, redirect_uri="")
    )

    assert page.status_code == 400
    assert sentence in page.text


@pytest.mark.parametrize("button", ["accepted", "rejected"])
@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        (
            {"response_type": ""},
            "error=invalid_request&error_description=Invalid+response+type.&state=xyz",
        ),
        ({"response_type": "token"}, "error=unsupported_response_type&state=xyz"),
        ({"response_type": "code token"}, "error=unsupported_response_type&state=xyz"),
        (
            {"scope": "read"},
            "error=invalid_scope&error_description=An+unsupported+scope+was+requested.&state=xyz",
        ),
    ],
)
def test_other_mistakes_are_told_to_the_client_after_the_form(
    site: Site, visitor: Visitor, button: str, changes: dict[str, str], answer: str
) -> None:
    visitor.sign_in()
    response = visitor.decide(site.authorize_parameters(**changes), button)

    assert response.status_code == 302
    assert response.headers["Location"] == f"{site.redirect_uri}?{answer}"


def test_unknown_parameters_are_ignored_and_the_last_repetition_wins(
    site: Site, visitor: Visitor
) -> None:
    visitor.sign_in()
    page = visitor.get(
        "/oauth/v2/auth",
        [
            ("client_id", "9_unknown"),
            ("state", "first"),
            ("prompt", "login"),
            ("nonce", "n"),
            *site.authorize_parameters(state="last").items(),
        ],
    )

    assert page.status_code == 200
    assert form_to(page, "/oauth/v2/auth").fields[f"{AUTHORIZE_FORM}[state]"] == "last"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(site: Site, method: str) -> None:
    answer = requests.request(method, site.url + "/oauth/v2/auth", timeout=TIMEOUT)

    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, POST"


def test_what_the_client_sends_never_becomes_markup(site: Site, visitor: Visitor) -> None:
    visitor.sign_in()
    page = visitor.get("/oauth/v2/auth", site.authorize_parameters(state='"><script>alert(1)'))

    assert "<script>" not in page.text
    assert "alert(1)" not in re.sub(r'value="[^"]*"', "", page.text)
    fields = form_to(page, "/oauth/v2/auth").fields
    assert fields[f"{AUTHORIZE_FORM}[state]"] == '"><script>alert(1)'


# --- PKCE (RFC 7636): ignored by OmniFund, checked here -------------------------------------------

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = (
    base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
)
PKCE = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}


def test_a_code_with_a_challenge_is_redeemed_with_its_verifier(site: Site) -> None:
    assert site.exchange(site.code(**PKCE), code_verifier=VERIFIER).status_code == 200


@pytest.mark.parametrize("verifier", ["", "short", "x" * 43, VERIFIER + "x", CHALLENGE])
def test_a_wrong_or_missing_verifier_is_refused_and_does_not_consume_the_code(
    site: Site, verifier: str
) -> None:
    code = site.code(**PKCE)

    refused = site.exchange(code, code_verifier=verifier)

    assert refused.status_code == 400
    assert refused.json()["error"] == "invalid_grant"
    assert site.exchange(code, code_verifier=VERIFIER).status_code == 200


def test_a_verifier_without_a_challenge_is_refused(site: Site) -> None:
    code = site.code()

    assert site.exchange(code, code_verifier=VERIFIER).json()["error"] == "invalid_grant"
    assert site.exchange(code).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": CHALLENGE, "code_challenge_method": "plain"},
        {"code_challenge": CHALLENGE},
        {"code_challenge_method": "S256"},
        {"code_challenge": "too-short", "code_challenge_method": "S256"},
    ],
)
def test_a_challenge_that_is_not_s256_is_told_to_the_client(
    site: Site, visitor: Visitor, changes: dict[str, str]
) -> None:
    visitor.sign_in()
    answer = visitor.decide(site.authorize_parameters(**changes))

    told = query_of(answer.headers["Location"])
    assert (told["error"], told["state"]) == ("invalid_request", "xyz")
    assert "code" not in told
