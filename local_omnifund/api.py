"""The REST API: customers and transactions as JSON-LD with Hydra, for a bearer token."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

from authlib.integrations.flask_oauth2 import ResourceProtector, current_token
from authlib.oauth2.rfc6750 import BearerTokenValidator
from flask import Blueprint, Response, abort, request
from werkzeug.exceptions import Forbidden, HTTPException

from local_omnifund.context import services
from local_omnifund.data import Book, Record
from local_omnifund.faults import ALL, AT_API, Fault, grant_scope, token_scope
from local_omnifund.misbehavior import instead_of_data
from local_omnifund.models import Token
from local_omnifund.oauth import JSON_HEADERS, OmniFundError

PAGE_SIZE = 30
INVALID_TOKEN = "The access token provided is invalid."
EXPIRED_TOKEN = "The access token provided has expired."
JSON_LD = "application/ld+json; charset=utf-8"

Test = Callable[[Record], bool] | None

blueprint = Blueprint("api", __name__, url_prefix="/api")


class BearerToken(BearerTokenValidator):
    """OmniFund's errors for an access token that is unknown, expired, or of an unknown client."""

    def authenticate_token(self, token_string: str) -> Token | None:
        return services().store.find_access_token(token_string)

    def validate_token(self, token: Token | None, scopes: object, request: object) -> None:
        # The tokens of a deactivated client are rejected too.
        if token is None or services().clients.find_active(token.client_id) is None:
            raise OmniFundError("invalid_grant", INVALID_TOKEN)
        scopes = [ALL, *token.scopes, grant_scope(token.grant), token_scope(token)]
        if services().store.now() > token.expires_at:
            # Otherwise the fault would strike the token that replaces this one.
            services().faults.take([Fault.ACCESS_TOKEN_EXPIRED], scopes)
            raise OmniFundError("invalid_grant", EXPIRED_TOKEN)
        fault = services().faults.take(AT_API, scopes)
        if fault is not None:
            _misbehave(fault, token)


def _misbehave(fault: Fault, token: Token) -> None:
    if fault is Fault.ACCESS_TOKEN_EXPIRED:
        services().store.expire(token)
        raise OmniFundError("invalid_grant", EXPIRED_TOKEN)
    if fault is Fault.API_401:
        raise OmniFundError("invalid_grant", INVALID_TOKEN)
    abort(instead_of_data(fault) or hydra_error(Forbidden("Access Denied.")))


class BearerProtector(ResourceProtector):
    """Reads a token from exactly one place: `Authorization: Bearer …` or `?access_token=…`."""

    def parse_request_authorization(self, _: object) -> tuple[BearerTokenValidator, str]:
        # "Bearer" is case-sensitive on OmniFund, although its token type is "bearer".
        in_header = re.search(r"Bearer\s(\S+)", request.headers.get("Authorization", ""))
        in_query = request.args.getlist("access_token")[-1:] or [""]
        candidates = [in_header.group(1) if in_header else "", in_query[0]]
        tokens = [candidate for candidate in candidates if candidate]
        if len(tokens) > 1:
            raise OmniFundError(
                "invalid_request",
                "Only one method may be used to authenticate at a time (Auth header, GET or POST).",
            )
        if not tokens:
            raise OmniFundError("access_denied", "OAuth2 authentication required")
        return self.get_token_validator("bearer"), tokens[0]

    def raise_error_response(self, error: OmniFundError) -> None:
        """Respond with 401 (400 for two tokens) and the same texts in the header and the body."""
        body = json.dumps(
            {"error": error.error, "error_description": error.description}, separators=(",", ":")
        )
        response = Response(body, 400 if error.error == "invalid_request" else 401, JSON_HEADERS)
        if response.status_code == 401:
            response.headers["WWW-Authenticate"] = (
                f'Bearer realm="Service", error="{error.error}", '
                f'error_description="{error.description}"'
            )
        abort(response)


require_bearer = BearerProtector()
require_bearer.register_token_validator(BearerToken())


@blueprint.get("/customers")
@require_bearer
def customers() -> Response:
    """The merchant's customers."""
    tests = [
        _any_of("id", _integer),
        _text("customerRef", exactly=True),
        *[_text(name) for name in ("firstName", "lastName", "company", "email")],
    ]
    return _collection("customers", _book().customers, tests)


@blueprint.get("/transactions-history")
@require_bearer
def transactions_history() -> Response:
    """Processed transactions, newest first."""
    return _collection("transactions-history", _book().processed, _transaction_tests())


@blueprint.get("/transactions-history/<path:number>")
@require_bearer
def transaction(number: str) -> Response:
    """One processed transaction."""
    record = next((r for r in _book().processed if number == str(r["id"])), None)
    if record is None:
        abort(404, "Not Found")
    return json_ld({"@context": "/api/contexts/transactions-history"} | record)


@blueprint.get("/transactions-pending")
@require_bearer
def transactions_pending() -> Response:
    """Scheduled transactions, the next one first."""
    return _collection("transactions-pending", _book().pending, _transaction_tests())


