"""The fault switches: the page `/faults`, and an HTTP interface for programs.

Every client that can reach this server may use them: it is an emulator on a developer's computer.
Pages of other sites may not.
"""

import secrets
from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import parse_qsl, urlencode

from flask import (
    Blueprint,
    Response,
    abort,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from werkzeug.wrappers import Response as BaseResponse

from local_omnifund import sessions
from local_omnifund.context import services
from local_omnifund.faults import (
    ALL,
    AT_CONSENT,
    LIFE_SECONDS,
    UNTIL_CLEARED,
    Enabled,
    Fault,
    browser_scope,
    grant_scope,
    state_scope,
    token_scope,
)
from local_omnifund.models import Client, Token
from local_omnifund.oauth import OmniFundRequest
from local_omnifund.redirect_uris import with_query
from local_omnifund.token import as_parameters, authorization_of

COOKIE = "local_omnifund_browser"
CALLBACK_COOKIE = "local_omnifund_callback"
# Browsers ignore a longer cookie, and servers reject a request whose cookies are much longer.
MAX_CALLBACK_LENGTH = 2000
MAX_TIMES = 1000

blueprint = Blueprint("faults", __name__)


def scopes_of_request(state: str | None) -> list[str]:
    """The scopes that an authorization request of this browser belongs to."""
    scopes = [ALL]
    if browser := _browser():
        scopes.append(browser_scope(browser))
    if state:
        scopes.append(state_scope(state))
    return scopes


def _browser() -> str | None:
    return request.cookies.get(services().settings.cookie_name(COOKIE))


# --- the last authorization response -----------------------------------------------------------


def remember_callback(response: BaseResponse, client: Client, redirect_uri: str) -> None:
    """Let the browser that gets this authorization response request it once more.

    In a cookie, because this server stores no code in clear, and the browser has the code anyway.
    """
    if not services().faults.on:
        return
    parameters = response.headers["Location"].removeprefix(with_query(redirect_uri, ()))
    remembered = urlencode(
        {"client_id": client.client_id, "redirect_uri": redirect_uri, "parameters": parameters}
    )
    fits = len(remembered) <= MAX_CALLBACK_LENGTH
    response.set_cookie(
        services().settings.cookie_name(CALLBACK_COOKIE),
        remembered if fits else "",
        max_age=LIFE_SECONDS if fits else 0,
        path="/faults",
        httponly=True,
        samesite="Lax",
        secure=request.is_secure,
    )


@blueprint.get("/faults/last-callback")
def last_callback() -> BaseResponse:
    """Redirect the browser once more as the last consent redirected it.

    Other applications of this host can write the cookie. So it leads only to a registered redirect
    URI, and its parameters are encoded again.
    """
    cookie = request.cookies.get(services().settings.cookie_name(CALLBACK_COOKIE), "")
    remembered = dict(parse_qsl(cookie))
    client = services().clients.find_active(remembered.get("client_id", ""))
    redirect_uri = remembered.get("redirect_uri", "")
    if client is None or not client.check_redirect_uri(redirect_uri):
        abort(404, "This browser hasn't been redirected to an application recently.")
    parameters = parse_qsl(remembered.get("parameters", ""), keep_blank_values=True)
    return redirect(with_query(redirect_uri, parameters))


@blueprint.post("/faults/consent")
def consent() -> tuple[Response, int]:
    """Decide as the merchant of an access token, without a page: for programs that play a browser.

    The parameters are those of an authorization request, and `decision`: `allow` or `deny`. Returns
    the URL that the browser would be redirected to.
    """
    token = _bearer_token("A consent needs the merchant's access token.")
    fields = as_parameters(_fields())
    if fields.get("decision") not in {"allow", "deny"}:
        _reject("The decision is allow or deny.")
    oauth_request = OmniFundRequest("POST", fields)
    client = services().clients.find_active(fields.get("client_id", ""))
    if client is None or not client.check_redirect_uri(fields.get("redirect_uri", "")):
        _reject("The client is unknown, or its redirect URI is not registered.")
    oauth_request.scopes = scopes_of_request(fields.get("state"))
    merchant = services().merchants.find(token.username)
    is_active = services().clients.find_active(token.client_id) is not None
    if services().store.now() > token.expires_at or merchant is None or not is_active:
        _reject("The access token is no longer valid.", 401)
    is_allowed = fields["decision"] == "allow"
    if is_allowed and services().faults.take(AT_CONSENT, oauth_request.scopes):
        is_allowed = False
    decided = services().server.decide(oauth_request, merchant if is_allowed else None)
    if "Location" not in decided.headers:
        _reject("This is no valid authorization request.")
    return jsonify(location=decided.headers["Location"]), 201


# --- who may change faults ---------------------------------------------------------------------


@blueprint.before_request
def _only_when_on() -> None:
    if not services().faults.on:
        abort(404)


@blueprint.before_request
def _not_from_other_sites() -> None:
    if request.method in {"GET", "HEAD"}:
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if site is not None:
        # It decides: with Referrer-Policy no-referrer, this server's own forms send `Origin: null`.
        is_foreign = site not in {"none", "same-origin"}
    else:
        is_foreign = origin is not None and origin.partition("://")[2] != request.host
    if is_foreign:
        abort(403, "Pages of other sites can't change faults.")


# --- for programs ------------------------------------------------------------------------------


@blueprint.get("/faults.json")
def list_faults() -> Response:
    """Every fault, and those that are enabled."""
    return jsonify(
        faults=[
            {"id": fault.id, "where": fault.where, "description": fault.description}
            for fault in Fault
        ],
        armed=[_as_json(enabled) for enabled in services().faults.enabled()],
    )


@blueprint.post("/faults")
def enable() -> tuple[Response, int]:
    """Enable the fault `id` in a `scope` (default `all`), `times` times (default 1; 0: always)."""
    fields = _fields()
    if "id" not in fields:
        _reject("Name the fault in a form or a JSON object: id=token_500.")
    fault = _fault(fields["id"])
    times = _times(fields.get("times", "1"))
    if fault is None or times is None:
        _reject("The id is not in /faults.json, or times is not a number from 0 to 1000.")
    scope = _scope(fields.get("scope", ALL), fields.get("state"))
    services().faults.enable(fault, scope, times)
    return jsonify(_as_json(Enabled(fault, scope.partition(":")[0], times))), 201


@blueprint.put("/faults")
def replace() -> tuple[str, int]:
    """Enable each fault `id` of a form (one, several, or none) once, and no other in a `scope`."""
    faults = [_fault(name) for name in request.form.getlist("id")]
    known = [fault for fault in faults if fault]
    if len(known) < len(faults):
        _reject("One of the ids is not in /faults.json.")
    services().faults.replace(known, _scope(request.form.get("scope"), request.form.get("state")))
    return "", 204


@blueprint.delete("/faults")
@blueprint.delete("/faults/<name>")
def disable(name: str | None = None) -> tuple[str, int]:
    """Disable the named fault, or every fault, in one `scope` or, without one, in all of them."""
    fields = _fields()
    fault = None if name is None else _fault(name) or abort(404)
    scope = _scope(fields["scope"], fields.get("state")) if "scope" in fields else None
    services().faults.clear(fault, scope)
    return "", 204


def _fields() -> Mapping[str, object]:
    """The query, overridden by the body: a form or a JSON object."""
    if not request.is_json:
        return {**request.args, **request.form}
    try:
        body = request.get_json(silent=True)
    except RecursionError:
        body = None
    return {**request.args, **body} if isinstance(body, dict) else request.args


def _scope(name: object, state: object) -> str:
    """The scope that a program names.

    `state` comes with the parameter `state`, `browser` with the cookie of the page `/faults`;
    `bearer` (one grant and all its tokens) and `token` (one access token alone) with the access
    token as `Authorization: Bearer`.
    """
    if name == ALL:
        return ALL
    if name == "state" and isinstance(state, str) and state:
        return state_scope(state)
    if name == "browser" and (browser := _browser()):
        return browser_scope(browser)
    if name == "bearer":
        return grant_scope(_bearer_token("The scope bearer needs a known access token.").grant)
    if name == "token":
        return token_scope(_bearer_token("The scope token needs a known access token."))
    return _reject(
        "The scope must be all, browser (with its cookie), state (with state), bearer, or token."
    )


def _bearer_token(problem: str) -> Token:
    authorization = authorization_of(request)
    bearer = authorization.token if authorization and authorization.type == "bearer" else None
    token = services().store.find_access_token(bearer) if bearer else None
    return token or _reject(problem, 401)


def _reject(problem: str, status: int = 400) -> NoReturn:
    abort(make_response(jsonify(error=problem), status))


def _fault(name: object) -> Fault | None:
    return next((fault for fault in Fault if fault.id == name), None)


def _times(value: object) -> int | None:
    text = str(value)
    if not text.isascii() or not text.isdigit() or len(text) > 4 or int(text) > MAX_TIMES:
        return None
    return int(text) or UNTIL_CLEARED


def _as_json(enabled: Enabled) -> dict[str, str | int]:
    times = 0 if enabled.times == UNTIL_CLEARED else enabled.times
    return {"id": enabled.fault.id, "scope": enabled.scope, "times": times}


# --- for people --------------------------------------------------------------------------------


@blueprint.get("/faults")
def page() -> Response:
    """Every fault with its switches."""
    enabled = services().faults.enabled()
    response = Response(
        render_template(
            "faults.html",
            merchant=sessions.signed_in_merchant(),
            faults=list(Fault),
            enabled=enabled,
            enabled_faults={each.fault for each in enabled},
        )
    )
    if not _browser():
        response.set_cookie(
            services().settings.cookie_name(COOKIE),
            secrets.token_urlsafe(16),
            httponly=True,
            samesite="Lax",
            secure=request.is_secure,
        )
    return response


@blueprint.post("/faults/switch")
def switch() -> BaseResponse:
    """A button: `once` in this browser, `always` for all requests, `off`, or `clear` for all."""
    sessions.require_csrf_token()
    button = request.form.get("switch")
    if button == "clear":
        services().faults.clear()
        return redirect(url_for("faults.page"))
    fault = _fault(request.form.get("fault"))
    if fault is None:
        abort(400, "No fault has this ID.")
    if button == "once" and (browser := _browser()):
        services().faults.enable(fault, browser_scope(browser), 1)
    elif button == "always":
        services().faults.enable(fault, ALL, UNTIL_CLEARED)
    elif button == "off":
        services().faults.clear(fault)
    # To the row of the button, so that the page does not jump to its top.
    return redirect(url_for("faults.page", _anchor=fault.id))
