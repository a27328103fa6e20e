"""The fault switches: each fault on the wire, for whom, how often, and who may switch."""

import http.client
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests

from local_omnifund.faults import LIFE_SECONDS, PREFIX, Fault, state_scope
from local_omnifund.settings import Settings, SettingsError
from tests.local_omnifund.conftest import Site, running
from tests.local_omnifund.test_portal import API_ACCESS, new_client
from tests.local_omnifund.visitor import Visitor
from tests.support.browsing import TIMEOUT, Form, form_to, forms, query_of


def arm(site: Site, fault: str, **fields: str) -> requests.Response:
    """Switch a fault on, for everybody unless `scope` says otherwise."""
    bearer = fields.pop("bearer", None)
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    return requests.post(
        f"{site.url}/faults", data={"id": fault, **fields}, headers=headers, timeout=TIMEOUT
    )


def armed(site: Site) -> list[dict[str, object]]:
    """What waits."""
    listed: list[dict[str, object]] = requests.get(
        f"{site.url}/faults.json", timeout=TIMEOUT
    ).json()["armed"]
    return listed


def words(answer: requests.Response) -> tuple[int, str, str]:
    """The status and the words of a JSON error."""
    body = answer.json()
    return answer.status_code, body["error"], body["error_description"]


def test_allow_counts_as_deny(site: Site, visitor: Visitor) -> None:
    arm(site, "deny")
    visitor.sign_in()
    answer = visitor.decide(site.authorize_parameters())
    assert query_of(answer.headers["Location"])["error"] == "access_denied"
    assert "code" in query_of(visitor.decide(site.authorize_parameters()).headers["Location"])


@pytest.mark.parametrize(
    ("fault", "error", "description"),
    [
        ("code_expired", "invalid_grant", "The authorization code has expired"),
        ("code_used", "invalid_grant", "Code doesn't exist or is invalid for the client"),
        (
            "redirect_uri_mismatch",
            "redirect_uri_mismatch",
            "The redirect URI is missing or do not match",
        ),
        ("invalid_client", "invalid_client", "The client credentials are invalid"),
    ],
)
def test_a_code_is_refused_in_the_words_of_the_real_refusal(
    site: Site, fault: str, error: str, description: str
) -> None:
    code = site.code()
    arm(site, fault)
    assert words(site.exchange(code)) == (400, error, description)
    # It has struck; the code itself is as good as before.
    assert site.exchange(code).status_code == 200


@pytest.mark.parametrize(
    ("fault", "status", "content_type"),
    [
        ("token_500", 500, "text/html"),
        ("token_503", 503, "text/html"),
        ("token_html", 200, "text/html"),
        ("token_timeout", 504, "text/html"),
    ],
)
def test_the_token_endpoint_answers_something_else(
    site: Site, fault: str, status: int, content_type: str
) -> None:
    code = site.code()
    arm(site, fault)
    answer = site.exchange(code)
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith(content_type)
    assert answer.headers.get("Retry-After") == ("7" if fault == "token_503" else None)
    assert site.exchange(code).status_code == 200


def test_the_token_endpoint_redirects_to_another_host(site: Site) -> None:
    code = site.code()
    arm(site, "token_redirect")
    answer = requests.post(
        site.url + "/oauth/v2/token",
        data=site.credentials()
        | {"grant_type": "authorization_code", "code": code, "redirect_uri": site.redirect_uri},
        allow_redirects=False,
        timeout=TIMEOUT,
    )
    assert answer.status_code == 307
    assert urlsplit(answer.headers["Location"]).hostname == "elsewhere.example"


def test_a_token_without_its_type(site: Site) -> None:
    code = site.code()
    arm(site, "token_without_type")
    token = site.exchange(code).json()
    assert "token_type" not in token
    assert site.api("customers", token["access_token"]).status_code == 200


