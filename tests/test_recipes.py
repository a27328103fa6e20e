"""The recipes of CONTRIBUTING.md: what is forgotten in one of the usual changes is noticed."""

from __future__ import annotations

import re

from demo import hooks, recorder
from demo.conversation import STEPS
from demo.rules import STEPS as CHECKED_STEPS
from omnifund import api
from omnifund.api import Customer, PaymentAccount, Transaction
from tests.support.merchant import Merchant
from tests.support.servers import REPOSITORY
from tests.support.stack import Stack

RECORDS = {kind for kind in vars(api).values() if hasattr(kind, "_fields")}
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text()


def fields(kind: type) -> list[str]:
    """The fields of a record."""
    return list(kind._fields)  # type: ignore[attr-defined]  # each is a named tuple


def routes(stack: Stack, method: str) -> dict[str, str]:
    """The endpoints that take ``method``, and their paths."""
    rules = stack.app.url_map.iter_rules()
    return {rule.endpoint: rule.rule for rule in rules if method in (rule.methods or ())}


# --- a page --------------------------------------------------------------------------------------


def test_every_page_is_looked_at_in_a_browser(stack: Stack, merchant: Merchant) -> None:
    """In both color schemes and at every width: ``tests/browser/test_every_page.py``."""
    looked_at = (REPOSITORY / "tests" / "browser" / "test_every_page.py").read_text()
    merchant.sign_in()
    pages = []
    for path in routes(stack, "GET").values():
        page = merchant.get(re.sub(r"<card_id>", "deny", path))
        is_page = page.headers.get("Content-Type", "").startswith("text/html")
        if page.status_code == 200 and is_page:
            pages.append(path.replace("<card_id>", "deny"))
    assert len(pages) > 6
    unseen = [path for path in pages if f'"{path}"' not in looked_at]
    assert unseen == [], "add the path to tests/browser/test_every_page.py"


def test_every_page_of_a_merchant_is_recorded_and_linked(stack: Stack, merchant: Merchant) -> None:
    """A page that asks for a sign-in reads from OmniFund, so the inspector shows it."""
    pages = set()
    for endpoint, path in routes(stack, "GET").items():
        if endpoint.startswith("pages."):
            location = merchant.get(path).headers.get("Location", "")
            pages |= {endpoint} if location.startswith("/login?next=") else set()
    recorded = {name for (name, _), step in hooks._RECORDED.items() if step == "page"}
    assert pages == recorded, "list the pages, and only them, in _RECORDED of demo/hooks.py"
    merchant.sign_in()
    front = merchant.get("/").text
    unlinked = [
        path for path in map(routes(stack, "GET").get, pages) if f'href="{path}"' not in front
    ]
    assert unlinked == [], "add the page to the navigation in web/templating.py"


# --- the inspector's steps -----------------------------------------------------------------------


def test_the_inspectors_steps_agree_with_the_routes(stack: Stack) -> None:
    for endpoint, method in hooks._RECORDED:
        assert endpoint in routes(stack, method), "_RECORDED of demo/hooks.py: no such endpoint"
    to_the_app = {
        name
        for name, step in STEPS.items()
        if (step.sender, step.receiver) == ("browser", "app") and name != "login"
    }
    assert to_the_app == recorder.INCOMING
    assert set(hooks._RECORDED.values()) == to_the_app - {"repeated_callback"}
    assert set(CHECKED_STEPS) <= set(STEPS)


# --- a field, an API resource --------------------------------------------------------------------


def test_local_omnifund_fills_every_field_of_every_record(stack: Stack, merchant: Merchant) -> None:
    """Otherwise no test and no demo shows the field."""
    merchant.sign_in()
    client, connection_id = stack.app.extensions["omnifund"].api, merchant.session_id
    customers = list(client.iter_customers(connection_id))
    transactions = [
        *client.iter_transactions(connection_id, "history"),
        *client.iter_transactions(connection_id, "pending"),
    ]
    found: dict[type, list[tuple[object, ...]]] = {
        Customer: customers,
        PaymentAccount: [account for customer in customers for account in customer.accounts],
        Transaction: transactions,
    }
    assert set(found) == RECORDS, "read the records of omnifund/api.py here, each into `found`"
    for kind, records in found.items():
        for name in fields(kind):
            is_filled = any(getattr(record, name) for record in records)
            assert is_filled, f"{kind.__name__}.{name} is always empty: see local_omnifund/data.py"


def test_every_field_of_every_record_is_shown() -> None:
    templates = "".join(path.read_text() for path in (REPOSITORY / "templates").glob("*.html"))
    # A template names a record by the last word of its class: a `PaymentAccount` is an `account`.
    names = [
        f"{re.findall('[A-Z][a-z]+', kind.__name__)[-1].lower()}.{name}"
        for kind in RECORDS
        for name in fields(kind)
    ]
    assert len(names) > 15
    unseen = [name for name in names if not re.search(rf"\b{name}\b", templates)]
    assert unseen == [], "show it in the record's template, or remove it from the record"


def test_the_recipes_name_files_that_are_there() -> None:
    _, _, recipes = CONTRIBUTING.partition("## Recipes\n")
    named = re.findall(r"`([\w/]+\.(?:py|md|html|toml))`", recipes.partition("\n## ")[0])
    assert len(set(named)) > 8
    assert [path for path in named if not (REPOSITORY / path).exists()] == [], "CONTRIBUTING.md"
