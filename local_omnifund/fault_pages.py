"""The fault switches for people (`/faults`) and for programs (`/faults.json`, POST, DELETE).

Whoever reaches this server may use them: it is a stand-in on a laptop. Other sites' pages may not.
"""

import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from flask import Blueprint, Response, abort, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from local_omnifund import sessions
from local_omnifund.context import services
from local_omnifund.faults import (
    ALL,
    LIFE_SECONDS,
    UNTIL_CLEARED,
    Armed,
    Fault,
    browser_scope,
    grant_scope,
    state_scope,
)

COOKIE = "local_omnifund_browser"
CALLBACK_COOKIE = "local_omnifund_callback"
MAX_TIMES = 1000

blueprint = Blueprint("faults", __name__)


def scopes_of_request(state: str | None) -> list[str]:
    """The scopes that an authorization request of this browser belongs to."""
    scopes = [ALL]
    if browser := request.cookies.get(COOKIE):
        scopes.append(browser_scope(browser))
    if state:
        scopes.append(state_scope(state))
    return scopes


def remember_callback(answer: BaseResponse) -> None:
    """Let the browser that gets this answer to an authorization request ask for it once more.

    In a cookie, because this server stores no code in clear, and the browser has seen it anyway.
    """
    if services().faults.on and (url := answer.headers.get("Location")):
        answer.set_cookie(
            CALLBACK_COOKIE,
            url,
            max_age=LIFE_SECONDS,
            path="/faults",
            httponly=True,
            samesite="Lax",
            secure=request.is_secure,
        )


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
        # This one decides: with Referrer-Policy no-referrer our own forms say `Origin: null`.
        is_foreign = site not in {"none", "same-origin"}
    else:
        is_foreign = origin is not None and urlsplit(origin).netloc != request.host
    if is_foreign:
        abort(403, "Pages of other sites can't change faults.")


# --- for programs ------------------------------------------------------------------------------


@blueprint.get("/faults.json")
def list_faults() -> Response:
    """Every fault, and those that wait."""
    return jsonify(
        faults=[
            {"id": fault.id, "where": fault.where, "description": fault.description}
            for fault in Fault
        ],
        armed=[_as_json(armed) for armed in services().faults.armed()],
    )


@blueprint.post("/faults")
def arm() -> tuple[Response, int]:
    """Arm the fault `id` in the `scope` all, browser, state or bearer, `times` times (0: always).

    `state` names the authorization request, `Authorization: Bearer …` the grant.
    """
    fields = _json_object() if request.is_json else request.form
    if fields is None or "id" not in fields:
        return jsonify(error="Name the fault in a form or a JSON object: id=token_500."), 400
    fault = _fault(fields["id"])
    times = _times(fields.get("times", "1"))
    if fault is None or times is None:
        problem = "The id is not in /faults.json, or times is not a number from 0 to 1000."
        return jsonify(error=problem), 400
    scope, problem = _scope(fields.get("scope", ALL), fields.get("state"))
    if scope is None:
        return jsonify(error=problem), 401 if "token" in problem else 400
    services().faults.arm(fault, scope, times)
    return jsonify(_as_json(Armed(fault, scope.partition(":")[0], times))), 201


@blueprint.delete("/faults")
def clear_all() -> tuple[str | Response, int]:
    """Switch everything off: in the given `scope`, named as for POST, or everywhere."""
    fields = _json_object() if request.is_json else request.form
    scope = None
    if fields and "scope" in fields:
        scope, problem = _scope(fields["scope"], fields.get("state"))
        if scope is None:
            return jsonify(error=problem), 401 if "token" in problem else 400
    services().faults.clear(scope=scope)
    return "", 204


@blueprint.delete("/faults/<name>")
def clear(name: str) -> tuple[str, int]:
    """Switch one fault off."""
    services().faults.clear(_fault(name) or abort(404))
    return "", 204


@blueprint.get("/faults/last-callback")
def last_callback() -> BaseResponse:
    """Send the browser once more to where the last consent has sent it."""
    url = request.cookies.get(CALLBACK_COOKIE)
    if url is None:
        abort(404, "This browser hasn't been redirected to an application recently.")
    return redirect(url)


def _json_object() -> Mapping[str, object] | None:
    try:
        fields = request.get_json(silent=True)
    except RecursionError:
        return None
    return fields if isinstance(fields, dict) else None


def _scope(name: object, state: object) -> tuple[str | None, str]:
    if name == ALL:
        return ALL, ""
    if name == "state" and isinstance(state, str) and state:
        return state_scope(state), ""
    if name == "browser" and (browser := request.cookies.get(COOKIE)):
        return browser_scope(browser), ""
    if name == "bearer":
        authorization = request.authorization
        bearer = authorization.token if authorization and authorization.type == "bearer" else None
        token = services().store.find_access_token(bearer) if bearer else None
        if token is None:
            return None, "The scope bearer needs a known access token."
        return grant_scope(token.grant), ""
    return None, "The scope must be all, browser (with its cookie), state (with state), or bearer."


def _fault(name: object) -> Fault | None:
    return next((fault for fault in Fault if fault.id == name), None)


def _times(value: object) -> int | None:
    text = str(value)
    if not text.isascii() or not text.isdigit() or len(text) > 4 or int(text) > MAX_TIMES:
        return None
    return int(text) or UNTIL_CLEARED


def _as_json(armed: Armed) -> dict[str, str | int]:
    times = 0 if armed.times == UNTIL_CLEARED else armed.times
    return {"id": armed.fault.id, "scope": armed.scope, "times": times}


# --- for people --------------------------------------------------------------------------------


@blueprint.get("/faults")
def page() -> Response:
    """Every fault with its switches."""
    response = Response(
        render_template("faults.html", faults=list(Fault), armed=services().faults.armed())
    )
    if not request.cookies.get(COOKIE):
        response.set_cookie(
            COOKIE,
            secrets.token_urlsafe(16),
            httponly=True,
            samesite="Lax",
            secure=request.is_secure,
        )
    return response


@blueprint.post("/faults/switch")
def switch() -> BaseResponse:
    """A button of the page: `once` in this browser, `always` for everybody, or `off`."""
    sessions.require_csrf_token()
    fault = _fault(request.form.get("fault"))
    button = request.form.get("switch")
    if fault is None:
        abort(400, "No fault has this id.")
    if button == "once" and (browser := request.cookies.get(COOKIE)):
        services().faults.arm(fault, browser_scope(browser), 1)
    elif button == "always":
        services().faults.arm(fault, ALL, UNTIL_CLEARED)
    elif button == "off":
        services().faults.clear(fault)
    return redirect(url_for("faults.page"))
