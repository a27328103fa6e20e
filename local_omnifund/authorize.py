"""The authorize endpoint, /oauth/v2/auth: sign in, then Allow or Deny."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode, urlsplit

from flask import Blueprint, abort, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from local_omnifund import sessions
from local_omnifund.context import services
from local_omnifund.fault_pages import remember_callback, scopes_of_request
from local_omnifund.faults import AT_CONSENT
from local_omnifund.login import ask_to_sign_in
from local_omnifund.merchants import Merchant
from local_omnifund.models import Client
from local_omnifund.oauth import JSON_HEADERS, OmniFundRequest
from local_omnifund.token import last_values

FORM = "fos_oauth_server_authorize_form"
# OmniFund's form has the first five. The PKCE parameters would be lost without the others.
FORM_PARAMETERS = (
    "client_id",
    "response_type",
    "redirect_uri",
    "state",
    "scope",
    "code_challenge",
    "code_challenge_method",
)

blueprint = Blueprint("authorize", __name__)


class RedirectUriMismatch(HTTPException):
    """A redirect URI that is missing or not the client's. Shown to the visitor, never followed."""

    code = 400
    error = "redirect_uri_mismatch"


@blueprint.route("/oauth/v2/auth", methods=["GET", "POST"])
def authorize() -> Response | str:
    """Ask the merchant, and send the answer to the client's redirect URI."""
    form_was_sent = any(name.startswith(f"{FORM}[") for name in request.form)
    parameters = _form_parameters() if form_was_sent else last_values(request.args.lists())
    client = _require_client(parameters)
    _require_redirect_uri(client, parameters)
    merchant = sessions.signed_in_merchant()
    if merchant is None:
        return ask_to_sign_in(f"{request.path}?{_query(parameters)}")
    if not form_was_sent or not sessions.csrf_token_is_valid(request.form.get(f"{FORM}[_token]")):
        return _consent_page(client, merchant, parameters)
    # Only the presence of "accepted" counts; everything else is Deny.
    allowed = f"{FORM}[accepted]" in request.form
    oauth_request = OmniFundRequest("POST", parameters)
    oauth_request.scopes = scopes_of_request(parameters.get("state"))
    if allowed and services().faults.strike(AT_CONSENT, oauth_request.scopes):
        allowed = False
    answer = services().server.decide(oauth_request, merchant if allowed else None)
    remember_callback(answer)
    return answer


def _form_parameters() -> dict[str, str]:
    """The parameters of the submitted consent form. An empty field is one that was not there."""
    fields = last_values(request.form.lists())
    return {name: value for name in FORM_PARAMETERS if (value := fields.get(f"{FORM}[{name}]"))}


def _require_client(parameters: Mapping[str, str]) -> Client:
    """The client, or a page for the visitor: without a client there is nobody to redirect to."""
    client_id = parameters.get("client_id")
    if not client_id:
        abort(400, "The request has no client_id, so the application is unknown.")
    client = services().clients.find_active(client_id)
    if client is None:
        abort(404, "No active OAuth client has this client_id. Check it under API Access.")
    return client


def _require_redirect_uri(client: Client, parameters: Mapping[str, str]) -> None:
    """Stop before a password is asked for unless the redirect URI is the client's own."""
    redirect_uri = parameters.get("redirect_uri")
    if redirect_uri and client.check_redirect_uri(redirect_uri):
        return
    if redirect_uri:
        raise RedirectUriMismatch("The redirect URI provided does not match registered URI(s).")
    if not client.redirect_uris:
        raise RedirectUriMismatch("No redirect URL was supplied or registered.")
    if len(client.redirect_uris) == 1:
        raise RedirectUriMismatch("The redirect URI is mandatory and was not supplied.")
    raise RedirectUriMismatch("No redirect URL was supplied and more than one is registered.")


def _consent_page(client: Client, merchant: Merchant, parameters: Mapping[str, str]) -> str:
    return render_template(
        "authorize.html",
        client=client,
        merchant=merchant,
        destination=urlsplit(parameters["redirect_uri"]),
        form=FORM,
        # OmniFund's own fields are always there; the PKCE fields only when PKCE is used.
        fields={
            name: parameters.get(name, "")
            for name in FORM_PARAMETERS
            if name in parameters or not name.startswith("code_")
        },
        query=_query(parameters),
        faults=services().faults.waiting(scopes_of_request(parameters.get("state"))),
    )


def _query(parameters: Mapping[str, str]) -> str:
    return urlencode(sorted(parameters.items()), quote_via=quote)


def redirect_uri_mismatch(error: RedirectUriMismatch) -> Response | tuple[str, int]:
    """A page for a browser, OmniFund's JSON for a program."""
    if request.accept_mimetypes.provided and "text/html" in [
        mimetype for mimetype, _ in request.accept_mimetypes
    ]:
        page = render_template("redirect_uri_mismatch.html", error=error)
        return page, 400
    return services().server.handle_response(
        400, {"error": error.error, "error_description": error.description}, JSON_HEADERS
    )
