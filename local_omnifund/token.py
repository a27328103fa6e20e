"""The token endpoint, /oauth/v2/token."""

import json
from collections.abc import Iterable, Mapping

from flask import Blueprint, Request, Response, request
from werkzeug.datastructures import Authorization

from local_omnifund.context import services
from local_omnifund.oauth import OmniFundRequest

blueprint = Blueprint("token", __name__)


@blueprint.route("/oauth/v2/token", methods=["GET", "POST"])
def token() -> Response:
    """Exchange a code, a password, or a refresh token for a new pair of tokens."""
    # HEAD is handled as GET.
    method = "POST" if request.method == "POST" else "GET"
    parameters, credentials = token_parameters(request), _basic_credentials(request)
    return services().server.create_token_response(OmniFundRequest(method, parameters, credentials))


def token_parameters(http_request: Request) -> dict[str, str]:
    """Parameters of a POST from its body only, of a GET from its query only.

    The body may be a form (urlencoded or multipart) or a JSON object.
    """
    if http_request.method != "POST":
        return last_values(http_request.args.lists())
    if http_request.is_json:
        return _json_parameters(http_request.get_data())
    return last_values(http_request.form.lists())


def last_values(parameters: Iterable[tuple[str, list[str]]]) -> dict[str, str]:
    """Parameters by name. For a repeated one, the last value counts."""
    return {name: values[-1] for name, values in parameters}


def _json_parameters(body: bytes) -> dict[str, str]:
    try:
        values = json.loads(body)
    # Nesting that is too deep raises RecursionError.
    except (ValueError, RecursionError):
        return {}
    return as_parameters(values) if isinstance(values, dict) else {}


def as_parameters(values: Mapping[str, object]) -> dict[str, str]:
    """The members of a JSON object that are texts or numbers, as texts."""
    # "\ud800" is valid JSON, but a lone surrogate cannot be encoded later: it is replaced.
    return {
        name: str(value).encode("utf-8", "replace").decode()
        for name, value in values.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    }


def authorization_of(http_request: Request) -> Authorization | None:
    """The Authorization header, or None when it cannot be read."""
    try:
        return http_request.authorization
    except ValueError:
        # Werkzeug decodes Basic credentials as Base64, which knows only ASCII characters.
        return None


def _basic_credentials(http_request: Request) -> tuple[str, str] | None:
    """The user and password of HTTP Basic without form-decoding, or None without a user."""
    authorization = authorization_of(http_request)
    if authorization is None or authorization.type != "basic" or not authorization.username:
        return None
    return authorization.username, authorization.password or ""
