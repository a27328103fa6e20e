"""``/inspector/step-through``: a sign-in that halts before each message, to be tampered with.

In ``local`` only. Each message is a form with the parameters that the app would send; the visitor
changes them, sends them, and reads who objected, and by which clause. The app's own client builds
the messages and judges the responses, over a transport that halts before it sends and with a store
that keeps nothing, so the visitor's session is not involved. What is sent goes to Local OmniFund.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
from flask import (
    Blueprint,
    Flask,
    g,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from werkzeug.wrappers import Response as BaseResponse

from demo import cookies, hooks, lab, rules
from demo.conversation import Check, checks
from demo.masking import Masker
from omnifund.connections import StoredToken
from omnifund.errors import OmniFundError
from omnifund.events import ignore
from omnifund.http import HTTPClient, Response
from omnifund.oauth import AUTHORIZE_PATH, MAX_TOKEN_RESPONSE_BYTES, TOKEN_PATH
from omnifund.token import Token
from omnifund.token_store import TokenStore
from web import auth
from web.current import omnifund, settings

blueprint = Blueprint("step_through", __name__, url_prefix="/inspector/step-through")
blueprint.after_request(hooks.keep_for_back)

CODE_SECONDS: Final = 30
"""How long OmniFund accepts a code (manual, authorization code flow)."""

SECONDS: Final = 600
"""How long a visitor may take."""

_COOKIE: Final = "omnifund_step"
_MAX_QUERY: Final = 1000
_API_TARGET: Final = "/api/customers?page=1"
_MAX_API_BYTES: Final = 1024 * 1024
# By the error that OmniFund names.
_CLAUSES: Final = {
    "redirect_uri_mismatch": "RFC 6749 §4.1.3",
    "unsupported_grant_type": "RFC 6749 §4.1.3, §5.2",
}


class Parameter(msgspec.Struct, frozen=True):
    """What a parameter stops, and the clause that defines it."""

    stops: str
    clause: str


PARAMETERS: Final = msgspec.toml.decode(
    Path(__file__).with_name("parameters.toml").read_bytes(), type=dict[str, dict[str, Parameter]]
)
SECRETS: Final = frozenset({"client_secret", "access_token"})
"""Parameters whose value no form shows: the visitor chooses what happens to it."""


class Progress(msgspec.Struct):
    """How far this browser has come.

    ``state``: of the authorization request. ``query``: the callback's, as it arrived at ``arrived``
    (Unix seconds); ``accepted``: whether the app has accepted a callback; ``access_token``: what
    the code was exchanged for.
    """

    state: str
    query: str = ""
    arrived: float = 0.0
    accepted: bool = False
    access_token: str = ""


class Verdict(NamedTuple):
    """What came of a message. ``objector``: who refused it, or nobody; ``facts``: the response."""

    objector: str
    reason: str
    clause: str
    status: int | None
    facts: dict[str, str]
    checks: Sequence[Check]


class Halted(Exception):
    """The client was about to send this form to OmniFund's token endpoint."""

    def __init__(self, body: str) -> None:
        super().__init__("halted")
        self.body = body


class _Transport(HTTPClient):
    """Halts before it sends; or responds with what OmniFund has responded already."""

    def __init__(self, base_url: str, response: Response | None) -> None:
        super().__init__(base_url)
        self._response = response

    def send(self, method: str, path: str, **message: Any) -> Response:
        if self._response is None:
            raise Halted(message["body"])
        return self._response


class _Forgetful:
    """What of a ``TokenStore`` a callback needs; nothing was used before, and nothing is kept."""

    def claim(self, *names: str, value: bytes, seconds: int) -> list[bytes | None]:
        return [value for _ in names]

    def update_claim(self, name: str, value: bytes) -> None:
        pass

    def save(self, *_record: Any, **_more: Any) -> None:
        pass


def init_app(app: Flask) -> None:
    """Offer it, and take the callback of a sign-in that began here."""
    app.register_blueprint(blueprint)
    app.before_request(_take_callback)
    app.after_request(_make_room)


# --- the first message -------------------------------------------------------------------------


@blueprint.get("")
def start() -> BaseResponse | str:
    """The authorization request, before the browser takes it to OmniFund."""
    if (origin := auth.origin_to_move_to()) is not None:
        return redirect(f"{origin}{request.path}?{auth.MOVED}=1")
    # Its callback is told by where it leads, whatever another tab has begun in the meantime.
    started = omnifund().create_authorization_request(request.cookies, _callback_path())
    fields = parse_qsl(urlsplit(started.url).query)
    progress = Progress(started.request.state)
    response = _remember(_page("authorize", progress, message=fields), progress)
    return auth.with_cookies(response, started)