def test_a_dripping_answer_is_right_but_comes_byte_by_byte(site: Site) -> None:
    code = site.code()
    arm(site, "token_drip")
    parameters = {"grant_type": "authorization_code", "redirect_uri": site.redirect_uri}
    answer = site.token(site.credentials() | parameters | {"code": code}, stream=True)
    first = answer.raw.read1()
    assert 0 < len(first) < int(answer.headers["Content-Length"])
    assert (
        site.api("customers", json.loads(first + answer.raw.read())["access_token"]).status_code
        == 200
    )


def test_a_refresh_token_is_refused(site: Site) -> None:
    token = site.password().json()
    arm(site, "refresh_revoked")
    answer = site.refresh(token["refresh_token"])
    assert words(answer) == (400, "invalid_grant", "Invalid refresh token")


def test_a_slow_refresh_is_right_in_the_end(site: Site) -> None:
    token = site.password().json()
    arm(site, "refresh_slow")
    assert site.refresh(token["refresh_token"]).status_code == 200
    assert armed(site) == []


def test_an_access_token_expires_for_good_and_its_successor_works(site: Site) -> None:
    token = site.password().json()
    arm(site, "access_token_expired", scope="bearer", bearer=token["access_token"])
    for _ in range(2):
        answer = site.api("customers", token["access_token"])
        assert words(answer) == (401, "invalid_grant", "The access token provided has expired.")
    fresh = site.refresh(token["refresh_token"]).json()
    assert site.api("customers", fresh["access_token"]).status_code == 200


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        ("api_401", 401, "The access token provided is invalid."),
        ("api_403", 403, "hydra:Error"),
        ("api_500", 500, "<h1>"),
        ("api_odd_json", 200, '["unexpected"]'),
    ],
)
def test_the_api_misbehaves_once(site: Site, fault: str, status: int, text: str) -> None:
    access_token = site.password().json()["access_token"]
    arm(site, fault)
    answer = site.api("customers", access_token)
    assert answer.status_code == status
    assert text in answer.text
    good = site.api("customers", access_token)
    assert good.status_code == 200
    assert "hydra:member" in good.json()


@pytest.mark.parametrize("fault", ["token_500", "invalid_client"])
def test_faults_of_the_token_endpoint_strike_every_grant(site: Site, fault: str) -> None:
    token = site.password().json()
    arm(site, fault, times="0")
    assert site.password().status_code != 200
    assert site.refresh(token["refresh_token"]).status_code != 200


def test_a_fault_for_one_sign_in_leaves_others_alone(site: Site) -> None:
    arm(site, "code_used", scope="state", state="mine")
    others = site.code(state="another")
    mine = site.code(state="mine")
    assert site.exchange(others).status_code == 200
    assert site.exchange(mine).status_code == 400


def test_a_fault_for_one_connection_follows_its_refreshes(site: Site) -> None:
    first, other = site.password().json(), site.password().json()
    arm(site, "api_403", scope="bearer", bearer=first["access_token"], times="0")
    fresh = site.refresh(first["refresh_token"]).json()
    assert site.api("customers", fresh["access_token"]).status_code == 403
    assert site.api("customers", other["access_token"]).status_code == 200


def test_a_fault_for_one_browser_is_switched_on_its_page(site: Site, visitor: Visitor) -> None:
    page = visitor.get("/faults")
    form = next(
        form
        for form in _forms_of(page)
        if form.fields["fault"] == "deny" and "switch" in form.buttons
    )
    assert visitor.submit(form, switch="once").status_code == 302
    assert armed(site) == [{"id": "deny", "scope": "browser", "times": 1}]
    assert "<b>deny</b> for one browser, once" in visitor.get("/faults").text
    with site.visitor() as other:
        other.sign_in()
        other_answer = other.decide(site.authorize_parameters())
    assert "code" in query_of(other_answer.headers["Location"])
    visitor.sign_in()
    consent = visitor.get("/oauth/v2/auth", site.authorize_parameters())
    assert "Faults enabled for this sign-in: deny." in consent.text
    assert "error" in query_of(visitor.decide(site.authorize_parameters()).headers["Location"])


