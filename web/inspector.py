"""``/inspector``: the OAuth conversation of the visitor's own session, drawn and in words."""

from __future__ import annotations

from contextlib import suppress
from inspect import unwrap
from typing import Any, Final

from flask import Blueprint, Flask, Response, abort, g, jsonify, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from config import Settings
from omnifund import trace
from omnifund.errors import StoreUnavailable
from omnifund.masking import Masker
from omnifund.trace import Frame, Recording
from web import recording, visitor
from web.conversation import LANES, lay_out, moment, title
from web.integration import integration
from web.recording import incoming_exchange

blueprint = Blueprint("inspector", __name__)

_RECORDED: Final = {
    ("sign_in.callback", "GET"): "callback",
    ("sign_in.password", "POST"): "password",
    ("pages.refresh", "POST"): "refresh",
    ("pages.dashboard", "GET"): "page",
    ("pages.customers", "GET"): "page",
    ("pages.transactions", "GET"): "page",
}

# --- recording every request that takes part ---------------------------------------------------


def init_app(app: Flask, settings: Settings) -> None:
    """Record what the app says to OmniFund, and show it; nothing at all when that is off."""
    app.register_blueprint(blueprint)
    if not settings.flow_inspector:
        return
    key = settings.secret_key.get_secret_value()

    @app.before_request
    def begin() -> None:
        step = _RECORDED.get((request.endpoint or "", request.method))
        if step is None:
            return
        started = Recording(g.request_id, integration().clock(), Masker(key))
        view = app.view_functions[str(request.endpoint)]
        incoming = started.add(
            step,
            request.method,
            request.full_path.rstrip("?"),
            frames=[Frame.of(unwrap(view))],
        )
        incoming.fields |= started.masker.fields(request.form.items())
        incoming.headers["Cookie"] = ", ".join(name for name, _ in _own_cookies()) or "none"
        trace.begin(started)

    @app.after_request
    def finish(response: Response) -> Response:
        made = trace.current()
        if made is not None and not g.get("recording_kept") and recording.is_worth_keeping(made):
            _keep(made, response)
        return response

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        trace.end()


def _keep(made: Recording, response: Response) -> None:
    """Keep a recording in its session; in the browser, where there is none or none any more."""
    if (incoming := incoming_exchange(made)) is not None:
        made.answer(incoming, response.status_code, dict(response.headers))
    if made.problem and (_is_sign_in() or not visitor.is_known()):
        recording.keep_in_browser(made, response)
        return
    # Redis has failed since the page was made: the page matters more than the telling of it.
    with suppress(StoreUnavailable):
        visitor.keep(made)


def _is_sign_in() -> bool:
    return request.blueprint == "sign_in"


# --- the page ----------------------------------------------------------------------------------


@blueprint.get("/inspector")
def inspector() -> BaseResponse | str:
    """The conversation: what was said, what was checked, which code did it."""
    recordings = _visitors_recordings()
    if recordings is None:
        return visitor.to_sign_in()
    chosen = next((each for each in recordings if each.id == request.args.get("show")), None)
    chosen = chosen or (recordings[0] if recordings else None)
    return render_template(
        "inspector.html",
        recordings=[(each.id, title(each), moment(each), each.problem) for each in recordings],
        chosen=lay_out(chosen) if chosen else None,
        lanes=LANES,
        browser=_browser_holds(),
        store=_store_holds(),
    )


@blueprint.get("/inspector/recordings.json")
def download() -> BaseResponse:
    """The same to keep or to send to somebody, for instance in a support ticket."""
    recordings = _visitors_recordings()
    if recordings is None:
        return visitor.to_sign_in()
    response = jsonify(
        about="OAuth conversations as this app saw them; secrets are replaced by marks",
        environment=integration().settings.omnifund_environment,
        recordings=[each.as_dict() for each in recordings],
    )
    response.headers["Content-Disposition"] = "attachment; filename=omnifund-conversations.json"
    return response


def _visitors_recordings() -> list[Recording] | None:
    """Return what this visitor may see, the latest first; ``None``: they have to sign in first."""
    if not integration().settings.flow_inspector:
        abort(404)
    connection = visitor.connection()
    failed = recording.failed_sign_in(request)
    if connection is None and failed is None:
        return None
    found = recording.load(connection.handle) if connection else []
    return sorted([*found, *([failed] if failed else [])], key=lambda each: -each.at)


# --- who holds what ----------------------------------------------------------------------------

_COOKIES: Final = (
    ("omnifund_session", "the session id: random, and all that this app needs from you"),
    ("omnifund_attempt_", "a sign-in of the last ten minutes: verifier, way back; sealed"),
    ("omnifund_visitor", "a form's protection before you sign in; sealed"),
    ("omnifund_trace", "the last conversation that ended without a session; masked and sealed"),
    ("omnifund_notice", "which notice to show next: one word"),
    ("omnifund_lab", "which card of the lab has just run: one word"),
)


def _own_cookies() -> list[tuple[str, str]]:
    """Return the name and the meaning of each cookie of this app that the browser has sent."""
    return [
        (name, meaning)
        for name in request.cookies
        for prefix, meaning in _COOKIES
        if name.removeprefix("__Host-").startswith(prefix)
    ]


def _browser_holds() -> list[dict[str, Any]]:
    secure = ["Secure"] if integration().settings.secure_cookies else []
    return [
        {
            "name": name,
            "bytes": len(name) + len(request.cookies[name]) + 1,
            "flags": ", ".join(["HttpOnly", "SameSite=Lax", "Path=/", *secure]),
            "meaning": meaning,
        }
        for name, meaning in _own_cookies()
    ]


def _store_holds() -> list[dict[str, Any]]:
    connection = visitor.connection()
    if connection is None:
        return []
    parts, handle = integration(), connection.handle
    names = {
        visitor.session_key(handle): "when you signed in; sealed",
        parts.vault.key(handle): "the tokens; sealed",
        recording.key(handle): "these conversations; masked and sealed",
    }
    answers = parts.store.execute(
        *(("MEMORY", "USAGE", name) for name in names), *(("TTL", name) for name in names)
    )
    sizes, lives = answers[: len(names)], answers[len(names) :]
    return [
        {"name": name, "bytes": size, "seconds": seconds, "meaning": meaning}
        for (name, meaning), size, seconds in zip(names.items(), sizes, lives, strict=True)
        if size is not None
    ]
