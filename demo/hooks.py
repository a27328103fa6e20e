"""Where the recorder meets the app: Flask's hooks, and the package's events."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, Final

from flask import Flask, current_app, g, has_app_context, request, request_finished
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from demo import lesson, storage
from demo.masking import Masker, query_of
from demo.recorder import INCOMING, Frame, Recorder, Recording, current, harmless
from omnifund import authorization
from omnifund.authorization import AuthorizationRequest
from omnifund.client import OmniFund
from omnifund.errors import (
    InvalidState,
    OmniFundError,
    ReauthorizationRequired,
    StoreUnavailable,
)
from omnifund.events import Event, OnEvent
from omnifund.oauth import OAuthClient
from web import auth, sessions
from web.current import omnifund, settings

_RECORDED: Final = {
    ("auth.callback", "GET"): "callback",
    ("auth.password", "POST"): "password",
    ("pages.refresh", "POST"): "refresh",
    ("pages.dashboard", "GET"): "page",
    ("pages.customers", "GET"): "page",
    ("pages.transactions", "GET"): "page",
}

COOKIES: Final = (
    ("omnifund_session", "session ID: random, and all this app needs to recognize you"),
    (
        "omnifund_attempt_",
        "a sign-in from the last ten minutes: code verifier, return path; encrypted",
    ),
    ("omnifund_visitor", "CSRF protection for forms before sign-in, and notices; signed"),
    ("omnifund_trace", "the last recording that ended without a session; masked, encrypted"),
    ("omnifund_lab", "which lab card ran last, and where it leads"),
    ("omnifund_returned", "that the last sign-in came with a callback, which the lab can replay"),
    ("omnifund_step", "how far you have stepped through a sign-in; encrypted"),
    ("omnifund_seen", "which lab cards you have run, and what happened; encrypted"),
    ("omnifund_lesson", "how many messages the sign-in took, for the next page to say"),
)
"""The beginning of the name of each cookie, and what it is for."""


def init_app(app: Flask) -> None:
    """Record every request that has to do with OAuth."""
    app.before_request(_begin)
    # Not after_request: only now does the response have the session's cookie.
    request_finished.connect(_finish, app)


def own_cookies() -> list[tuple[str, str]]:
    """Return the name and the meaning of each cookie of this app that the browser sent."""
    return [
        (name, meaning)
        for name in request.cookies
        for prefix, meaning in COOKIES
        if name.removeprefix("__Host-").startswith(prefix)
    ]


def is_kept() -> bool:
    """Whether this request is recorded, and the recording tells more than that a page was opened.

    That is so when OmniFund was sent a request, and when a callback ended here without one.
    """
    recorder = current()
    steps = {each.exchange.step for each in recorder.messages} if recorder else set()
    return bool(steps - INCOMING) or "callback" in steps


@harmless
def _begin() -> None:
    step = _RECORDED.get((request.endpoint or "", request.method))
    if step is None:
        return
    masker = Masker(settings().secret_key.get_secret_value())
    masker.learn(settings().omnifund_client_secret.get_secret_value())
    tokens = {}
    if auth.is_signed_in() and (connection := auth.connection()) is not None:
        masker.learn(connection.id)
        token = connection.stored.token
        tokens = {"access_token": token.access_token, "refresh_token": token.refresh_token or ""}
    g.recorder = Recorder(g.request_id, omnifund().clock(), masker, tokens)
    view = current_app.view_functions[str(request.endpoint)]
    g.recorder.add(step, request.method, request.path, [Frame.of(view)])


# --- what the package reports ----------------------------------------------------------------


def observing(on_event: OnEvent) -> OnEvent:
    """Return a function that passes events on to ``on_event``, and takes notes."""

    def observe(event: Event, **facts: Any) -> None:
        on_event(event, **facts)
        if has_app_context() and settings().flow_inspector:
            _note(event, facts)

    return observe


@harmless
def _note(event: Event, facts: dict[str, Any]) -> None:
    if event in (Event.SIGNED_OUT, Event.SESSION_EXPIRED):
        with suppress(StoreUnavailable):  # They end with the lifetime of the session instead.
            storage.delete(facts["session"])
    if (recorder := current()) is None:
        return
    error = sys.exception()
    subject = event.partition(":")[0]
    if isinstance(error, OmniFundError) and subject in ("token", "sign_in", "sign_out"):
        # A failed refresh need not be the end of the page: the old token may still be valid.
        recorder.failed(error, page=subject != "token")
    elif event is Event.REFRESH_SUCCEEDED:
        recorder.refreshed()
    elif event is Event.REFRESH_SUPERSEDED:
        recorder.superseded()


# --- at the end ------------------------------------------------------------------------------


@harmless
def _finish(_app: Flask, response: Response, **_extra: Any) -> None:
    if request.endpoint == "auth.logout":
        storage.delete_in_browser(response)
    recorder = current()
    if recorder is None or not is_kept():
        return
    error = g.get("handled_error")
    if error is not None and not isinstance(error, HTTPException):
        recorder.failed(error)
    incoming = recorder.incoming
    # Not earlier: reading a form that is too large is an error.
    values = request.values if request.method == "POST" else request.args
    incoming.fields = list(values.items(multi=True))
    recorder.responded(incoming, response.status_code, _headers(response))
    # Whether this request has started a session with new tokens.
    grants = {each.exchange.step for each in recorder.messages} - INCOMING - {"api"}
    signed_in = request.blueprint == "auth" and response.status_code == 303 and bool(grants)
    if incoming.exchange.step == "callback":
        _put_start_first(recorder)
        if response.status_code == 303 and not signed_in:
            incoming.exchange.step = "repeated_callback"
    recording = recorder.finish()
    recording.incoming.headers["Cookie"] = ", ".join(name for name, _ in own_cookies()) or "none"
    _keep(recording, response, signed_in=signed_in)


def _keep(recording: Recording, response: Response, *, signed_in: bool) -> None:
    """Keep the recording in its session; in the browser, where there is no session any more."""
    sid = _session_id(response)
    if recording.problem and (request.blueprint == "auth" or sid is None):
        storage.keep_in_browser(recording, response)
    elif sid is not None:
        if signed_in:
            lesson.offer(response, recording)
        replaced = sessions.current().presented_id() if signed_in else None
        # If Redis has failed in the meantime, the page matters more than its recording.
        with suppress(StoreUnavailable):
            storage.keep(sid, recording, sign_in=signed_in, replaced=replaced)


def _session_id(response: Response) -> str | None:
    """Return the ID of the session that the browser has after ``response``, if it has one."""
    if (cookie := _session_cookie(response)) is not None:
        return cookie.partition("=")[2].partition(";")[0] or None
    # The cookie of a session that has ended stays in the browser: another tab may have replaced it.
    has_ended = isinstance(g.get("handled_error"), ReauthorizationRequired)
    return None if has_ended else sessions.current().presented_id()


def _session_cookie(response: Response) -> str | None:
    name = sessions.current().get_cookie_name(current_app)
    cookies = response.headers.getlist("Set-Cookie")
    return next((cookie for cookie in cookies if cookie.startswith(f"{name}=")), None)


def _headers(response: Response) -> dict[str, str]:
    """Return the response's headers; of its cookies, the session's only."""
    headers = {name: value for name, value in response.headers if name != "Set-Cookie"}
    cookie = _session_cookie(response)
    return headers if cookie is None else {**headers, "Set-Cookie": cookie}


def _put_start_first(recorder: Recorder) -> None:
    """Put ``/login`` and the visit to OmniFund before the callback.

    Neither was recorded: starting a sign-in stores nothing on the server, and what happens at
    OmniFund is not for this app to see. The pending authorization request tells all there is.
    """
    started = pending_request()
    if started is None:
        return
    callback, *others = recorder.messages
    recorder.messages.clear()
    url = omnifund().oauth.authorization_url(started)
    at = round((started.started_at - recorder.at) * 1000, 1)
    functions = (OAuthClient.authorization_url, OmniFund.create_authorization_request, auth.login)
    frames = [Frame.of(function) for function in functions]
    login = recorder.add("login", "GET", "/login", frames, fields=[("next", started.next)])
    recorder.responded(login, 302, {"Location": url})
    login.exchange.started = login.exchange.ended = at
    visit = recorder.add("authorize", "GET", url.partition("?")[0], [], fields=query_of(url))
    visit.response_fields = callback.fields
    visit.exchange.status = 302
    visit.exchange.started, visit.exchange.ended = at, callback.exchange.started
    recorder.messages += [callback, *others]


def pending_request() -> AuthorizationRequest | None:
    """Return this browser's authorization request that the callback belongs to, if there is one."""
    with suppress(InvalidState):
        state = authorization.require_state(authorization.parse_query(request.query_string))
        for name, sealed in request.cookies.items():
            # Which cookie belongs to this state is the one that can be decrypted with it.
            if name.removeprefix("__Host-").startswith("omnifund_attempt_"):
                with suppress(InvalidState):
                    return authorization.require_own_request(sealed, state, omnifund().cipher)
    return None


def keep_for_back(response: Response) -> Response:
    """Let Back show a form's result, where a browser would ask whether to send the form again."""
    if request.method == "POST" and response.status_code == 200:
        response.headers["Cache-Control"] = "private, max-age=600"
    return response