def _forms_of(page: requests.Response) -> list[Form]:
    return [form for form in forms(page) if form.action == "/faults/switch"]


def test_everybody_until_cleared_and_off_again(site: Site, visitor: Visitor) -> None:
    form = _forms_of(visitor.get("/faults"))[0]
    fault = form.fields["fault"]
    visitor.submit(form, switch="always")
    assert armed(site) == [{"id": fault, "scope": "all", "times": 0}]
    visitor.submit(form, switch="off")
    assert armed(site) == []


def test_a_fault_strikes_as_often_as_it_was_told_to(site: Site) -> None:
    access_token = site.password().json()["access_token"]
    arm(site, "api_403", times="2")
    statuses = [site.api("customers", access_token).status_code for _ in range(4)]
    assert statuses == [403, 403, 200, 200]


def test_an_expired_token_uses_up_its_expiry(site: Site) -> None:
    """Otherwise the fault would wait for the token that a refresh returns."""
    first = site.password().json()
    for _ in range(2):
        arm(site, "access_token_expired", scope="bearer", bearer=first["access_token"])
        assert site.api("customers", first["access_token"]).status_code == 401
    assert armed(site) == []


def test_a_fault_of_one_access_token_spares_the_one_that_replaces_it(site: Site) -> None:
    """A refresh may come between the moment when a program names the token and the fault."""
    first = site.password().json()
    second = site.refresh(first["refresh_token"]).json()
    arm(site, "access_token_expired", scope="token", bearer=first["access_token"])
    assert [each["scope"] for each in armed(site)] == ["token"]
    assert site.api("customers", second["access_token"]).status_code == 200
    assert site.api("customers", first["access_token"]).status_code == 401
    assert armed(site) == []


def test_the_faults_of_one_scope_are_replaced(site: Site) -> None:
    arm(site, "deny")
    for fault in ("deny", "api_500"):
        arm(site, fault, scope="state", state="mine")

    def replace(**fields: object) -> int:
        return requests.put(f"{site.url}/faults", data=fields, timeout=TIMEOUT).status_code

    for refused in (
        {"id": ["api_403", "planet"], "scope": "state", "state": "mine"},
        {"id": "api_403", "scope": "planet"},
        {"id": "api_403"},
        {"id": "api_403", "scope": "state"},
    ):
        assert replace(**refused) == 400, refused
    both = {"id": ["api_403", "api_500"], "scope": "state", "state": "mine"}
    assert replace(**both) == replace(**both) == 204
    assert [(each["id"], each["scope"], each["times"]) for each in armed(site)] == [
        ("deny", "all", 1),
        ("api_403", "state", 1),
        ("api_500", "state", 1),
    ]
    assert 0 < site.redis.ttl(PREFIX + state_scope("mine")) <= LIFE_SECONDS
    assert replace(scope="state", state="mine") == 204
    assert [each["scope"] for each in armed(site)] == ["all"]


def test_a_fault_is_forgotten_after_ten_minutes(site: Site) -> None:
    arm(site, "deny")
    assert 0 < site.redis.ttl(f"{PREFIX}all") <= LIFE_SECONDS == 600


def test_faults_are_listed_and_cleared_over_http(site: Site) -> None:
    listed = requests.get(f"{site.url}/faults.json", timeout=TIMEOUT).json()
    assert [each["id"] for each in listed["faults"]] == [fault.id for fault in Fault]
    assert all(each["description"] for each in listed["faults"])
    answer = arm(site, "deny", times="3")
    assert (answer.status_code, answer.json()) == (
        201,
        {"id": "deny", "scope": "all", "times": 3},
    )
    arm(site, "api_500")
    assert requests.delete(f"{site.url}/faults/deny", timeout=TIMEOUT).status_code == 204
    assert [each["id"] for each in armed(site)] == ["api_500"]
    assert requests.delete(f"{site.url}/faults", timeout=TIMEOUT).status_code == 204
    assert armed(site) == []


