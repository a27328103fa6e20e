"""Typed reads of OmniFund's REST API (JSON-LD with Hydra), tolerant of missing and extra fields.

The bearer goes to the configured origin only, below ``/api/``; links that the server sends are
never followed. A 401 leads to one refresh and one replay, never two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

from omnifund import trace
from omnifund.access import Access
from omnifund.errors import AccessForbidden, InvalidResponse, RecordNotFound
from omnifund.http import HTTPClient, Response, raise_if_unavailable, read_json_object
from omnifund.trace import Check
from omnifund.vault import Record

MAX_API_ANSWER_BYTES: Final = 4 * 1024 * 1024
_PATH: Final = re.compile(r"/api(?:/[A-Za-z0-9_-]+){1,3}")
_LAST_SECOND: Final = 253_402_300_799  # the end of the year 9999

Params = Iterable[tuple[str, str]]
"""Query parameters in order; a name may be repeated (``id[]``)."""

Item = TypeVar("Item")


# Named tuples where there are many: made in a third of the time that a frozen dataclass takes.
class PaymentAccount(NamedTuple):
    """How a customer pays. ``kind``: ``Bank``, ``Card`` or ``Other``."""

    kind: str
    label: str
    masked_number: str


class Customer(NamedTuple):
    """A customer; texts are empty when OmniFund does not say."""

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
    """A processed or scheduled transaction; ``user`` is who created it."""

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


class Api:
    """OmniFund's REST API on behalf of whoever owns a handle."""

    def __init__(
        self, transport: HTTPClient, access: Access, *, clock: Callable[[], float]
    ) -> None:
        self._transport = transport
        self._access = access
        self._clock = clock

    def customers(
        self, handle: str, filters: Params = (), *, page: int = 1, record: Record | None = None
    ) -> Page[Customer]:
        """Return a page of ``/api/customers``; for ``record`` and errors see ``get``."""
        payload = self.get(handle, "/api/customers", [*filters, *_page(page)], record=record)
        return _collection(payload, _customer, page)

    def transactions(
        self,
        handle: str,
        kind: Literal["history", "pending"],
        filters: Params = (),
        *,
        page: int = 1,
        record: Record | None = None,
    ) -> Page[Transaction]:
        """Return a page of the processed (``history``) or scheduled (``pending``) transactions."""
        path = f"/api/transactions-{kind}"
        payload = self.get(handle, path, [*filters, *_page(page)], record=record)
        return _collection(payload, _transaction, page)

    def get(
        self, handle: str, path: str, params: Params = (), *, record: Record | None = None
    ) -> Mapping[str, Any]:
        """Return the JSON object at ``path``.

        ``record``: the handle's token, if the caller has just read it. Raises ``AccessForbidden``,
        ``RecordNotFound``, ``OmniFundUnavailable``, ``OmniFundTimeout``, ``InvalidResponse``, and
        what ``Access.bearer`` raises.
        """
        if _PATH.fullmatch(path) is None:
            raise ValueError("not a path of OmniFund's API")
        query = urlencode(list(params))
        target = f"{path}?{query}" if query else path
        record = self._access.bearer(handle, record)
        answer = self._send(target, record)
        if answer.status == 401:
            answer = self._send(target, self._access.renew(handle, record))
        return _payload(answer, now=self._clock())

    def _send(self, target: str, record: Record) -> Response:
        trace.checked(Check.OWN_ORIGIN, of_next=True)
        # "Bearer" whatever token_type's spelling was: OmniFund's server compares case sensitively.
        return self._transport.send(
            "GET",
            target,
            headers={
                "Accept": "application/ld+json, application/json",
                "Authorization": f"Bearer {record.token.access_token}",
            },
            max_bytes=MAX_API_ANSWER_BYTES,
        )


def _payload(answer: Response, *, now: float) -> Mapping[str, Any]:
    raise_if_unavailable(answer, now=now)
    if answer.status == 403:
        raise AccessForbidden("OmniFund's API answered 403")
    if answer.status == 404:
        raise RecordNotFound("OmniFund's API knows no such record")
    if answer.status != 200:
        raise InvalidResponse(f"OmniFund's API answered {answer.status}")
    trace.checked(Check.API_STATUS)
    return read_json_object(answer)


# --- reading ---------------------------------------------------------------------------------


def _page(page: int) -> list[tuple[str, str]]:
    return [("page", str(page))] if page > 1 else []


def _collection(
    payload: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Item], page: int
) -> Page[Item]:
    members = payload.get("hydra:member")
    if not isinstance(members, list):
        raise InvalidResponse("OmniFund's answer is not a collection")
    total = payload.get("hydra:totalItems")
    view = payload.get("hydra:view")
    links = view if isinstance(view, dict) else {}
    return Page(
        items=tuple(
            read(member) for member in members if isinstance(member, dict) and _text(member, "id")
        ),
        total=total if isinstance(total, int) and not isinstance(total, bool) else None,
        page=page,
        page_count=_page_number(links.get("hydra:last")),
        previous_page=page - 1 if page > 1 else None,
        next_page=page + 1 if _page_number(links.get("hydra:next")) else None,
    )


def _page_number(link: object) -> int | None:
    """The number in a paging link: the only part of it that is believed."""
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
            for account in (accounts if isinstance(accounts, list) else ())
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
        amount=_amount(member.get("amount")),
        customer_name=_customer(customer).name if isinstance(customer, dict) else "",
        reference_id=_text(member, "referenceId"),
        created_at=_moment(member.get("tranDate")),
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


def _amount(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and abs(amount) < Decimal(10) ** 15 else None


def _moment(value: object) -> datetime | None:
    """Unix seconds as the filters use them, or an ISO 8601 text."""
    if isinstance(value, str) and not value.isdecimal():
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return datetime.fromtimestamp(seconds, UTC) if 0 <= seconds <= _LAST_SECOND else None
