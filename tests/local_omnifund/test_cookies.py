"""K40: cookies of localhost belong to every port, so Local OmniFund's carry its own."""

from collections.abc import Iterator

import pytest
import requests

from local_omnifund.settings import Settings
from tests.local_omnifund.conftest import Site, running
from tests.local_omnifund.visitor import Visitor
from tests.support.browsing import TIMEOUT, form_to, forms, query_of
from tests.support.valkey import ValkeyServer

NAMES = ("PHPSESSID", "local_omnifund_browser", "local_omnifund_callback")


@pytest.fixture
def other_site() -> Iterator[Site]:
    """Local OmniFund with a port and a Valkey of its own, as a second demo starts it."""
    with ValkeyServer() as valkey, running(Settings(valkey.url, port=9100)) as site:
        yield site


def use_everything(site: Site, visitor: Visitor) -> None:
    """Sign in, allow access, and open the fault switches: every cookie is set."""
    visitor.sign_in()
    assert "code" in query_of(visitor.decide(site.authorize_parameters()).headers["Location"])
    visitor.get("/faults")


def test_cookie_names_are_omnifunds_own_on_the_usual_port_only() -> None:
    """K40"""
    usual, other = Settings(redis_url=""), Settings(redis_url="", port=9100)

    assert [usual.cookie_name(name) for name in NAMES] == list(NAMES)
    assert [other.cookie_name(name) for name in NAMES] == [f"{name}_9100" for name in NAMES]


def test_two_servers_in_one_browser_keep_their_sessions_switches_and_callbacks(
    site: Site, other_site: Site
) -> None:
    """K40"""
    with site.visitor() as visitor, other_site.visitor() as other:
        other.http.cookies = visitor.http.cookies
        use_everything(site, visitor)
        use_everything(other_site, other)

        assert {cookie.name for cookie in visitor.http.cookies} == {
            *NAMES,
            *(f"{name}_9100" for name in NAMES),
        }
        for at in (visitor, other):
            assert at.get("/customers").status_code == 200
            assert at.get("/faults/last-callback").status_code == 302
        # A fault for this browser at one server does not affect the other.
        deny = next(form for form in forms(other.get("/faults")) if form.fields.get("fault"))
        other.submit(deny, switch="once")
        assert "code" in query_of(visitor.decide(site.authorize_parameters()).headers["Location"])
        denied = other.decide(other_site.authorize_parameters())
        assert query_of(denied.headers["Location"])["error"] == "access_denied"
        # Signing out at one leaves the other signed in.
        visitor.submit(form_to(visitor.get("/"), "/logout"))
        assert visitor.get("/customers").status_code == 302
        assert other.get("/customers").status_code == 200


@pytest.mark.parametrize("name", ["other", "_app_session", "PHPSESSID_8080"])
def test_a_large_cookie_of_another_application_changes_nothing(
    site: Site, visitor: Visitor, name: str
) -> None:
    """K40"""
    visitor.http.cookies.set(name, "x" * 2048, domain="localhost.local", path="/")
    use_everything(site, visitor)

    assert visitor.get("/customers").status_code == 200


@pytest.mark.parametrize("length", [3000, 30_000])
def test_a_callback_too_long_for_a_cookie_is_not_remembered(
    site: Site, visitor: Visitor, length: int
) -> None:
    """K40: a cookie of that size would have later requests refused."""
    use_everything(site, visitor)
    assert visitor.get("/faults/last-callback").status_code == 302
    form = form_to(visitor.get("/oauth/v2/auth", site.authorize_parameters()), "/oauth/v2/auth")
    state = {name: "s" * length for name in form.fields if name.endswith("[state]")}
    allowed = requests.post(
        site.url + form.action,
        data=form.fields | state | {"accepted": "Allow"},
        cookies=visitor.http.cookies,
        allow_redirects=False,
        timeout=TIMEOUT,
    )

    assert len(query_of(allowed.headers["Location"])["state"]) == length
    assert "local_omnifund_callback=;" in allowed.headers["Set-Cookie"]