def disable(site: Site, path: str = "/faults", **options: object) -> int:
    """Send DELETE; return the status."""
    options = {"timeout": TIMEOUT, **options}
    return requests.delete(site.url + path, **options).status_code  # type: ignore[arg-type]  # requests takes what tests give it


def test_one_scope_is_cleared_and_the_others_keep_their_faults(
    site: Site, visitor: Visitor
) -> None:
    """K57: a card of the lab clears its own scope before it enables a fault."""
    bearer = site.password().json()["access_token"]
    visitor.get("/faults")
    cookies = visitor.http.cookies
    for fault in ("deny", "api_500"):
        arm(site, fault)
        arm(site, fault, scope="state", state="mine")
        arm(site, fault, scope="state", state="another")
        arm(site, fault, scope="bearer", bearer=bearer)
        visitor.post("/faults", {"id": fault, "scope": "browser"})

    def scopes() -> list[str]:
        return sorted(str(each["scope"]) for each in armed(site))

    everywhere = ["all", "browser", "grant", "state", "state"]
    assert scopes() == sorted(everywhere * 2)
    assert disable(site, params={"scope": "state", "state": "mine"}) == 204
    everywhere.remove("state")
    assert scopes() == sorted(everywhere * 2)
    authorization = {"Authorization": f"Bearer {bearer}"}
    assert disable(site, data={"scope": "bearer"}, headers=authorization) == 204
    everywhere.remove("grant")
    assert scopes() == sorted(everywhere * 2)
    assert disable(site, json={"scope": "browser"}, cookies=cookies) == 204
    everywhere.remove("browser")
    assert scopes() == sorted(everywhere * 2)
    assert disable(site, params={"scope": "all"}) == 204
    assert scopes() == ["state", "state"]


def test_one_fault_is_cleared_in_one_scope(site: Site) -> None:
    """K57"""
    for fault in ("deny", "api_500"):
        arm(site, fault)
        arm(site, fault, scope="state", state="mine")

    assert disable(site, "/faults/deny?scope=state&state=mine") == 204
    assert [(each["id"], each["scope"]) for each in armed(site)] == [
        ("deny", "all"),
        ("api_500", "all"),
        ("api_500", "state"),
    ]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("scope=planet", 400),
        ("scope=", 400),
        ("scope=state", 400),
        ("scope=browser", 400),
        ("scope=bearer", 401),
        ("scope=token", 401),
        ("scope=state&state=unknown", 204),
    ],
)
def test_a_scope_that_names_nothing_clears_nothing(site: Site, query: str, status: int) -> None:
    """K57"""
    arm(site, "deny")

    for path in ("/faults", "/faults/deny"):
        assert disable(site, f"{path}?{query}") == status
    assert len(armed(site)) == 1


def test_the_page_says_how_a_program_clears_one_scope(visitor: Visitor) -> None:
    """K57, L21"""
    page = visitor.get("/faults").text

    assert f"curl {visitor.site}/faults -d id=token_500 -d times=3" in page
    for words in ("DELETE /faults?scope=", "GET /faults.json", "<code>bearer</code>"):
        assert words in page


def test_all_faults_are_cleared_with_one_button(site: Site, visitor: Visitor) -> None:
    """L21"""
    arm(site, "deny")
    arm(site, "api_500", scope="state", state="mine")
    form = next(form for form in forms(visitor.get("/faults")) if "fault" not in form.fields)

    answer = visitor.submit(form, switch="clear")

    assert (answer.status_code, answer.headers["Location"]) == (302, "/faults")
    assert armed(site) == []


