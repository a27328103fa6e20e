"""``/lab``: real-world failures to try out. In ``local`` only; elsewhere these pages do not exist.

Each card enables faults for this visitor at Local OmniFund, leads the visitor into them, and has
the next page say what should have happened. Local OmniFund is reached over HTTP, as any OmniFund.
"""

from __future__ import annotations

import math
import os
import secrets
import textwrap
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import urlencode, urlsplit

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    after_this_request,
    current_app,
    g,
    make_response,
    redirect,
    render_template,
    request,
    request_finished,
    url_for,
)
from flask_wtf.csrf import CSRFError
from werkzeug.wrappers import Response as BaseResponse

from demo import cookies, hooks, inspector, progress, recorder, tracks
from demo.conversation import Source, function_named
from demo.failures import CARDS, FIRST_FIVE, GROUPS, Card, Way, after
from demo.recorder import Frame, harmless
from omnifund.encryption import fingerprint
from omnifund.errors import OmniFundUnavailable, StoreUnavailable, Unavailable
from web import auth, errors, security
from web.current import omnifund, settings, store

blueprint = Blueprint("lab", __name__)

STRIP_SECONDS: Final = 600
"""How long the explanation waits for the page that it belongs to."""

REPLAY_SECONDS: Final = 540
"""How old a sign-in may be whose callback is replayed: it is forgotten after ten minutes."""

PAUSE: Final = b"pause-store\n"
"""What is written to the pipe of the demo's launcher."""

PAUSE_WAIT_SECONDS: Final = 2.0

# The pages with forms, by blueprint.
_FORMS: Final = {
    "lab": "lab.lab",
    "versus": "versus.overview",
    "step_through": "step_through.start",
}
_COOKIE: Final = "omnifund_lab"
_RETURNED: Final = "omnifund_returned"
_MAX_RESPONSE_BYTES: Final = 16 * 1024


def init_app(app: Flask) -> None:
    """Offer the lab."""
    app.register_blueprint(blueprint)
    app.register_error_handler(CSRFError, _form_without_session)
    app.extensions["navigation"].append(("lab.lab", "Lab", ("lab", "versus")))
    app.context_processor(lambda: _explanation() or {"lab_card": None})
    app.context_processor(lambda: _way_back() or {"lab_back": None})
    request_finished.connect(_follow, app)
    request_finished.connect(_remember_return, app)


def _form_without_session(error: CSRFError) -> BaseResponse:
    """Lead a visitor whose session is gone from a form to the sign-in, and back to its page.

    The form has a token that cannot be checked any more, and has done nothing.
    """
    back = _FORMS.get(request.blueprint or "")
    was_ours = back is not None and "csrf_token" in request.form
    if not was_ours or auth.store_failure() is not None or auth.connection() is not None:
        return errors.http_error(error)
    return auth.to_sign_in(url_for(str(back)))


@blueprint.before_request
def require_fault_switches() -> None:
    """Return 404 where OmniFund has no fault switches: another server on this machine has none."""
    if not current_app.extensions.get("fault_switches"):
        try:
            response = omnifund().http.send(
                "GET", "/faults.json", headers={}, max_bytes=_MAX_RESPONSE_BYTES
            )
        except Unavailable:
            return  # Local OmniFund is not there now, which the card's page will say.
        if response.status != 200:
            abort(404)
        current_app.extensions["fault_switches"] = True


@blueprint.get("/lab")
def lab() -> BaseResponse | str:
    """Every failure as a row of a checklist."""
    return _page("lab.html", groups=GROUPS, cards=CARDS, first_five=FIRST_FIVE)


@blueprint.get("/lab/<card_id>")
def show(card_id: str) -> BaseResponse | str:
    """One card, with the test that proves it."""
    card = CARDS.get(card_id) or abort(404)
    following = after(card, {*progress.load(), card.id})
    return _page("lab_card.html", card=card, next_card=following, source=proof_source(card.proof))


def _page(template: str, **values: object) -> BaseResponse | str:
    if (origin := auth.origin_to_move_to()) is not None:
        return redirect(f"{origin}{request.path}?{auth.MOVED}=1")
    g.lab_explained = True
    let_forms_lead_to_omnifund()
    runs, recordings = progress.load(), _recordings()
    return render_template(
        template,
        connected=auth.connection() is not None,
        runs=runs,
        recorded={recording.id for recording in recordings},
        has_tracks=_has_tracks(runs, recordings),
        cost=_cost,
        can_pause_store=settings().demo_control is not None,
        **values,
    )


def let_forms_lead_to_omnifund() -> None:
    """Let the forms of the page that is being made redirect to OmniFund.

    Browsers apply ``form-action`` to the redirect after a form too.
    """
    origin = urlsplit(settings().omnifund_base_url)._replace(path="").geturl()
    own, wider = "form-action 'self'", f"form-action 'self' {origin}"

    @after_this_request
    def widen(response: Response) -> Response:
        policy = security.CONTENT_SECURITY_POLICY.replace(own, wider)
        response.headers["Content-Security-Policy"] = policy
        return response


