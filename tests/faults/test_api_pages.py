"""Pages of the API's data: odd values, and filters that OmniFund does not understand."""

from __future__ import annotations

import json

import pytest

from tests.faults import provider as kit
from tests.support.browsing import forms
from tests.support.merchant import Merchant
from tests.support.rig import rig


@pytest.mark.parametrize(
    "date",
    [
        '"0001-01-01T00:00:00+14:00"',
        '"9999-12-31T23:59:59-14:00"',
        '"99999999999999999999-01-01"',
        '"0000-00-00T00:00:00"',
        '"2026-01-01T00:00:00+99:99"',
        '"yesterday"',
        '""',
        "-1",
        "253402300800",
        "1e300",
        "1e400",
        "9" * 400,
        "true",
        "{}",
        '"' + "9" * 400 + '"',
    ],
)
def test_a_date_that_is_none_is_left_out(redis_url: str, date: str) -> None:
    """K17"""
    with rig(redis_url) as running:
        merchant = running.merchant()
        body = f'{{"hydra:member": [{{"id": 1, "status": "settled", "tranDate": {date}}}]}}'
        running.provider.next_api_answer(kit.raw_answer(body.encode()))
        page = merchant.get("/transactions")
        assert page.status_code == 200, page
        assert "settled" in page.text
        assert "<time" not in page.text


@pytest.mark.parametrize(
    "amount",
    [
        '""',
        '"1e999999"',
        '"1E+1000000"',
        '"-1E+999999999999999999"',
        '"1E+9999999999999999999"',
        '"1E-1000000"',
        '"-1E-999999999999999999"',
        '"0E-999999"',
        f'"0.{"0" * 5000}1"',
        '"NaN"',
        '"-Infinity"',
        '"1,50"',
        '"٣"',
        "1e300",
        "1e400",
        "9" * 30,
        "null",
        "[]",
        "true",
    ],
)
def test_an_amount_that_is_none_is_left_out(redis_url: str, amount: str) -> None:
    """K17"""
    with rig(redis_url) as running:
        merchant = running.merchant()
        body = f'{{"hydra:member": [{{"id": 1, "status": "settled", "amount": {amount}}}]}}'
        running.provider.next_api_answer(kit.raw_answer(body.encode()))
        page = merchant.get("/transactions")
        assert page.status_code == 200, page
        assert "settled" in page.text
        assert "$" not in page.text.partition("<main")[2]


@pytest.mark.parametrize("value", ['"\\ud800"', "NaN", "-Infinity", '"\\udfff\\ud800"'])
@pytest.mark.parametrize("where", ["amount", "firstName", "status", "anything"])
def test_a_response_that_is_not_strictly_json_is_not_used(
    redis_url: str, where: str, value: str
) -> None:
    """K17: RFC 8259 §6 and §8.2; wherever in the response it is."""
    with rig(redis_url) as running:
        merchant = running.merchant()
        body = f'{{"hydra:member": [{{"id": 1, "{where}": {value}}}]}}'
        running.provider.next_api_answer(kit.raw_answer(body.encode()))
        page = merchant.get("/transactions")
        assert (page.status_code, page.headline) == (502, "OmniFund sent an invalid response")
        assert merchant.get("/transactions").status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2030 00:00:00 +99999999999999",
        "Fri, 31 Dec 9999 23:59:59 -1400",
        "9" * 400,
        "-5",
        "\xb2",
    ],
)
@pytest.mark.parametrize("name", ["Retry-After", "Date"])
def test_a_giant_date_in_a_header_does_no_harm(redis_url: str, name: str, header: str) -> None:
    """K17"""
    with rig(redis_url) as running:
        merchant = running.merchant()
        for status in (503, 200):
            answer = kit.json_answer({"hydra:member": []}, status, {name: header})
            running.provider.next_api_answer(answer)
            page = merchant.get("/customers")
            assert page.status_code == status, page
            if status == 503:
                assert 1 <= int(page.headers["Retry-After"]) <= 3600


@pytest.mark.parametrize(
    "search",
    [
        "/transactions?amount=abc",
        "/transactions?amount=1,50",
        "/transactions?id=x",
        "/transactions?kind=pending&amount=abc",
        "/transactions?kind=pending&id=1.5",
    ],
)
def test_a_filter_that_omnifund_does_not_understand_is_said_beside_the_form(
    merchant: Merchant, search: str
) -> None:
    """K20: with Local OmniFund's own refusals."""
    merchant.sign_in()
    page = merchant.get(search)
    assert page.status_code == 400, page
    assert "OmniFund sent an invalid response" not in page.text
    # The same form with the same search, to be corrected.
    query = dict(pair.split("=") for pair in search.partition("?")[2].split("&"))
    (form,) = [each for each in forms(page) if each.method == "get"]
    assert query.items() <= form.fields.items() | {("kind", query.get("kind", "history"))}
    assert merchant.status()["signed_in"] is True
    corrected = merchant.submit(form, amount="", id="")
    assert corrected.status_code == 200, corrected


@pytest.mark.parametrize("path", ["/customers?lastName=%FF", "/customers", "/transactions?page=7"])
def test_any_400_of_the_api_is_a_400_with_the_form(redis_url: str, path: str) -> None:
    """K20: nothing is refreshed, and no text of OmniFund's is shown."""
    with rig(redis_url) as running:
        merchant = running.merchant()
        refusal = kit.json_answer({"hydra:description": "<b>from the server</b>"}, 400)
        running.provider.next_api_answer(refusal)
        page = merchant.get(path)
        assert page.status_code == 400, page
        assert any(form.method == "get" for form in forms(page))
        assert "from the server" not in page.text
        assert running.provider.refreshes == 0


def test_a_name_is_shown_as_it_is_and_not_as_markup(redis_url: str) -> None:
    """K17: escapes that are text."""
    with rig(redis_url) as running:
        merchant = running.merchant()
        names = ["<b>Ada</b>", "Zoë \U0001f600", "a\x00b", "\u202eevil"]
        page_of = {"hydra:member": [{"id": n, "company": name} for n, name in enumerate(names)]}
        running.provider.next_api_answer(kit.raw_answer(json.dumps(page_of).encode()))
        page = merchant.get("/customers")
        assert page.status_code == 200, page
        assert "<b>Ada" not in page.text
        assert "Zoë \U0001f600" in page.text