@pytest.mark.parametrize("button", ["once", "always", "off"])
def test_a_button_leads_back_to_its_row(site: Site, visitor: Visitor, button: str) -> None:
    """L21: the page does not jump; the row is marked."""
    arm(site, "deny")
    form = next(
        form for form in _forms_of(visitor.get("/faults")) if form.fields.get("fault") == "api_500"
    )
    location = visitor.submit(form, switch=button).headers["Location"]

    assert location == "/faults#api_500"
    row = '<li id="api_500" class="enabled">' if button != "off" else '<li id="api_500">'
    assert row in visitor.get(location).text


def test_json_works_as_well_as_a_form(site: Site) -> None:
    answer = requests.post(f"{site.url}/faults", json={"id": "deny", "times": 2}, timeout=TIMEOUT)
    assert answer.json() == {"id": "deny", "scope": "all", "times": 2}


@pytest.mark.parametrize("body", ["[]", "5", '"deny"', "{", "[" * 60_000, "{}", '{"id": []}'])
def test_json_that_names_no_fault_is_refused_in_words(site: Site, body: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{site.url}/faults", data=body, headers=headers, timeout=TIMEOUT)
    assert answer.status_code == 400
    assert "id" in answer.json()["error"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"id": "no-such-fault"}, 400),
        ({"id": ""}, 400),
        ({"id": "deny", "scope": "planet"}, 400),
        ({"id": "deny", "scope": "state"}, 400),
        ({"id": "deny", "scope": "browser"}, 400),
        ({"id": "deny", "times": "-1"}, 400),
        ({"id": "deny", "times": "1001"}, 400),
        ({"id": "deny", "times": "²"}, 400),
        ({"id": "deny", "scope": "bearer"}, 401),
        ({"id": "deny", "scope": "bearer", "bearer": "unknown"}, 401),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    site: Site, fields: dict[str, str], status: int
) -> None:
    fields = dict(fields)
    answer = arm(site, fields.pop("id"), **fields)
    assert answer.status_code == status
    assert answer.json()["error"].endswith(".")
    assert armed(site) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_may_not_switch(site: Site, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/faults"), ("DELETE", "/faults"), ("DELETE", "/faults/deny")):
        answer = requests.request(
            method, site.url + path, data={"id": "deny"}, headers=headers, timeout=TIMEOUT
        )
        assert answer.status_code == 403
    assert armed(site) == []


def test_the_page_wants_its_csrf_token(site: Site, visitor: Visitor) -> None:
    form = _forms_of(visitor.get("/faults"))[0]
    assert visitor.submit(form, switch="always", _csrf_token="x").status_code == 400
    assert armed(site) == []


def test_the_last_callback_comes_again_for_the_browser_that_got_it(
    site: Site, visitor: Visitor
) -> None:
    assert visitor.get("/faults/last-callback").status_code == 404
    visitor.sign_in()
    location = visitor.decide(site.authorize_parameters()).headers["Location"]
    again = visitor.get("/faults/last-callback")
    assert (again.status_code, again.headers["Location"]) == (302, location)
    with site.visitor() as other:
        assert other.get("/faults/last-callback").status_code == 404


@pytest.mark.parametrize("fault", ["deny", "code_expired", "token_500"])
def test_a_callback_that_fails_is_not_the_one_that_comes_again(
    site: Site, visitor: Visitor, fault: str
) -> None:
    visitor.sign_in()
    location = visitor.decide(site.authorize_parameters()).headers["Location"]
    arm(site, fault)
    visitor.decide(site.authorize_parameters())
    assert visitor.get("/faults/last-callback").headers["Location"] == location


@pytest.fixture
def site_without_faults(redis_url: str) -> Iterator[Site]:
    with running(Settings(redis_url, faults=False)) as site:
        yield site


def test_all_of_it_can_be_switched_off(site_without_faults: Site) -> None:
    site = site_without_faults
    site.redis.hset(f"{PREFIX}all", "api_500", -1)
    assert arm(site, "deny").status_code == 404
    with site.visitor() as visitor:
        for path in ("/faults", "/faults.json", "/faults/last-callback"):
            assert visitor.get(path).status_code == 404
        assert "Fault injection" not in visitor.get("/login").text
    assert site.exchange(site.code()).status_code == 200
    access_token = site.password().json()["access_token"]
    assert site.api("customers", access_token).status_code == 200


@pytest.mark.parametrize("value", ["maybe", "1"])
def test_the_setting_is_on_or_off(value: str) -> None:
    environ = {"REDIS_URL": "redis://localhost"}
    assert Settings.from_environment(environ).faults
    assert not Settings.from_environment(environ | {"LOCAL_OMNIFUND_FAULTS": "off"}).faults
    with pytest.raises(SettingsError, match="LOCAL_OMNIFUND_FAULTS"):
        Settings.from_environment(environ | {"LOCAL_OMNIFUND_FAULTS": value})


# --- merchants with meaning --------------------------------------------------------------------


def test_each_merchant_is_a_button_where_the_password_is_published(visitor: Visitor) -> None:
    buttons = [
        form
        for form in _login_forms(visitor)
        if form.fields["_username"] in {"merchant", "newcomer", "busy", "locked"}
    ]
    assert len(buttons) == 4
    answer = visitor.submit(buttons[1])
    assert (answer.status_code, urlsplit(answer.headers["Location"]).path) == (302, "/")
    assert "newcomer" in visitor.get("/").text


def _login_forms(visitor: Visitor) -> list[Form]:
    return [form for form in forms(visitor.get("/login")) if form.action == "/login_check"]


def test_with_a_password_of_ones_own_nobody_is_a_button(redis_url: str) -> None:
    with (
        running(Settings(redis_url, merchant_password="my own")) as site,
        site.visitor() as visitor,
    ):
        assert len(_login_forms(visitor)) == 1


def test_the_newcomer_has_nothing_yet(site: Site, visitor: Visitor) -> None:
    access_token = site.password(username="newcomer").json()["access_token"]
    for name in ("customers", "transactions-history", "transactions-pending"):
        body = site.api(name, access_token).json()
        assert (body["hydra:totalItems"], body["hydra:member"]) == (0, [])
    visitor.sign_in("newcomer")
    for path in ("/", "/customers", "/transactions"):
        assert visitor.get(path).status_code == 200


def test_the_busy_one_has_ten_thousand_transactions(site: Site) -> None:
    access_token = site.password(username="busy").json()["access_token"]
    last = site.api("transactions-history", access_token, {"page": "334"}).json()
    assert last["hydra:totalItems"] == 10_000
    assert len(last["hydra:member"]) == 10


def test_the_locked_one_gets_in_nowhere(site: Site, visitor: Visitor) -> None:
    assert visitor.sign_in("locked").headers["Location"].endswith("/login")
    assert "Account is locked." in visitor.get("/login").text
    assert words(site.password(username="locked"))[:2] == (400, "invalid_grant")
    # Whoever does not know the password learns nothing about the account.
    visitor.sign_in("locked", "wrong")
    assert "Invalid credentials." in visitor.get("/login").text


def test_the_time_out_is_silence_and_not_a_closed_connection(redis_url: str) -> None:
    """With the waits that people meet: the client gives up first."""
    with running(Settings(redis_url, fault_pace=0.05)) as site:
        arm(site, "token_timeout")
        address = urlsplit(site.url)
        connection = http.client.HTTPConnection(address.netloc, timeout=0.2)
        connection.request(
            "POST",
            "/oauth/v2/token",
            body="grant_type=password&username=merchant&password=local-omnifund-demo"
            f"&client_id={site.client_id}&client_secret={site.client_secret}",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        with pytest.raises(TimeoutError):
            connection.getresponse()
        connection.close()


def consent(site: Site, access_token: str, **fields: str) -> requests.Response:
    """Decide about an authorization request as a program that plays a browser."""
    return requests.post(
        f"{site.url}/faults/consent",
        data=site.authorize_parameters() | {"decision": "allow"} | fields,
        headers={"Authorization": f"Bearer {access_token}"},
        timeout=TIMEOUT,
    )


@pytest.fixture
def access_token(site: Site) -> str:
    return str(site.password().json()["access_token"])


def test_a_program_decides_for_the_merchant_of_its_token(site: Site, access_token: str) -> None:
    """L23: with the faults of the request's state, as if the merchant had pressed the button."""
    allowed = consent(site, access_token)
    location = allowed.json()["location"]
    assert (allowed.status_code, location.partition("?")[0]) == (201, site.redirect_uri)
    assert query_of(location)["state"] == "xyz"
    assert site.exchange(query_of(location)["code"]).status_code == 200
    denied = query_of(consent(site, access_token, decision="deny").json()["location"])
    assert (denied["error"], "code" in denied) == ("access_denied", False)
    arm(site, "code_expired", scope="state", state="xyz")
    code = query_of(consent(site, access_token).json()["location"])["code"]
    assert site.exchange(code).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"client_id": "1_unknown"}, 400),
        ({"client_id": ""}, 400),
        ({"redirect_uri": "https://attacker.example/callback"}, 400),
        ({"redirect_uri": ""}, 400),
    ],
)
def test_no_program_gets_a_code_for_a_callback_that_is_not_registered(
    site: Site, access_token: str, fields: dict[str, str], status: int
) -> None:
    """L23"""
    assert consent(site, access_token, **fields).status_code == status


