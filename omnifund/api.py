"""Typed reads of OmniFund's REST API (JSON-LD with Hydra), tolerant of missing and extra fields.

The access token goes to the configured origin only, below ``/api/``; links that the server sends
are never followed. A 401 leads to one refresh and one repeated request, never two.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

from omnifund import errors
from omnifund.connections import StoredToken
from omnifund.events import Event, OnEvent, ignore
from omnifund.http import HTTPClient, Response, raise_if_unavailable, read_json_object
from omnifund.refresh import TokenRefresher

MAX_API_RESPONSE_BYTES: Final = 4 * 1024 * 1024
MAX_ACCOUNTS: Final = 100  # of one customer; a page shows no more
MAX_MEMBERS: Final = 1000  # the most members of one page; API Platform's default is 30
MAX_PAGES: Final = 10_000  # of one iteration, for a server that always names a next page
_PATH: Final = re.compile(r"/api(?:/[A-Za-z0-9_-]+){1,3}")
_ERRORS: Final[dict[int, type[errors.OmniFundError]]] = {
    400: errors.InvalidFilter,
    401: errors.AccessTokenRejected,
    403: errors.AccessForbidden,
    404: errors.RecordNotFound,
}
_MAX_TOTAL: Final = 10**12

Params = Iterable[tuple[str, str]]
"""Query parameters in order; a name may be repeated (``id[]``)."""

Kind = Literal["history", "pending"]
"""Processed, or scheduled."""

Stored = StoredToken | None
Item = TypeVar("Item")


# Named tuples: created by the hundred, in a third of the time of a frozen dataclass.
class PaymentAccount(NamedTuple):
    """How a customer pays. ``kind``: ``Bank``, ``Card``, or ``Other``."""

    kind: str
    label: str
    masked_number: str


class Customer(NamedTuple):
    """A customer. Fields that OmniFund leaves out are empty."""

    id: str
    name: str
    company: str
    customer_ref: str
    email: str
    phone: str
    city: str
    state: str
    accounts: tuple[PaymentAccount, ...]


class Transaction(NamedTuple):
    """A processed or scheduled transaction; ``user`` is the OmniFund user who created it."""

    id: str
    amount: Decimal | None
    customer_name: str
    reference_id: str
    created_at: datetime | None
    status: str
    user: str


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a collection. Page numbers count from 1; ``None`` is "unknown" or "none"."""

    items: tuple[Item, ...]
    total: int | None
    page: int
    page_count: int | None
    previous_page: int | None
    next_page: int | None


@dataclass(eq=False)
class API:
    """OmniFund's REST API on behalf of the merchant of a connection."""

    http: HTTPClient
    refresher: TokenRefresher
    clock: Callable[[], float]
    on_event: OnEvent = ignore

    def customers(
        self, connection_id: str, filters: Params = (), *, page: int = 1, stored: Stored = None
    ) -> Page[Customer]:
        """Return a page of ``/api/customers``; for ``stored`` and errors see ``get``."""
        payload = self.get(connection_id, "/api/customers", [*filters, *_page(page)], stored=stored)
        return _collection(payload, _customer, page)

    def transactions(
        self,
        connection_id: str,
        kind: Kind,
        filters: Params = (),
        *,
        page: int = 1,
        stored: Stored = None,
    ) -> Page[Transaction]:
        """Return a page of the processed (``history``) or scheduled (``pending``) transactions."""
        path = f"/api/transactions-{kind}"
        payload = self.get(connection_id, path, [*filters, *_page(page)], stored=stored)
        return _collection(payload, _transaction, page)

    def iter_customers(self, connection_id: str, filters: Params = ()) -> Iterator[Customer]:
        """Yield all customers; see ``iter_transactions``."""
        filters = list(filters)
        return _items(lambda page: self.customers(connection_id, filters, page=page))

    def iter_transactions(
        self, connection_id: str, kind: Kind, filters: Params = ()
    ) -> Iterator[Transaction]:
        """Yield all transactions, and request a page only when its first one is needed.

        However long that takes: each request gets a valid token. Records that appear at OmniFund
        meanwhile may be missing, or come twice, because its pages are counted and not marked.
        Raises what ``get`` raises, at any page.
        """
        filters = list(filters)
        return _items(lambda page: self.transactions(connection_id, kind, filters, page=page))

    def get(
        self, connection_id: str, path: str, params: Params = (), *, stored: Stored = None
    ) -> Mapping[str, Any]:
        """Return the JSON object at ``path``, for example ``/api/customers``.

        ``stored``: the token as the caller has just read it, which saves reading it again. Raises
        ``ValueError`` for a path that is not the API's, and any of ``omnifund.errors``.
        """
        require_api_path(path)
        query = urlencode(list(params))
        target = f"{path}?{query}" if query else path
        stored = self.refresher.valid_token(connection_id, stored)
        started, outcome = time.monotonic(), "read"
        try:
            return self._read(connection_id, target, stored)
        except errors.OmniFundError as error:
            outcome = type(error).__name__
            raise
        finally:
            seconds = round(time.monotonic() - started, 4)
            resource = path.split("/")[2]
            self.on_event(Event.API_REQUEST, resource=resource, outcome=outcome, seconds=seconds)

    def _read(self, connection_id: str, target: str, stored: StoredToken) -> Mapping[str, Any]:
        response = self._send(target, stored)
        if response.status == 401:
            stored = self.refresher.replace_rejected(connection_id, stored)
            response = self._send(target, stored)
        raise_if_unavailable(response, now=self.clock())
        require_success(response)
        return read_json_object(response)

    def _send(self, target: str, stored: StoredToken) -> Response:
        # Always "Bearer": OmniFund compares the scheme's case, whatever its token_type says.
        headers = {
            "Accept": "application/ld+json, application/json",
            "Authorization": f"Bearer {stored.token.access_token}",
        }
        return self.http.send("GET", target, headers=headers, max_bytes=MAX_API_RESPONSE_BYTES)


