"""The merchant portal: signing in and out, its pages, and Profile > API Access."""

import re

import pytest
import requests

from tests.local_omnifund.conftest import Site
from tests.local_omnifund.visitor import Visitor
from tests.support.browsing import TIMEOUT, form_to, forms

CLIENT_ID = r"\d+_[0-9a-z]{9,13}[048cgkosw]{34,41}"
API_ACCESS = "/profile/api-access"


@pytest.fixture
def merchant(visitor: Visitor) -> Visitor:
    """A visitor who has signed in."""
    visitor.sign_in()
    return visitor


def new_client(merchant: Visitor) -> tuple[str, requests.Response]:
    """Press "New OAuth Client"; returns the client's path and the page that follows."""
    form = form_to(merchant.get(API_ACCESS), API_ACCESS)
    created = merchant.submit(form)
    assert created.status_code == 303
    path = created.headers["Location"]
    return path, merchant.get(path)


def secret_on(page: requests.Response) -> str | None:
    found = re.search(r'<code class="secret"[^>]*>([^<]+)</code>', page.text)
    return found.group(1) if found else None


@pytest.mark.parametrize("path", ["/", "/customers", "/transactions?page=2", API_ACCESS])
def test_a_portal_page_is_shown_after_signing_in(visitor: Visitor, path: str) -> None:
    anonymous = visitor.get(path)
    assert anonymous.status_code == 302
    assert anonymous.headers["Location"].endswith("/login")

    signed_in = visitor.sign_in()

    assert signed_in.headers["Location"] == visitor.site + path
    page = visitor.get(path)
    assert page.status_code == 200
    assert "Harbor Street Studio" in page.text
    assert page.headers["Cache-Control"] == "max-age=0, must-revalidate, private"


def test_signing_in_without_a_page_in_mind_leads_to_the_portal(merchant: Visitor) -> None:
    page = merchant.get("/")

    assert "Good to see you, Jordan" in page.text
    assert "OmniFund Reference Integration" in page.text


def test_the_login_page_shows_the_demo_account_and_what_this_server_is(visitor: Visitor) -> None:
    page = visitor.get("/login").text

    assert "a local emulator, not the real OmniFund" in page
    assert "<code>merchant</code>" in page
    assert "<code>local-omnifund-demo</code>" in page


def test_signing_out_ends_the_session_on_the_server(site: Site, merchant: Visitor) -> None:
    copied = merchant.http.cookies["PHPSESSID"]
    answer = merchant.submit(form_to(merchant.get("/"), "/logout"))

    assert answer.headers["Location"] == site.url + "/login"
    assert "You have signed out." in merchant.get("/login").text
    assert merchant.get("/").status_code == 302
    with site.visitor() as thief:
        thief.http.cookies.set("PHPSESSID", copied, domain="127.0.0.1", path="/")
        assert thief.get("/").status_code == 302


@pytest.mark.parametrize("path", ["/logout", "/switch-account", "/login_check"])
def test_actions_are_not_taken_on_get(merchant: Visitor, path: str) -> None:
    answer = merchant.get(path)

    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"
    assert merchant.get("/").status_code == 200


def test_every_form_of_the_portal_needs_its_csrf_token(merchant: Visitor) -> None:
    path, page = new_client(merchant)
    for form in [*forms(page), *forms(merchant.get(API_ACCESS))]:
        assert "_csrf_token" in form.fields
        for token in ("", "wrong", "ü"):
            answer = merchant.submit(form, _csrf_token=token)
            assert answer.status_code == 400
            assert "This form has expired." in answer.text
    assert len(re.findall(r'<article class="card client">', merchant.get(API_ACCESS).text)) == 2
    assert "Deactivate" in merchant.get(path).text


def test_a_form_sent_after_signing_out_leads_to_the_login_page(merchant: Visitor) -> None:
    form = form_to(merchant.get(API_ACCESS), API_ACCESS)
    merchant.http.cookies.clear()
    answer = merchant.submit(form)

    assert answer.status_code == 302
    assert answer.headers["Location"].endswith("/login")


def test_a_new_client_has_an_id_in_omnifunds_form_and_shows_its_secret_once(
    merchant: Visitor,
) -> None:
    path, page = new_client(merchant)
    client_id = path.removeprefix(API_ACCESS + "/")

    assert re.fullmatch(CLIENT_ID, client_id)
    assert f">{client_id}</code>" in page.text
    secret = secret_on(page)
    assert secret is not None
    assert re.fullmatch(r"[0-9a-z]{9,13}[048cgkosw]{34,41}", secret)
    assert page.headers["Cache-Control"] == "max-age=0, must-revalidate, no-store, private"

    again = merchant.get(path)
    assert f">{client_id}</code>" in again.text
    assert secret not in again.text
    assert "can't be shown again" in again.text
    assert secret not in merchant.get(API_ACCESS).text


def test_the_secret_is_not_used_up_by_a_request_that_shows_nothing(merchant: Visitor) -> None:
    created = merchant.submit(form_to(merchant.get(API_ACCESS), API_ACCESS))
    path = created.headers["Location"]
    merchant.http.head(merchant.site + path, timeout=TIMEOUT)

    assert secret_on(merchant.get(path))


def test_client_ids_count_up_and_never_repeat(merchant: Visitor) -> None:
    paths = [new_client(merchant)[0] for _ in range(3)]

    assert [path.removeprefix(API_ACCESS + "/").partition("_")[0] for path in paths] == list("234")


