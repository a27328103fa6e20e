"""K56: docs/local-omnifund.md says where Local OmniFund is stricter, and each row is true."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import pytest

from tests.local_omnifund.conftest import Site
from tests.support.browsing import query_of
from tests.support.servers import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "local-omnifund.md").read_text()
ROWS = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", DOCUMENT, re.MULTILINE)[2:])
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def before_the_login(site: Site, **changes: str) -> str:
    """What an authorization request of a browser without a session gets."""
    with site.visitor() as visitor:
        response = visitor.get("/oauth/v2/auth", site.authorize_parameters(**changes))
    assert "Location" not in response.headers
    return f"{response.status_code} before the login"


def after_allow(site: Site, **changes: str) -> str:
    """What the client gets after the merchant has seen the consent page and chosen Allow."""
    with site.visitor() as visitor:
        visitor.sign_in()
        location = visitor.decide(site.authorize_parameters(**changes)).headers["Location"]
    assert location.startswith(site.redirect_uri)
    assert {"error", "code"} & query_of(location).keys() == {"error"}
    return "error redirect after Allow"


def wrong_verifier(site: Site) -> str:
    code = site.code(code_challenge=CHALLENGE, code_challenge_method="S256")
    response = site.exchange(code, code_verifier="v" * 43)
    return f"{response.status_code} at the token endpoint"


def longer_redirect_uri(site: Site) -> str:
    response = site.exchange(site.code(), redirect_uri=f"{site.redirect_uri}/extra")
    return f"{response.status_code} at the token endpoint"


def in_parallel(site: Site) -> str:
    code, statuses = site.code(), []
    threads = [
        threading.Thread(target=lambda: statuses.append(site.exchange(code).status_code))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return "one succeeds" if sorted(statuses) == [200, *[400] * 7] else str(statuses)


def two_tokens(site: Site) -> str:
    token = site.password().json()["access_token"]
    response = site.api("customers", token, {"access_token": token})
    return f"{response.status_code} at the API"


PROOFS: dict[str, Callable[[Site], str]] = {
    "unregistered `redirect_uri`": lambda site: before_the_login(
        site, redirect_uri="http://localhost:8001/callback"
    ),
    "no `redirect_uri`": lambda site: before_the_login(site, redirect_uri=""),
    "`redirect_uri` that only begins with a registered one": lambda site: before_the_login(
        site, redirect_uri=f"{site.redirect_uri}/extra"
    ),
    "no `client_id`": lambda site: before_the_login(site, client_id=""),
    "unknown `client_id`": lambda site: before_the_login(site, client_id="9_unknown"),
    "`response_type=token`": lambda site: after_allow(site, response_type="token"),
    "PKCE without S256": lambda site: after_allow(
        site, code_challenge=CHALLENGE, code_challenge_method="plain"
    ),
    "wrong `code_verifier`": wrong_verifier,
    "the same code in parallel requests": in_parallel,
    "longer `redirect_uri` at the token endpoint": longer_redirect_uri,
    "access token in the header and the query": two_tokens,
}


def test_every_row_is_proved_and_every_proof_has_its_row() -> None:
    """K56"""
    assert ROWS.keys() == PROOFS.keys()


@pytest.mark.parametrize("request_", PROOFS)
def test_what_is_refused_earlier_or_more_strictly_is_said_in_the_document(
    site: Site, request_: str
) -> None:
    """K56"""
    assert PROOFS[request_](site) == ROWS[request_]


def test_the_tour_of_the_portal_leads_to_the_document() -> None:
    """K56"""
    assert "(local-omnifund.md)" in (REPOSITORY / "docs" / "portal-tour.md").read_text()