def _cost(card: Card) -> str:
    """Return what running ``card`` costs, with this app's own timeouts."""
    total = omnifund().http.total_timeout
    return card.cost.format(
        read_timeout=f"{settings().omnifund_read_timeout:g}", total_timeout=f"{total:g}"
    )


def _has_tracks(runs: Mapping[str, progress.Run], recordings: Sequence[recorder.Recording]) -> bool:
    """Whether the latest race of five tabs can still be drawn."""
    run = runs.get("five_tabs")
    return run is not None and bool(tracks.of_race(recordings, run.at))


def _recordings() -> list[recorder.Recording]:
    """Return what this visitor can still read in the inspector."""
    return (inspector.visitors_recordings() or []) if settings().flow_inspector else []


@blueprint.get("/lab/five-tabs")
@auth.signed_in_only
def five_tabs(_connection: auth.Connection) -> BaseResponse:
    """Five requests at the same time, sent by a script or opened by hand, and drawn afterwards.

    ``since``: when their race began, in Unix seconds; without it there was none.
    """
    card = CARDS["five_tabs"]
    since = request.args.get("since", 0.0, type=float)
    since = since if 0 < since < math.inf else 0.0
    found = tracks.of_race(_recordings(), since) if since else []
    is_over = len(found) == len(tracks.TABS)
    page = render_template(
        "lab_tabs.html",
        card=card,
        tabs=tracks.TABS,
        race=tracks.draw(found),
        height=tracks.height(len(tracks.TABS)),
        since=since,
        is_waiting=not is_over and 0 <= omnifund().clock() - since < tracks.RACE_SECONDS,
        connected=True,
        can_pause_store=False,
    )
    response = make_response(page)
    if is_over:
        progress.keep(response, progress.Run.of_many(card, found))
    return response


@blueprint.post("/lab/<card_id>")
def run(card_id: str) -> BaseResponse:
    """Cause the failure, and lead the visitor into it."""
    card = CARDS.get(card_id) or abort(404)
    state = ""
    if card.way in (Way.SIGN_IN, Way.FORGED):
        started = omnifund().create_authorization_request(request.cookies)
        state, url = started.request.state, started.url
        if card.way is Way.FORGED:
            state = secrets.token_urlsafe(32)
            forged = urlencode({"code": "a-code-of-another-person", "state": state})
            url = f"{url_for('auth.callback')}?{forged}"
        else:
            _enable(card.faults, scope="state", state=state)
        response = auth.with_cookies(redirect(url), started)
    else:
        connection = auth.connection()
        if connection is None:
            return auth.to_sign_in()
        if card.way is Way.REPLAYED and not _can_be_replayed(connection):
            return auth.start(url_for("lab.replay"))
        response = _run(card, connection)
    leads_to = f"..{fingerprint(state)}" if state else ""
    cookies.write(response, _COOKIE, card.id + leads_to, max_age=STRIP_SECONDS)
    return response


@blueprint.get("/lab/callback_replayed/again")
def replay() -> BaseResponse:
    """Return from OmniFund once more, with the latest callback."""
    response = redirect(settings().omnifund_base_url + "/faults/last-callback")
    cookies.write(response, _COOKIE, "callback_replayed", max_age=STRIP_SECONDS)
    return response


def _can_be_replayed(connection: auth.Connection) -> bool:
    """Whether the latest callback of this browser signed its merchant in, some minutes ago."""
    is_young = omnifund().clock() - connection.signed_in_at < REPLAY_SECONDS
    # The callback of a step-through came later.
    return is_young and bool(cookies.read(_RETURNED)) and not cookies.read("omnifund_step")


def _run(card: Card, connection: auth.Connection) -> BaseResponse:
    if card.way is Way.REPLAYED:
        return replay()
    if card.way is Way.STORE:
        _pause_store()
        return redirect(url_for("pages.dashboard"), code=303)
    # After an hour in the lab the access token has expired, and OmniFund may have deleted it.
    access_token = omnifund().valid_token(connection.id, connection.stored).token.access_token
    # A refresh of another tab may replace this access token meanwhile: no other may expire.
    expiring = [fault for fault in card.faults if fault == "access_token_expired"]
    others = [fault for fault in card.faults if fault not in expiring]
    _enable(others, access_token, scope="bearer")
    _enable(expiring, access_token, scope="token")
    if card.way is Way.TABS:
        _expire(access_token)
        began = f"{omnifund().clock():.3f}"
        return redirect(url_for("lab.five_tabs", since=began), code=303)
    return redirect(url_for("pages.customers"), code=303)