def test_a_client_made_in_the_portal_signs_a_merchant_in(site: Site, merchant: Visitor) -> None:
    path, page = new_client(merchant)
    client_id, secret = path.removeprefix(API_ACCESS + "/"), str(secret_on(page))
    uri = "https://my.domain.com/redirect_url"
    saved = merchant.submit(
        form_to(page, path),
        name="  Studio \t Scheduler ",
        redirect_uris=f" {uri} \r\n\r\nhttps://my.domain.com/other?a=b\r\n{uri}\r\n",
    )

    assert saved.status_code == 303
    page = merchant.get(path)
    assert "Your changes were saved." in page.text
    assert form_to(page, path).fields["name"] == "Studio Scheduler"
    listed = form_to(page, path).fields["redirect_uris"].split()
    assert listed == [uri, "https://my.domain.com/other?a=b"]

    parameters = site.authorize_parameters(client_id=client_id, redirect_uri=uri)
    assert "Studio Scheduler" in merchant.get("/oauth/v2/auth", parameters).text
    location = merchant.decide(parameters).headers["Location"]
    assert location.startswith(uri + "?state=xyz&code=")
    answer = site.exchange(
        location.partition("code=")[2],
        client_id=client_id,
        client_secret=secret,
        redirect_uri=uri,
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("name", "redirect_uris", "sentence"),
    [
        ("", "https://a.test/", "Give the client a name."),
        ("   ", "https://a.test/", "Give the client a name."),
        ("a\0b", "https://a.test/", "Give the client a name."),
        ("x" * 81, "https://a.test/", "up to 80 characters"),
        ("A", "\n".join(f"https://a.test/{n}" for n in range(21)), "up to 20 Allowed"),
        ("A", "/callback", "must be an absolute URL"),
        ("A", "my.domain.com/callback", "must be an absolute URL"),
        ("A", "ftp://a.test/", "must be an absolute URL"),
        ("A", "javascript:alert(1)", "must be an absolute URL"),
        ("A", "https://", "must be an absolute URL"),
        ("A", "https:///path", "must be an absolute URL"),
        ("A", "https://a.test/#frag", "must not have a fragment"),
        ("A", "https://a.test/#", "must not have a fragment"),
        ("A", "https://user:pass@a.test/", "must not contain a username"),
        ("A", "https://a.test/a b", "visible ASCII"),
        ("A", "https://a.test\\@b.test/", "no backslash"),
        ("A", "https://ä.test/", "visible ASCII"),
        ("A", "https://a.test:99999/", "not a valid URL"),
        ("A", "https://a.test:0/", "port is not valid"),
        ("A", "https://[::1/", "not a valid URL"),
        ("A", "https://a.test/" + "x" * 2000, "longer than 2000"),
    ],
)
def test_a_bad_name_or_redirect_uri_is_explained_and_nothing_is_saved(
    merchant: Visitor, name: str, redirect_uris: str, sentence: str
) -> None:
    path, page = new_client(merchant)
    answer = merchant.submit(form_to(page, path), name=name, redirect_uris=redirect_uris)

    assert answer.status_code == 422
    assert sentence in answer.text
    # What was typed is still there to be corrected.
    assert form_to(answer, path).fields["redirect_uris"] == redirect_uris
    kept = form_to(merchant.get(path), path).fields
    assert (kept["name"], kept["redirect_uris"]) == ("New OAuth Client", "")


def test_a_client_name_never_becomes_markup(site: Site, merchant: Visitor) -> None:
    path, page = new_client(merchant)
    name = "<script>alert(1)</script>"
    merchant.submit(form_to(page, path), name=name, redirect_uris=site.redirect_uri)
    parameters = site.authorize_parameters(client_id=path.removeprefix(API_ACCESS + "/"))

    for page in (
        merchant.get(path),
        merchant.get(API_ACCESS),
        merchant.get("/"),
        merchant.get("/oauth/v2/auth", parameters),
    ):
        assert page.status_code == 200
        assert "<script>" not in page.text
        assert "&lt;script&gt;" in page.text


def test_deactivating_refuses_the_client_and_its_tokens_until_it_is_reactivated(
    site: Site, merchant: Visitor
) -> None:
    access_token = site.password().json()["access_token"]
    path = f"{API_ACCESS}/{site.client_id}"

    merchant.submit(form_to(merchant.get(path), path + "/deactivate"))

    assert "deactivated" in merchant.get(API_ACCESS).text
    assert site.password().json()["error"] == "invalid_client"
    assert site.api("customers", access_token).status_code == 401
    assert merchant.get("/oauth/v2/auth", site.authorize_parameters()).status_code == 404

    merchant.submit(form_to(merchant.get(path), path + "/reactivate"))

    assert "active again" in merchant.get(path).text
    assert site.password().status_code == 200
    assert site.api("customers", access_token).status_code == 200


def test_another_merchants_client_is_out_of_reach(site: Site, merchant: Visitor) -> None:
    path, _ = new_client(merchant)
    with site.visitor() as other:
        other.sign_in("second-merchant")
        form = form_to(other.get(API_ACCESS), API_ACCESS)
        assert other.get(path).status_code == 404
        for action in (path, path + "/deactivate", path + "/reactivate"):
            assert other.post(action, form.fields).status_code == 404
        assert path not in other.get(API_ACCESS).text
    assert "You have no OAuth clients yet." not in merchant.get(API_ACCESS).text


def test_the_listings_are_paged(merchant: Visitor) -> None:
    first = merchant.get("/transactions").text
    assert "Page 1 of 20" in first
    assert 'href="/transactions?page=2"' in first
    assert "Page 20 of 20" in merchant.get("/transactions?page=20").text
    assert "Page 3 of 3" in merchant.get("/customers?page=3").text


@pytest.mark.parametrize("page", ["0", "-1", "21", "abc", "", "²", "9" * 5000])
def test_a_page_that_does_not_exist_is_not_found(merchant: Visitor, page: str) -> None:
    assert merchant.get("/transactions", {"page": page}).status_code == 404
