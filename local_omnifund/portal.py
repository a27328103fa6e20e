"""The merchant portal: home, customers, transactions, and Profile > API Access."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from flask import Blueprint, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from local_omnifund import sessions
from local_omnifund.context import services
from local_omnifund.data import Book, Record
from local_omnifund.login import current_target, redirect_to_login
from local_omnifund.merchants import Merchant
from local_omnifund.models import Client
from local_omnifund.redirect_uris import problem_with_redirect_uri

PAGE_SIZE = 25
MAX_NAME_LENGTH = 80
MAX_REDIRECT_URIS = 20
NEW_CLIENT_NAME = "New OAuth Client"

P = ParamSpec("P")
Page = Response | str | tuple[str, int]

blueprint = Blueprint("portal", __name__)


def signed_in(view: Callable[Concatenate[Merchant, P], Page]) -> Callable[P, Page]:
    """Pass the signed-in merchant to the view; other visitors go to the login page first."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> Page:
        merchant = sessions.signed_in_merchant()
        if merchant is None:
            wanted = current_target() if request.method == "GET" else url_for("portal.home")
            return redirect_to_login(wanted)
        if request.method == "POST":
            sessions.require_csrf_token()
        return view(merchant, *args, **kwargs)

    return guarded


@blueprint.get("/")
@signed_in
def home(merchant: Merchant) -> str:
    """The dashboard: a few figures and the latest transactions."""
    book = _book(merchant)
    return render_template(
        "home.html",
        merchant=merchant,
        recent=book.processed[:8],
        customers=len(book.customers),
        settled=sum(float(r["amount"]) for r in book.processed if r["status"] == "settled"),
        scheduled=len(book.pending),
        clients=[client for client in _clients(merchant) if client.active],
    )


@blueprint.get("/customers")
@signed_in
def customers(merchant: Merchant) -> str:
    """The merchant's customers."""
    return _listing(merchant, "customers.html", _book(merchant).customers)


@blueprint.get("/transactions")
@signed_in
def transactions(merchant: Merchant) -> str:
    """Processed transactions, newest first."""
    return _listing(merchant, "transactions.html", _book(merchant).processed)


@blueprint.get("/profile/api-access")
@signed_in
def api_access(merchant: Merchant) -> str:
    """All OAuth clients of the merchant."""
    return render_template("api_access.html", merchant=merchant, clients=_clients(merchant))


@blueprint.post("/profile/api-access")
@signed_in
def new_client(merchant: Merchant) -> Response:
    """Create an OAuth client and redirect to its page, which shows the secret once."""
    client, secret = services().store.create_client(merchant.username, NEW_CLIENT_NAME)
    session = sessions.current()
    session.new_client = (client.client_id, secret)
    sessions.save(session)
    return redirect(url_for("portal.client", client_id=client.client_id), 303)


@blueprint.get("/profile/api-access/<client_id>")
@signed_in
def client(merchant: Merchant, client_id: str) -> Page:
    """One OAuth client, with the form that edits it."""
    found = _own_client(merchant, client_id)
    session = sessions.current()
    # A HEAD request shows nothing, so it must not use up the only display.
    secret = session.take_new_secret(client_id) if request.method == "GET" else None
    uris, notice = "\n".join(found.redirect_uris), session.take_notice()
    page = _client_page(merchant, found, found.name, uris, secret=secret, notice=notice)
    response = Response(page, mimetype="text/html")
    response.headers["Cache-Control"] = "no-store, private"
    return response


@blueprint.post("/profile/api-access/<client_id>")
@signed_in
def edit_client(merchant: Merchant, client_id: str) -> Page:
    """Change the Client Name and the Allowed Redirect URIs."""
    found = _own_client(merchant, client_id)
    name = " ".join(request.form.get("name", "").split())
    text = request.form.get("redirect_uris", "")
    uris = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    problems = _problems(name, uris)
    if problems:
        return _client_page(merchant, found, name, text, problems=problems), 422
    services().store.edit_client(client_id, name, uris)
    return _back_to_client(client_id, "Your changes were saved.")


@blueprint.post("/profile/api-access/<client_id>/deactivate")
@signed_in
def deactivate_client(merchant: Merchant, client_id: str) -> Response:
    """Deactivate the client: it and its tokens are rejected."""
    services().store.set_client_active(_own_client(merchant, client_id).client_id, active=False)
    return _back_to_client(client_id, "This client is deactivated. It can no longer be used.")


@blueprint.post("/profile/api-access/<client_id>/reactivate")
@signed_in
def reactivate_client(merchant: Merchant, client_id: str) -> Response:
    """Reactivate the client, with the same ID and secret."""
    services().store.set_client_active(_own_client(merchant, client_id).client_id, active=True)
    return _back_to_client(client_id, "This client is active again.")


def _book(merchant: Merchant) -> Book:
    return services().books.of(merchant.username)


def _clients(merchant: Merchant) -> list[Client]:
    return services().clients.of_merchant(merchant.username)


def _own_client(merchant: Merchant, client_id: str) -> Client:
    found = services().clients.find(client_id)
    if found is None or found.owner != merchant.username:
        abort(404, "You have no OAuth client with this ID.")
    return found


def _client_page(
    merchant: Merchant, client: Client, name: str, redirect_uris: str, **more: object
) -> str:
    values = {"merchant": merchant, "client": client, "name": name, "redirect_uris": redirect_uris}
    usual: dict[str, object] = {"problems": {}, "secret": None, "notice": None}
    return render_template("client.html", **{**usual, **values, **more})


def _back_to_client(client_id: str, notice: str) -> Response:
    session = sessions.current()
    session.notice = notice
    sessions.save(session)
    return redirect(url_for("portal.client", client_id=client_id), 303)


def _problems(name: str, uris: tuple[str, ...]) -> dict[str, list[str]]:
    """Sentences about what may not be saved, by the name of its field."""
    problems: dict[str, list[str]] = {"name": [], "redirect_uris": []}
    if not name or not name.isprintable():
        problems["name"].append(
            "Give the client a name. Merchants see it when they allow or deny access."
        )
    if len(name) > MAX_NAME_LENGTH:
        problems["name"].append(f"The Client Name may have up to {MAX_NAME_LENGTH} characters.")
    if len(uris) > MAX_REDIRECT_URIS:
        problems["redirect_uris"].append(
            f"A client may have up to {MAX_REDIRECT_URIS} Allowed Redirect URIs."
        )
    problems["redirect_uris"] += [
        f'"{uri[:100]}" can\'t be used. {problem}'
        for uri in uris[:MAX_REDIRECT_URIS]
        if (problem := problem_with_redirect_uri(uri))
    ]
    return {field: texts for field, texts in problems.items() if texts}


def _listing(merchant: Merchant, template: str, records: tuple[Record, ...]) -> str:
    pages = max(1, -(-len(records) // PAGE_SIZE))
    value = request.args.get("page", "1")
    if not (value.isascii() and value.isdigit() and len(value) < 6 and 0 < int(value) <= pages):
        abort(404)
    page = int(value)
    return render_template(
        template,
        merchant=merchant,
        records=records[(page - 1) * PAGE_SIZE : page * PAGE_SIZE],
        total=len(records),
        page=page,
        pages=pages,
    )