def _enable(faults: Sequence[str], access_token: str = "", /, **scope: str) -> None:
    """Enable these faults at Local OmniFund, in one scope only, and disable all others there."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if access_token:
        headers["Authorization"] = f"Bearer {access_token}"
    body = urlencode({"id": faults, **scope}, doseq=True)
    response = omnifund().http.send(
        "PUT", "/faults", headers=headers, body=body, max_bytes=_MAX_RESPONSE_BYTES
    )
    if response.status != 204:
        raise OmniFundUnavailable("this OmniFund cannot enable that fault")


def _expire(access_token: str) -> None:
    """Have the fault take effect now: of five tabs some would be quicker than the first one's."""
    headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/json"}
    omnifund().http.send("GET", "/api/customers", headers=headers, max_bytes=_MAX_RESPONSE_BYTES)


def _pause_store() -> None:
    """Have the launcher of the demo stop Redis for some seconds."""
    try:
        # Without a reader at the other end this fails, instead of waiting for one.
        pipe = os.open(settings().demo_control or abort(404), os.O_WRONLY | os.O_NONBLOCK)
        with os.fdopen(pipe, "wb") as control:
            control.write(PAUSE)
    except OSError:
        # The launcher has ended, and left its pipe or not even that.
        abort(404)
    # Not before Redis has stopped: the next page might be quicker than the launcher.
    deadline = time.monotonic() + PAUSE_WAIT_SECONDS
    with suppress(StoreUnavailable):
        while time.monotonic() < deadline:
            store().execute(("PING",))


# --- the explanation on the page that follows -------------------------------------------------


@harmless
def _explanation() -> dict[str, object] | None:
    """Return the card that led to this page, once, and the ID of the recording that shows it."""
    card, recording_id = _last_run()
    # A page of /login only leads on to OmniFund: the card's page is the one after the sign-in.
    if card is None or request.endpoint == "auth.login" or g.get("lab_explained"):
        return None
    g.lab_explained = g.lab_told = True
    seen = {*progress.load(), card.id}
    return {
        "lab_card": card,
        "lab_shown": recording_id or g.request_id,
        "next_card": after(card, seen),
    }


@harmless
def _way_back() -> dict[str, object] | None:
    """Return the card that the recording in the inspector belongs to, and the next one."""
    shown = request.args.get("show")
    if request.endpoint != "inspector.inspector" or not shown:
        return None
    runs = progress.load()
    run = next((run for run in runs.values() if run.recording == shown), None)
    if run is None:
        return None
    return {"lab_back": CARDS[run.card], "next_card": after(CARDS[run.card], runs)}


@harmless
def _follow(_app: Flask, response: BaseResponse, **_extra: object) -> None:
    """Forget a card that has been explained; otherwise remember its recording. Mark it as seen.

    What a card leads to may be over before there is a page: the page that follows then belongs to
    another recording.
    """
    card, recording_id = _last_run()
    if card is None:
        return
    if not recording_id and _has_happened(card):
        run = progress.Run.of(card, recorder.current(), g.request_id, response.status_code)
        progress.keep(response, run)
    if g.get("lab_explained"):
        cookies.delete(response, _COOKIE)
    elif not recording_id and hooks.is_kept():
        cookies.write(response, _COOKIE, f"{card.id}.{g.request_id}", max_age=STRIP_SECONDS)


@harmless
def _remember_return(_app: Flask, response: BaseResponse, **_extra: object) -> None:
    """Remember whether the latest sign-in of this browser came with a callback."""
    if response.status_code != 303:
        return
    if request.endpoint == "auth.callback":
        cookies.write(response, _RETURNED, "yes", max_age=REPLAY_SECONDS)
    elif request.endpoint == "auth.password":
        cookies.delete(response, _RETURNED)


def _has_happened(card: Card) -> bool:
    """Whether this request is the one that ``card`` led to, as far as this app can know."""
    if card.way is Way.TABS:
        return False  # Five requests, which its page adds up.
    if card.way is Way.STORE:
        return auth.store_failure() is not None
    # Without the inspector nothing is recorded: being told about the card has to do.
    return hooks.is_kept() if settings().flow_inspector else bool(g.get("lab_told"))


def _last_run() -> tuple[Card | None, str]:
    """Return the card that led to this request, and the ID of the recording that shows it, if any.

    A sign-in of a card's leads to its own callback only: the visitor may begin another meanwhile.
    """
    card_id, recording_id, state = f"{cookies.read(_COOKIE)}..".split(".")[:3]
    if state and state != fingerprint(request.args.get("state", "")):
        return None, ""
    return CARDS.get(card_id), recording_id


def led_here() -> bool:
    """Whether a card led to this callback."""
    return _last_run()[0] is not None


# --- the proof ---------------------------------------------------------------------------------


def proof_source(proof: str) -> Source | None:
    """Return the test that ``proof`` names, from the files beside this app, if they are there."""
    file, name = proof.split("::")
    path = recorder.ROOT / file
    if not path.is_file():
        return None
    text = path.read_text()
    test = function_named(text, name)
    first = min([test.lineno, *(decorator.lineno for decorator in test.decorator_list)])
    lines = textwrap.dedent("\n".join(text.splitlines()[first - 1 : test.end_lineno]))
    return Source(Frame(file, test.lineno, name), tuple(enumerate(lines.splitlines(), first)))