def json_ld(body: Record, status: int = 200) -> Response:
    """A JSON-LD response."""
    return Response(
        json.dumps(body, separators=(",", ":")),
        status,
        {"Content-Type": JSON_LD, "Cache-Control": "no-store, private"},
    )


def hydra_error(error: HTTPException) -> Response:
    """An error of the REST API in Hydra's form."""
    response = json_ld(
        {
            "@context": "/api/contexts/Error",
            "@type": "hydra:Error",
            "hydra:title": "An error occurred",
            "hydra:description": error.description or error.name,
        },
        error.code or 500,
    )
    for name, value in error.get_headers():
        if name in {"Allow", "Retry-After"}:
            response.headers[name] = value
    return response


def _book() -> Book:
    return services().books.of(current_token.username)


# --- paging ------------------------------------------------------------------------------------


def _collection(name: str, records: tuple[Record, ...], tests: list[Test]) -> Response:
    page = _page_number()
    wanted = [test for test in tests if test is not None]
    found = [record for record in records if all(test(record) for test in wanted)]
    members = found[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    return json_ld(
        {
            "@context": f"/api/contexts/{name}",
            "@id": f"/api/{name}",
            "@type": "hydra:Collection",
            "hydra:member": members,
            "hydra:totalItems": len(found),
            "hydra:view": _view(page, max(1, -(-len(found) // PAGE_SIZE))),
        }
    )


def _view(page: int, last: int) -> Record:
    view = {
        "@id": _page_link(page),
        "@type": "hydra:PartialCollectionView",
        "hydra:first": _page_link(1),
        "hydra:last": _page_link(last),
    }
    if page > 1:
        view["hydra:previous"] = _page_link(min(page - 1, last))
    if page < last:
        view["hydra:next"] = _page_link(page + 1)
    return view


def _page_link(page: int) -> str:
    """This request's path and filters with another page, without an access token."""
    filters = [
        (name, value)
        for name, value in request.args.items(multi=True)
        if name not in {"page", "access_token"}
    ]
    return f"{request.path}?{urlencode([*filters, ('page', str(page))], quote_via=quote)}"


def _page_number() -> int:
    page = _integer("page", request.args.getlist("page")[-1]) if "page" in request.args else 1
    if page < 1:
        abort(400, "page must be 1 or more.")
    return page


# --- filters -----------------------------------------------------------------------------------


def _transaction_tests() -> list[Test]:
    return [
        _any_of("id", _integer),
        _any_of("customer", _customer_id, read=lambda record: record["customer"]["id"]),
        _any_of("amount", _amount, read=lambda record: Decimal(record["amount"])),
        _any_of("referenceId", lambda _, value: value),
        *_date_tests(),
    ]


def _any_of(
    name: str,
    parse: Callable[[str, str], Any],
    read: Callable[[Record], Any] | None = None,
) -> Test:
    """One value (`name=…`) or several (`name[]=…`), of which one must match."""
    repeated = re.compile(rf"{name}\[\d*\]")
    values = [(name, value) for value in request.args.getlist(name)[-1:]] + [
        (key, value) for key, value in request.args.items(multi=True) if repeated.fullmatch(key)
    ]
    wanted = {parse(key, value) for key, value in values}
    if not wanted:
        return None
    return lambda record: (read(record) if read else record[name]) in wanted


def _text(name: str, *, exactly: bool = False) -> Test:
    """A text filter: part of the value in any case, or the whole value when `exactly`."""
    wanted = (request.args.getlist(name)[-1:] or [""])[0].casefold()
    if not wanted:
        return None
    if exactly:
        return lambda record: record[name].casefold() == wanted
    return lambda record: wanted in record[name].casefold()


def _date_tests() -> list[Test]:
    """`tranDate=…` for a moment, `tranDate[gte]=…` and so on for a range."""
    comparisons: dict[str, Callable[[int, int], bool]] = {
        "tranDate": lambda date, limit: date == limit,
        "tranDate[gte]": lambda date, limit: date >= limit,
        "tranDate[gt]": lambda date, limit: date > limit,
        "tranDate[lte]": lambda date, limit: date <= limit,
        "tranDate[lt]": lambda date, limit: date < limit,
    }
    tests = [
        _date_test(_integer(name, request.args.getlist(name)[-1]), compare)
        for name, compare in comparisons.items()
        if name in request.args
    ]
    if "tranDate[between]" in request.args:
        name = "tranDate[between]"
        first, dots, last = request.args.getlist(name)[-1].partition("..")
        if not dots:
            abort(400, f"{name} must be two Unix times with two dots between them.")
        tests.append(_date_test(_integer(name, first), comparisons["tranDate[gte]"]))
        tests.append(_date_test(_integer(name, last), comparisons["tranDate[lte]"]))
    return tests


def _date_test(limit: int, compare: Callable[[int, int], bool]) -> Test:
    return lambda record: compare(record["tranDate"], limit)


def _integer(name: str, value: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", value):
        abort(400, f"{name} must be a whole number.")
    return int(value)


def _customer_id(name: str, value: str) -> int:
    return _integer(name, value.removeprefix("/api/customers/"))


def _amount(name: str, value: str) -> Decimal:
    if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,8})?", value):
        abort(400, f"{name} must be an amount such as 49.00.")
    return Decimal(value)