@blueprint.post("/authorize")
def authorize() -> BaseResponse:
    """Send the browser to OmniFund with what the visitor has typed."""
    query = urlencode(_typed())
    return redirect(f"{settings().omnifund_base_url}{AUTHORIZE_PATH}?{query}", code=303)


def _take_callback() -> BaseResponse | None:
    """Keep the callback for the visitor, instead of letting the app complete the sign-in."""
    if request.endpoint != "auth.callback":
        return None
    progress, started = _progress(), hooks.pending_request()
    if started is not None and started.next == _callback_path():
        progress = Progress(started.state)
    elif started is not None or lab.led_here() or progress is None:
        return None  # It belongs to a sign-in that did not begin here.
    g.pop("recorder", None)
    progress.query = request.query_string.decode("latin-1")[:_MAX_QUERY]
    progress.arrived = omnifund().clock()
    return _remember(redirect(url_for("step_through.callback"), code=303), progress)


def _callback_path() -> str:
    return url_for("step_through.callback")


def _make_room(response: BaseResponse) -> BaseResponse:
    """A sign-in that begins as usual is not to be halted."""
    if request.endpoint == "auth.login":
        cookies.delete(response, _COOKIE)
    return response


# --- the callback --------------------------------------------------------------------------------


@blueprint.get("/callback")
def callback() -> BaseResponse | str:
    """The callback as it arrived, before the app looks at it."""
    progress = _progress()
    if progress is None or not progress.query:
        return redirect(url_for("step_through.start"))
    return _page("callback", progress, message=_read(progress.query))


@blueprint.post("/callback")
def hand_over() -> BaseResponse | str:
    """Have the app check what the visitor has made of the callback."""
    progress = _progress()
    if progress is None:
        return redirect(url_for("step_through.start"))
    typed = _typed()
    stopped = _handle_callback(urlencode(typed))
    verdict = _judge("callback", stopped, None, typed)
    if not isinstance(stopped, Halted):
        return _page("callback", progress, verdict)
    progress.accepted = True
    return _remember(_page("token", progress, verdict, _read(stopped.body)), progress)


# --- the token request -------------------------------------------------------------------------


@blueprint.post("/token")
def token() -> BaseResponse | str:
    """Send the token request, and have the app check the response."""
    progress = _progress()
    if progress is None or not progress.accepted:
        return redirect(url_for("step_through.start"))
    typed = _typed(client_secret=settings().omnifund_client_secret.get_secret_value())
    received = omnifund().http.send(
        "POST",
        TOKEN_PATH,
        headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
        body=urlencode(typed),
        max_bytes=MAX_TOKEN_RESPONSE_BYTES,
    )
    # The callback was accepted before; which code was sent, only OmniFund looks at.
    callback = urlencode({"code": "sent", "state": progress.state})
    verdict = _judge("token", _handle_callback(callback, received), received, typed)
    if not verdict.objector:
        progress.access_token = msgspec.json.decode(received.body)["access_token"]
    return _remember(_page("token", progress, verdict), progress)


# --- the API request -----------------------------------------------------------------------------


@blueprint.post("/api")
def api() -> BaseResponse | str:
    """Send an API request."""
    progress = _progress()
    if progress is None or not progress.access_token:
        return redirect(url_for("step_through.start"))
    typed = _typed(access_token=progress.access_token)
    headers = {"Accept": "application/json"}
    if (sent := dict(typed).get("access_token")) is not None:
        headers["Authorization"] = f"Bearer {sent}"
    try:
        received = omnifund().http.send(
            "GET", _API_TARGET, headers=headers, max_bytes=_MAX_API_BYTES
        )
    except ValueError:
        reason = "this cannot be sent as an access token"
        return _page("api", progress, Verdict("This app", reason, "RFC 6750 §2.1", None, {}, ()))
    return _page("api", progress, _judge("api", _read_customers(received), received, typed))


# --- what the visitor typed --------------------------------------------------------------------


def _fields() -> list[tuple[str, str, bool]]:
    """Return each parameter's name, what the visitor typed, and whether it is left out."""
    left_out = request.form.getlist("leave_out")
    return [
        (name[2:], value, name[2:] in left_out)
        for name, value in request.form.items(multi=True)
        if name.startswith("p.")
    ]


