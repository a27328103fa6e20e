"""The authorization endpoint, /oauth/v2/auth: the login page, then the consent page."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode, urlsplit

from flask import Blueprint, abort, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from local_omnifund import sessions
from local_omnifund.context import services
from local_omnifund.fault_pages import remember_callback, scopes_of_request
from local_omnifund.faults import AT_CODE, AT_CONSENT
from local_omnifund.login import redirect_to_login
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
CSRF_FIELD = "_token"

blueprint = Blueprint("authorize", __name__)


class RedirectUriMismatch(HTTPException):
    """A missing or unregistered redirect URI: shown to the merchant, never followed."""

    code = 400
    error = "redirect_uri_mismatch"


@blueprint.route("/oauth/v2/auth", methods=["GET", "POST"])
def authorize() -> Response | str:
    """Show the consent page; once it is submitted, redirect to the client's redirect URI."""
    # Opened first: OmniFund sends its session's cache headers with errors as well.
    sessions.current()
    fields = _form_fields()
    parameters = _form_parameters(fields) if fields else last_values(request.args.lists())
    client = _require_client(parameters)
    _require_redirect_uri(client, parameters)
    merchant = sessions.signed_in_merchant()
    if merchant is None:
        return redirect_to_login(f"{request.path}?{_query(parameters)}")
    if not _form_is_valid(fields):
        return _consent_page(client, merchant, parameters)
    oauth_request = OmniFundRequest("POST", parameters)
    oauth_request.scopes = scopes_of_request(parameters.get("state"))
    # The buttons are not fields of the form, and only the presence of "accepted" counts.
    allowed = "accepted" in request.form
    if allowed and services().faults.take(AT_CONSENT, oauth_request.scopes):
        allowed = False
    response = services().server.decide(oauth_request, merchant if allowed else None)
    # A callback that fails, or is made to, is not the one that a sign-in ended with.
    if allowed and not {*AT_CODE} & {*services().faults.enabled_in(oauth_request.scopes)}:
        remember_callback(response, client, parameters["redirect_uri"])
    return response


def _form_fields() -> dict[str, str]:
    """The fields of a submitted consent form, by their names without the form's."""
    return {
        name[len(FORM) + 1 : -1]: value
        for name, value in last_values(request.form.lists()).items()
        if name.startswith(f"{FORM}[") and name.endswith("]")
    }


def _form_parameters(fields: Mapping[str, str]) -> dict[str, str]:
    """The authorization request that the form repeats. An empty field counts as absent."""
    return {name: value for name in FORM_PARAMETERS if (value := fields.get(name))}


def _form_is_valid(fields: Mapping[str, str]) -> bool:
    """Whether this merchant submitted OmniFund's own form: its token, and no extra field."""
    return fields.keys() <= {*FORM_PARAMETERS, CSRF_FIELD} and sessions.csrf_token_is_valid(
        fields.get(CSRF_FIELD)
    )


def _require_client(parameters: Mapping[str, str]) -> Client:
    """The client, or an error page: a request without a client has no URI to redirect to."""
    client_id = parameters.get("client_id")
    if not client_id:
        abort(400, "The request has no client_id, so the application is unknown.")
    client = services().clients.find_active(client_id)
    if client is None:
        abort(404, "No active OAuth client has this client_id. Check it under API Access.")
    return client


def _require_redirect_uri(client: Client, parameters: Mapping[str, str]) -> None:
    """Raise `RedirectUriMismatch` unless the redirect URI is one of the client's.

    OmniFund checks this after the decision. Here it comes before the merchant types a password
    for an application that cannot receive the response.
    """
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
        faults=services().faults.enabled_in(scopes_of_request(parameters.get("state"))),
    )


def _query(parameters: Mapping[str, str]) -> str:
    return urlencode(sorted(parameters.items()), quote_via=quote)


def redirect_uri_mismatch(error: RedirectUriMismatch) -> Response | tuple[str, int]:
    """A page for a browser, OmniFund's JSON for a program."""
    if "text/html" in [mimetype for mimetype, _ in request.accept_mimetypes]:
        page = render_template("redirect_uri_mismatch.html", error=error)
        return page, 400
    return services().server.handle_response(
        400, {"error": error.error, "error_description": error.description}, JSON_HEADERS
    )
