"""All customers and all transactions, page by page, while tokens expire."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import islice

import pytest

from local_omnifund.settings import DEMO_MERCHANT_PASSWORD
from omnifund import api
from omnifund.client import OmniFund
from omnifund.errors import ConnectionEnded, InvalidResponse, OmniFundUnavailable
from tests.faults import provider as kit
from tests.support.merchant import Merchant
from tests.support.rig import Rig, rig

CUSTOMERS = "/api/customers"


def client_of(merchant: Merchant) -> OmniFund:
    omnifund: OmniFund = merchant.at.app.extensions["omnifund"]
    return omnifund


def test_everything_comes_once_and_in_order(merchant: Merchant) -> None:
    """M7: against Local OmniFund, whose pages have 30 records."""
    merchant.sign_in()
    reading, connection = client_of(merchant).api, merchant.session_id
    customers = list(reading.iter_customers(connection))
    assert len(customers) == reading.customers(connection).total
    assert len({customer.id for customer in customers}) == len(customers)
    assert customers[30:60] == list(reading.customers(connection, page=2).items)
    scheduled = list(reading.iter_transactions(connection, "pending"))
    assert len(scheduled) == reading.transactions(connection, "pending").total


def test_filters_hold_for_every_page(merchant: Merchant) -> None:
    """M7: also when they come from a generator, which can be read once."""
    merchant.sign_in()
    reading, connection = client_of(merchant).api, merchant.session_id
    everything = list(reading.iter_transactions(connection, "history"))
    since = everything[100].created_at
    assert since is not None
    filters = (pair for pair in [("tranDate[gte]", str(int(since.timestamp())))])
    recent = list(reading.iter_transactions(connection, "history", filters))
    assert recent == [each for each in everything if each.created_at and each.created_at >= since]
    assert len(recent) > 60, "several pages"


def test_a_token_that_expires_between_two_pages_is_refreshed(merchant: Merchant) -> None:
    """M7: an hour passes at each page."""
    merchant.sign_in()
    before = merchant.stored.token.access_token
    total, reading = Decimal(0), client_of(merchant).api
    for number, each in enumerate(reading.iter_transactions(merchant.session_id, "history")):
        total += each.amount or 0
        if number % 100 == 0:
            merchant.at.clock.advance(3601)
    assert number > 200
    assert total > 0
    assert merchant.stored.token.access_token != before


def test_records_tell_two_accounts_apart(merchant: Merchant) -> None:
    """M13: no resource names the account, and every customer has an ID of its own."""
    omnifund = client_of(merchant)

    def customers(username: str) -> set[str]:
        connection = omnifund.sign_in_with_password(username, DEMO_MERCHANT_PASSWORD).connection_id
        return {each.id for each in omnifund.api.iter_customers(connection)}

    assert customers("merchant") == customers("merchant")
    assert not customers("merchant") & customers("second-merchant")


def page_of(*numbers: int, next_page: int | None) -> kit.Answer:
    view = {} if next_page is None else {"hydra:next": f"{CUSTOMERS}?page={next_page}"}
    members = [{"id": number} for number in numbers]
    return kit.json_answer({"hydra:member": members, "hydra:view": view})


@pytest.fixture
def running(redis_url: str) -> Iterator[Rig]:
    with rig(redis_url) as scripted:
        yield scripted


def test_a_page_is_requested_when_its_first_record_is_needed(running: Rig) -> None:
    """M7"""
    merchant = running.merchant()
    asked = len(running.provider.received(CUSTOMERS))
    running.provider.next_api_answer(page_of(1, 2, next_page=2), page_of(3, next_page=None))
    customers = client_of(merchant).api.iter_customers(merchant.session_id)
    assert len(running.provider.received(CUSTOMERS)) == asked
    assert [each.id for each in islice(customers, 2)] == ["1", "2"]
    assert len(running.provider.received(CUSTOMERS)) == asked + 1
    assert [each.id for each in customers] == ["3"]


def test_a_server_that_always_names_a_next_page_is_left(
    running: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M7: bounded."""
    monkeypatch.setattr(api, "MAX_PAGES", 3)
    merchant = running.merchant()
    running.provider.next_api_answer(*[page_of(number, next_page=2) for number in range(3)])
    with pytest.raises(InvalidResponse):
        list(client_of(merchant).api.iter_customers(merchant.session_id))
    assert dict(running.provider.received(CUSTOMERS)[-1].query) == {"page": "3"}


def test_a_server_that_repeats_a_page_is_left_at_once(running: Rig) -> None:
    """M7: it ignores the page's number; 10,000 times the same payments would be added up."""
    merchant = running.merchant()
    running.provider.next_api_answer(*[page_of(1, 2, next_page=2)] * 2)
    customers = client_of(merchant).api.iter_customers(merchant.session_id)
    assert [each.id for each in islice(customers, 2)] == ["1", "2"]
    with pytest.raises(InvalidResponse, match="twice"):
        next(customers)
    assert dict(running.provider.received(CUSTOMERS)[-1].query) == {"page": "2"}


def test_empty_pages_that_name_a_next_one_are_left_at_the_second(running: Rig) -> None:
    """M7: 10,000 requests for nothing."""
    merchant = running.merchant()
    running.provider.next_api_answer(*[page_of(next_page=2)] * 3)
    with pytest.raises(InvalidResponse, match="twice"):
        list(client_of(merchant).api.iter_customers(merchant.session_id))
    assert dict(running.provider.received(CUSTOMERS)[-1].query) == {"page": "2"}


@pytest.mark.parametrize("total", [-1, 0, 1, 10**400, "many", None])
def test_a_total_that_is_wrong_changes_nothing(running: Rig, total: object) -> None:
    merchant = running.merchant()
    for number, following in ((1, 2), (2, None)):
        view = {"hydra:next": f"{CUSTOMERS}?page={following}"} if following else {}
        page = {"hydra:member": [{"id": number}], "hydra:view": view, "hydra:totalItems": total}
        running.provider.next_api_answer(kit.json_answer(page))
    customers = client_of(merchant).api.iter_customers(merchant.session_id)
    assert [each.id for each in customers] == ["1", "2"]


def test_a_page_that_has_become_empty_is_the_last_one(running: Rig) -> None:
    """Records were deleted since the page before named it."""
    merchant = running.merchant()
    running.provider.next_api_answer(page_of(1, next_page=2), page_of(next_page=None))
    customers = client_of(merchant).api.iter_customers(merchant.session_id)
    assert [each.id for each in customers] == ["1"]


@pytest.mark.parametrize("failure", ["unavailable", "revoked"])
def test_what_fails_at_a_later_page_is_raised_there(running: Rig, failure: str) -> None:
    """M7: the host has what came before."""
    merchant = running.merchant()
    customers = client_of(merchant).api.iter_customers(merchant.session_id)
    running.provider.next_api_answer(page_of(1, next_page=2))
    assert next(customers).id == "1"
    if failure == "unavailable":
        running.provider.next_api_answer(kit.json_answer({}, 503))
    else:
        running.provider.revoke_access_tokens()
        running.provider.revoke_refresh_tokens()
    with pytest.raises(OmniFundUnavailable if failure == "unavailable" else ConnectionEnded):
        next(customers)