def test_no_program_decides_without_a_token_that_is_valid(site: Site, access_token: str) -> None:
    """L23"""
    assert consent(site, "unknown").status_code == 401
    site.clock.now += 3601
    assert consent(site, access_token).status_code == 401


def test_no_program_decides_with_the_token_of_a_client_that_is_deactivated(
    site: Site, access_token: str, visitor: Visitor
) -> None:
    """L23"""
    visitor.sign_in()
    other, _ = new_client(visitor)
    visitor.submit(form_to(visitor.get(other), other), redirect_uris=site.redirect_uri)
    client_id = other.removeprefix(f"{API_ACCESS}/")
    assert consent(site, access_token, client_id=client_id).status_code == 201
    own = f"{API_ACCESS}/{site.client_id}"
    visitor.submit(form_to(visitor.get(own), f"{own}/deactivate"))
    assert consent(site, access_token, client_id=client_id).status_code == 401


@pytest.mark.parametrize("decision", ["", "Allow", "accepted"])
def test_a_program_decides_one_way_or_the_other(
    site: Site, access_token: str, decision: str
) -> None:
    """L23"""
    assert consent(site, access_token, decision=decision).status_code == 400


def test_a_fault_at_the_consent_page_counts_for_a_program_too(
    site: Site, access_token: str
) -> None:
    """L23"""
    arm(site, "deny", scope="state", state="xyz")
    denied = consent(site, access_token).json()["location"]
    assert query_of(denied)["error"] == "access_denied"
    assert armed(site) == []


def test_a_program_may_send_json(site: Site, access_token: str) -> None:
    """L23: as the token endpoint reads it."""
    sent = {"decision": "allow", "state": "\ud800", "scope": None}
    answer = requests.post(
        f"{site.url}/faults/consent",
        json=site.authorize_parameters() | sent,
        headers={"Authorization": f"Bearer {access_token}"},
        timeout=TIMEOUT,
    )
    location = answer.json()["location"]
    assert query_of(location)["state"] == "?"
    assert "error" not in query_of(location)


def test_an_error_of_the_request_is_sent_to_the_callback(site: Site, access_token: str) -> None:
    """L23"""
    wrong = consent(site, access_token, response_type="token").json()["location"]
    assert query_of(wrong)["error"] == "unsupported_response_type"
