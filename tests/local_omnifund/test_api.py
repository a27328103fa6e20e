"""The REST API: who may read, what is answered, filters and paging."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.local_omnifund.conftest import Site
from tests.support.browsing import TIMEOUT

COLLECTIONS = ("customers", "transactions-history", "transactions-pending")
DAY = 24 * 3600


@pytest.fixture
def access_token(site: Site) -> str:
    return str(site.password().json()["access_token"])


def members(answer: requests.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["hydra:member"]
    return found


def everything(site: Site, name: str, access_token: str) -> list[dict[str, Any]]:
    """All members, by following hydra:next to the end."""
    found: list[dict[str, Any]] = []
    path = f"/api/{name}"
    while path:
        headers = {"Authorization": f"Bearer {access_token}"}
        page = requests.get(site.url + path, headers=headers, timeout=TIMEOUT)
        found += members(page)
        path = page.json()["hydra:view"].get("hydra:next")
    return found


def refusal(answer: requests.Response) -> tuple[int, str, str]:
    """The status, error and text; the header must say the same as the body."""
    body = answer.json()
    assert answer.text == json.dumps(body, separators=(",", ":"))
    assert list(body) == ["error", "error_description"]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store, private"
    assert answer.headers["Pragma"] == "no-cache"
    if answer.status_code == 401:
        assert answer.headers["WWW-Authenticate"] == (
            f'Bearer realm="Service", error="{body["error"]}", '
            f'error_description="{body["error_description"]}"'
        )
    return answer.status_code, body["error"], body["error_description"]


# --- who may read --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*COLLECTIONS, "transactions-history/1"])
def test_without_a_token_every_resource_asks_for_one(site: Site, path: str) -> None:
    answer = requests.get(f"{site.url}/api/{path}", timeout=TIMEOUT)

    assert refusal(answer) == (401, "access_denied", "OAuth2 authentication required")


@pytest.mark.parametrize("scheme", ["bearer ", "BEARER ", "Basic ", "Bearer", "Bearer  ", "Token "])
def test_only_the_scheme_bearer_in_this_spelling_counts(
    site: Site, access_token: str, scheme: str
) -> None:
    answer = requests.get(
        site.url + "/api/customers",
        headers={"Authorization": scheme + access_token},
        timeout=TIMEOUT,
    )

    assert refusal(answer) == (401, "access_denied", "OAuth2 authentication required")


def test_the_token_may_be_in_the_query_and_is_not_repeated_in_the_links(
    site: Site, access_token: str
) -> None:
    answer = requests.get(
        site.url + "/api/customers", params={"access_token": access_token}, timeout=TIMEOUT
    )

    assert members(answer)
    assert access_token not in answer.text


def test_an_empty_token_in_the_query_is_no_token(site: Site) -> None:
    answer = requests.get(site.url + "/api/customers?access_token=", timeout=TIMEOUT)

    assert refusal(answer) == (401, "access_denied", "OAuth2 authentication required")


def test_a_token_in_two_places_is_refused(site: Site, access_token: str) -> None:
    answer = site.api("customers", access_token, {"access_token": access_token})

    assert refusal(answer) == (
        400,
        "invalid_request",
        "Only one method may be used to authenticate at a time (Auth header, GET or POST).",
    )


@pytest.mark.parametrize("token", ["nonsense", "\u00fc".encode().decode("latin-1"), "a" * 5000])
def test_an_unknown_token_is_invalid(site: Site, token: str) -> None:
    assert refusal(site.api("customers", token)) == (
        401,
        "invalid_grant",
        "The access token provided is invalid.",
    )


def test_a_refresh_token_does_not_open_the_api(site: Site) -> None:
    refresh_token = site.password().json()["refresh_token"]

    assert refusal(site.api("customers", refresh_token))[1] == "invalid_grant"


def test_an_access_token_works_for_an_hour_and_has_expired_a_second_later(
    site: Site, access_token: str
) -> None:
    site.clock.now += 3600
    assert site.api("customers", access_token).status_code == 200
    site.clock.now += 1
    assert refusal(site.api("customers", access_token)) == (
        401,
        "invalid_grant",
        "The access token provided has expired.",
    )


def test_each_merchant_sees_data_of_its_own(site: Site, access_token: str) -> None:
    other = site.password(username="second-merchant").json()["access_token"]

    ours = {member["id"] for member in everything(site, "customers", access_token)}
    theirs = {member["id"] for member in everything(site, "customers", other)}
    assert len(ours) == len(theirs) == 60
    assert not ours & theirs


# --- what is answered ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "total", "pages"),
    [("customers", 60, 2), ("transactions-history", 500, 17), ("transactions-pending", 40, 2)],
)
def test_a_collection_has_the_documented_shape(
    site: Site, access_token: str, name: str, total: int, pages: int
) -> None:
    answer = site.api(name, access_token)

    assert answer.headers["Content-Type"] == "application/ld+json; charset=utf-8"
    body = answer.json()
    assert list(body) == [
        "@context",
        "@id",
        "@type",
        "hydra:member",
        "hydra:totalItems",
        "hydra:view",
    ]
    assert body["@context"] == f"/api/contexts/{name}"
    assert body["@id"] == f"/api/{name}"
    assert body["@type"] == "hydra:Collection"
    assert body["hydra:totalItems"] == total
    assert body["hydra:view"] == {
        "@id": f"/api/{name}?page=1",
        "@type": "hydra:PartialCollectionView",
        "hydra:first": f"/api/{name}?page=1",
        "hydra:last": f"/api/{name}?page={pages}",
        "hydra:next": f"/api/{name}?page=2",
    }
    assert len(body["hydra:member"]) == 30
    found = everything(site, name, access_token)
    assert len({member["id"] for member in found}) == len(found) == total
    for member in found:
        assert member["@type"] == name
        assert member["@id"] == f"/api/{name}/{member['id']}"


def test_a_customer_has_the_documented_fields(site: Site, access_token: str) -> None:
    customers = everything(site, "customers", access_token)

    for customer in customers:
        assert list(customer) == [
            *("@id", "@type", "id", "customerRef", "company", "firstName", "lastName"),
            *("displayAs", "address1", "address2", "city", "state", "zip", "phone", "email"),
            "paymentAccounts",
        ]
        assert customer["paymentAccounts"]
    accounts = [account for customer in customers for account in customer["paymentAccounts"]]
    fields = {account["@type"]: set(account) for account in accounts}
    common = {"@type", "id", "bankName", "enabled", "referenceId", "maskedAccountNumber"}
    assert fields == {"Bank": common | {"isSavings"}, "Card": common | {"ccName", "expiration"}}
    assert len({account["id"] for account in accounts}) == len(accounts)
    assert len({customer["customerRef"] for customer in customers}) == len(customers)


def test_transactions_carry_the_documented_fields_and_look_current(
    site: Site, access_token: str
) -> None:
    customers = {member["id"] for member in everything(site, "customers", access_token)}
    processed = everything(site, "transactions-history", access_token)
    pending = everything(site, "transactions-pending", access_token)

    for transaction in processed + pending:
        assert {"id", "amount", "customer", "loginID", "referenceId", "tranDate", "status"} <= set(
            transaction
        )
        assert float(transaction["amount"]) > 0
        assert transaction["loginID"] == "merchant"
        assert transaction["customer"]["id"] in customers
    dates = [transaction["tranDate"] for transaction in processed]
    assert dates == sorted(dates, reverse=True)
    assert site.clock.now - 4 * DAY < dates[0] < site.clock.now
    assert all(transaction["tranDate"] > site.clock.now for transaction in pending)
    assert {transaction["status"] for transaction in pending} == {"scheduled"}


def test_the_data_is_the_same_after_a_restart_and_moves_with_the_day(
    site: Site, access_token: str
) -> None:
    before = everything(site, "transactions-history", access_token)
    site.clock.now += DAY
    after = everything(site, "transactions-history", site.password().json()["access_token"])

    assert [t | {"tranDate": t["tranDate"] + DAY} for t in before] == after


def test_one_transaction_can_be_read_by_its_id(site: Site, access_token: str) -> None:
    wanted = members(site.api("transactions-history", access_token))[3]
    answer = site.api(f"transactions-history/{wanted['id']}", access_token)

    assert answer.headers["Content-Type"] == "application/ld+json; charset=utf-8"
    assert answer.json() == {"@context": "/api/contexts/transactions-history"} | wanted


@pytest.mark.parametrize("number", ["1", "0", "-1", "abc", "%00", "1/2", "9" * 5000])
def test_an_unknown_transaction_is_a_hydra_error(
    site: Site, access_token: str, number: str
) -> None:
    answer = site.api(f"transactions-history/{number}", access_token)

    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/ld+json; charset=utf-8"
    assert answer.json() == {
        "@context": "/api/contexts/Error",
        "@type": "hydra:Error",
        "hydra:title": "An error occurred",
        "hydra:description": "Not Found",
    }


def test_an_unknown_path_and_method_under_api_are_hydra_errors(
    site: Site, access_token: str
) -> None:
    unknown = site.api("nothing", access_token)
    assert (unknown.status_code, unknown.json()["@type"]) == (404, "hydra:Error")

    posted = requests.post(site.url + "/api/customers", timeout=TIMEOUT)
    assert (posted.status_code, posted.json()["@type"]) == (405, "hydra:Error")
    assert posted.headers["Allow"] == "GET"


# --- paging --------------------------------------------------------------------------------------


def test_a_page_in_the_middle_links_in_all_directions_and_keeps_the_filters(
    site: Site, access_token: str
) -> None:
    answer = site.api("transactions-history", access_token, [("page", "3"), ("tranDate[gte]", "1")])

    view = answer.json()["hydra:view"]
    links = {name: parse_qs(urlsplit(link).query) for name, link in view.items() if name != "@type"}
    assert links == {
        "@id": {"tranDate[gte]": ["1"], "page": ["3"]},
        "hydra:first": {"tranDate[gte]": ["1"], "page": ["1"]},
        "hydra:last": {"tranDate[gte]": ["1"], "page": ["17"]},
        "hydra:previous": {"tranDate[gte]": ["1"], "page": ["2"]},
        "hydra:next": {"tranDate[gte]": ["1"], "page": ["4"]},
    }


def test_the_last_page_has_no_next_and_a_page_behind_it_is_empty(
    site: Site, access_token: str
) -> None:
    last = site.api("transactions-history", access_token, {"page": "17"})
    assert len(members(last)) == 20
    assert "hydra:next" not in last.json()["hydra:view"]

    behind = site.api("transactions-history", access_token, {"page": "18"})
    assert members(behind) == []
    assert behind.json()["hydra:totalItems"] == 500


# --- filters -------------------------------------------------------------------------------------


def test_customers_are_found_by_id_and_by_several_ids(site: Site, access_token: str) -> None:
    first, second, *_ = members(site.api("customers", access_token))

    assert members(site.api("customers", access_token, {"id": first["id"]})) == [first]
    several = [("id[]", first["id"]), ("id[]", second["id"]), ("id[]", "1")]
    assert members(site.api("customers", access_token, several)) == [first, second]
    numbered = [("id[0]", first["id"]), ("id[1]", second["id"])]
    assert members(site.api("customers", access_token, numbered)) == [first, second]


@pytest.mark.parametrize("name", ["customerRef", "firstName", "lastName", "company", "email"])
def test_customers_are_found_by_each_text_filter(site: Site, access_token: str, name: str) -> None:
    everyone = everything(site, "customers", access_token)
    wanted = next(customer for customer in everyone if customer["company"])

    found = members(site.api("customers", access_token, {name: wanted[name].upper()}))

    assert wanted in found
    assert len(found) < 10
    assert all(wanted[name].lower() in customer[name].lower() for customer in found)


def test_part_of_a_name_is_enough_but_a_reference_must_be_whole(
    site: Site, access_token: str
) -> None:
    wanted = members(site.api("customers", access_token))[0]

    by_name = site.api("customers", access_token, {"lastName": wanted["lastName"][:3]})
    assert wanted in members(by_name)
    by_reference = site.api("customers", access_token, {"customerRef": wanted["customerRef"][:4]})
    assert members(by_reference) == []


def test_filters_are_combined_and_unknown_ones_are_ignored(site: Site, access_token: str) -> None:
    wanted = members(site.api("customers", access_token))[0]
    filters = {"lastName": wanted["lastName"], "firstName": wanted["firstName"], "colour": "red"}

    assert wanted in members(site.api("customers", access_token, filters))
    filters["firstName"] = "Nobody"
    assert members(site.api("customers", access_token, filters)) == []


@pytest.mark.parametrize("name", ["transactions-history", "transactions-pending"])
def test_transactions_are_found_by_each_filter(site: Site, access_token: str, name: str) -> None:
    everything_ = everything(site, name, access_token)
    one, two = everything_[1], everything_[7]

    def found(filters: object) -> list[int]:
        answer = site.api(name, access_token, filters)
        assert answer.json()["hydra:totalItems"] >= len(members(answer))
        return [member["id"] for member in members(answer)]

    assert found({"id": one["id"]}) == [one["id"]]
    assert found([("id[]", one["id"]), ("id[]", two["id"])]) == [one["id"], two["id"]]
    assert found({"referenceId": two["referenceId"]}) == [two["id"]]
    references = [("referenceId[]", one["referenceId"]), ("referenceId[]", two["referenceId"])]
    assert found(references) == [one["id"], two["id"]]

    customer = one["customer"]["id"]
    of_customer = [t["id"] for t in everything_ if t["customer"]["id"] == customer][:30]
    assert found({"customer": customer}) == of_customer
    assert found({"customer[]": f"/api/customers/{customer}"}) == of_customer

    amount = one["amount"]
    with_amount = [t["id"] for t in everything_ if t["amount"] == amount][:30]
    assert found({"amount": amount}) == with_amount
    assert found({"amount[]": f"{amount}0"}) == with_amount


@pytest.mark.parametrize("name", ["transactions-history", "transactions-pending"])
def test_transactions_are_found_by_their_date(site: Site, access_token: str, name: str) -> None:
    dates = sorted(t["tranDate"] for t in everything(site, name, access_token))
    low, high = dates[5], dates[20]

    def total(**filters: object) -> int:
        answer = site.api(name, access_token, filters)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["hydra:totalItems"])

    def expected(first: float, last: float) -> int:
        return sum(first <= date <= last for date in dates)

    forever = float("inf")
    assert total(tranDate=low) == expected(low, low)
    assert total(**{"tranDate[gte]": low}) == expected(low, forever)
    assert total(**{"tranDate[gt]": low}) == expected(low + 1, forever)
    assert total(**{"tranDate[lte]": high}) == expected(0, high)
    assert total(**{"tranDate[lt]": high}) == expected(0, high - 1)
    assert total(**{"tranDate[gte]": low, "tranDate[lt]": high}) == expected(low, high - 1)
    assert total(**{"tranDate[between]": f"{low}..{high}"}) == expected(low, high)
    assert total(**{"tranDate[between]": f"{high}..{low}"}) == expected(high, low)


@pytest.mark.parametrize(
    ("name", "filters"),
    [
        *[("customers", {"page": value}) for value in ("0", "-1", "abc", "", "1.5", "9" * 5000)],
        *[("customers", {"id": value}) for value in ("abc", "", "1e3", "²", "٣", "1 ", "0x1")],
        ("customers", {"id[]": "abc"}),
        ("transactions-history", {"page": "-7"}),
        ("transactions-history", {"customer": "Ada"}),
        ("transactions-history", {"customer": "/api/customers/"}),
        *[
            ("transactions-history", {"amount": value})
            for value in ("NaN", "Infinity", "abc", "", "1,50", "1e9999")
        ],
        *[
            ("transactions-pending", {f"tranDate{suffix}": "yesterday"})
            for suffix in ("", "[gte]", "[gt]", "[lte]", "[lt]", "[between]")
        ],
        *[
            ("transactions-pending", {"tranDate[between]": value})
            for value in ("", "1", "..", "1..", "..2", "1..2..3", "1,2")
        ],
    ],
)
def test_a_bad_value_is_a_hydra_error(
    site: Site, access_token: str, name: str, filters: dict[str, str]
) -> None:
    answer = site.api(name, access_token, filters)

    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/ld+json; charset=utf-8"
    assert answer.json()["@type"] == "hydra:Error"
    assert next(iter(filters)) in answer.json()["hydra:description"]