def _typed(**secrets: str) -> list[tuple[str, str]]:
    """Return the parameters as the visitor wants them; ``secrets``: the values that stay here."""
    found = [
        (name, _TAMPERED.get(value, str)(secrets[name]) if name in secrets else value)
        for name, value, is_left_out in _fields()
        if not is_left_out
    ]
    return [*found, *_read(request.form.get("more", ""))]


_TAMPERED: Final[dict[str, Callable[[str], str]]] = {
    "real": str,
    "altered": lambda secret: ("A" if secret[:1] != "A" else "B") + secret[1:],
}


def _read(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


# --- what came of it ---------------------------------------------------------------------------


def _handle_callback(query: str, response: Response | None = None) -> Exception | None:
    """Run the app's own code up to its first message, or beyond it with ``response``.

    Returns what stopped it: ``Halted`` before the message, an error, or nothing.
    """
    client = dataclasses.replace(
        omnifund(),
        store=cast(TokenStore, _Forgetful()),
        http_client=_Transport(settings().omnifund_base_url, response),
        on_event=ignore,
    )
    try:
        client.handle_callback(query, request.cookies)
    except (Halted, OmniFundError) as stopped:
        return stopped
    return None


def _read_customers(received: Response) -> OmniFundError | None:
    """Have the app's own code read an API response; return what it objects to."""
    now = int(omnifund().clock())
    stored = StoredToken(Token("unused", None, now, now + 3600), b"")
    transport = _Transport(settings().omnifund_base_url, received)
    api = dataclasses.replace(omnifund().api, http=transport, on_event=ignore)
    try:
        if received.status == 200:  # OmniFund itself has objected to any other.
            api.customers("unused", stored=stored)
    except OmniFundError as error:
        return error
    return None


def _judge(
    stage: str,
    stopped: Exception | None,
    received: Response | None,
    typed: Sequence[tuple[str, str]],
) -> Verdict:
    status = received.status if received else None
    body, facts = _masked(received, typed)
    step = {"token": "authorization_code", "api": "api"}.get(stage, stage)
    stopped_in = rules.functions_of(stopped) if stopped else ()
    outcomes = rules.outcomes(step, {name for name, _ in typed} | facts.keys(), stopped_in, status)
    found = list(checks(outcomes))
    if status is not None and status >= 400:
        error = facts.get("error", "")
        clause = "RFC 6750 §3.1" if stage == "api" else _CLAUSES.get(error, "RFC 6749 §5.2")
        if "verifier" in facts.get("error_description", "") or "challenge" in body:
            clause = "RFC 7636 §4.6"
        reason = facts.get("error_description") or error or f"HTTP {status}"
        return Verdict("OmniFund", reason, clause, status, facts, () if stage == "api" else found)
    if stopped is not None and not isinstance(stopped, Halted):
        refused = next((each.rule for each in found if each.outcome == "refused"), None)
        clause = refused.clause if refused else ""
        return Verdict("This app", str(stopped), clause, status, facts, found)
    return Verdict("", "", "", status, facts, found)


def _masked(
    received: Response | None, typed: Sequence[tuple[str, str]]
) -> tuple[str, dict[str, str]]:
    """Return a response's text for looking into it, and its members, masked."""
    if received is None:
        return "", {}
    masker = Masker(settings().secret_key.get_secret_value())
    masker.learn(*(value for name, value in typed if name in SECRETS))
    _, facts = masker.body(received.headers, received.body)
    return received.body.decode("utf-8", "replace").lower(), facts


# --- the page and its cookie -------------------------------------------------------------------


def _page(
    stage: str,
    progress: Progress,
    verdict: Verdict | None = None,
    message: Sequence[tuple[str, str]] = (),
) -> str:
    """Show the form of ``message``; without one, as it was typed."""
    lab.let_forms_lead_to_omnifund()
    spent = omnifund().clock() - progress.arrived
    return render_template(
        "step_through.html",
        stage=stage,
        fields=[(name, value, False) for name, value in message] or _fields(),
        known=PARAMETERS,
        verdict=verdict,
        chosen=request.form,
        spent=round(spent, 1),
        code_seconds=CODE_SECONDS,
        omnifund_url=settings().omnifund_base_url,
        target=_API_TARGET,
    )


def _remember(page: BaseResponse | str, progress: Progress) -> BaseResponse:
    response = make_response(page)
    cookies.write(response, _COOKIE, cookies.as_text(_COOKIE, progress), max_age=SECONDS)
    return response


def _progress() -> Progress | None:
    """Return how far this browser has come; ``None`` if it has not begun."""
    return cookies.read_sealed(_COOKIE, Progress)