def require_api_path(path: str) -> None:
    """The access token goes to OmniFund's origin only (RFC 6750 §5.3)."""
    if _PATH.fullmatch(path) is None:
        raise ValueError("not a path of OmniFund's API")


def require_success(response: Response) -> None:
    """The API returned 200 (RFC 9110 §15.3.1)."""
    if response.status != 200:
        kind = _ERRORS.get(response.status, errors.InvalidResponse)
        raise kind(f"OmniFund's API returned {response.status}")


def _items(read: Callable[[int], Page[Item]]) -> Iterator[Item]:
    last: tuple[Item, ...] | None = None
    for number in range(1, MAX_PAGES + 1):
        page = read(number)
        if page.items == last:
            raise errors.InvalidResponse("OmniFund's API returned the same page twice")
        yield from page.items
        if page.next_page is None:
            return
        last = page.items
    raise errors.InvalidResponse(f"a collection of more than {MAX_PAGES} pages")


def _page(page: int) -> list[tuple[str, str]]:
    return [("page", str(page))] if page > 1 else []


def _collection(
    payload: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Item], page: int
) -> Page[Item]:
    members = payload.get("hydra:member")
    if not isinstance(members, list) or len(members) > MAX_MEMBERS:
        raise errors.InvalidResponse("OmniFund's response is not a page of a collection")
    total = payload.get("hydra:totalItems")
    view = payload.get("hydra:view")
    links = view if isinstance(view, dict) else {}
    return Page(
        items=tuple(
            read(member) for member in members if isinstance(member, dict) and _text(member, "id")
        ),
        total=total if type(total) is int and 0 <= total <= _MAX_TOTAL else None,
        page=page,
        page_count=_page_number(links.get("hydra:last")),
        previous_page=page - 1 if page > 1 else None,
        next_page=page + 1 if _page_number(links.get("hydra:next")) else None,
    )


def _page_number(link: object) -> int | None:
    """Return the page number in a paging link: the only part of it that is used."""
    if not isinstance(link, str):
        return None
    try:
        number = int(parse_qs(urlsplit(link).query).get("page", [""])[-1])
    except ValueError:
        return None
    return number if number > 0 else None


def _customer(member: Mapping[str, Any]) -> Customer:
    company = _text(member, "company")
    person = f"{_text(member, 'firstName')} {_text(member, 'lastName')}".strip()
    names = (company, person) if _text(member, "displayAs") == "company" else (person, company)
    accounts = member.get("paymentAccounts")
    return Customer(
        id=_text(member, "id"),
        name=names[0] or names[1],
        company=company,
        customer_ref=_text(member, "customerRef"),
        email=_text(member, "email"),
        phone=_text(member, "phone"),
        city=_text(member, "city"),
        state=_text(member, "state"),
        accounts=tuple(
            _account(account)
            for account in (accounts[:MAX_ACCOUNTS] if isinstance(accounts, list) else ())
            if isinstance(account, dict)
        ),
    )


def _account(account: Mapping[str, Any]) -> PaymentAccount:
    kind = _text(account, "@type")
    return PaymentAccount(
        kind=kind if kind in ("Bank", "Card") else "Other",
        label=_text(account, "bankName") or _text(account, "ccName"),
        masked_number=_text(account, "maskedAccountNumber"),
    )


def _transaction(member: Mapping[str, Any]) -> Transaction:
    customer = member.get("customer")
    return Transaction(
        id=_text(member, "id"),
        amount=_amount(_text(member, "amount")),
        customer_name=_customer(customer).name if isinstance(customer, dict) else "",
        reference_id=_text(member, "referenceId"),
        created_at=_moment(_text(member, "tranDate")),
        status=_text(member, "status"),
        user=_text(member, "loginID"),
    )


def _text(member: Mapping[str, Any], name: str) -> str:
    value = member.get(name)
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return ""


def _amount(text: str) -> Decimal | None:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    # Decimal reads exponents, and digits, that no arithmetic and no page can take.
    is_short = text.isascii() and len(text) <= 40
    return amount if is_short and amount.is_finite() and -20 <= amount.adjusted() < 15 else None


def _moment(text: str) -> datetime | None:
    """Return Unix seconds, as the filters use them, or an ISO 8601 text as a moment in UTC."""
    try:
        if text.replace(".", "", 1).isdecimal():
            return datetime.fromtimestamp(float(text), UTC)
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return None
