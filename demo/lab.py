"""``/lab``: make it fail. In ``local`` only; elsewhere these addresses do not exist.

Each card arms a fault for this visitor at Local OmniFund, does what runs into it, and has the next
page say what was meant to happen. Local OmniFund is spoken to over HTTP, as any OmniFund is.
"""

from __future__ import annotations

import ast
import os
import secrets
import textwrap
import time
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from flask import Blueprint, Flask, Response, abort, g, redirect, render_template, request, url_for
from omnifund.trace import Frame
from web.conversation import Source
from web.cookies import cookie_name, delete_cookie, set_cookie
from web.failures import CARDS, GROUPS, Card, Way
from web.integration import integration
from werkzeug.wrappers import Response as BaseResponse

from config import Settings
from omnifund import trace
from omnifund.errors import OmniFundUnavailable, StoreUnavailable
from web import security, sign_in, visitor

blueprint = Blueprint("lab", __name__)

STRIP_SECONDS: Final = 600
"""How long the explanation waits for the page that it belongs to."""

PAUSE: Final = b"pause-store\n"
"""What the launcher of the demo is told."""

PAUSE_WAIT_SECONDS: Final = 2.0

_MAX_ANSWER_BYTES: Final = 16 * 1024


def init_app(app: Flask, settings: Settings) -> None:
    """Offer the lab, where failures are welcome."""
    if settings.omnifund_environment != "local":
        return
    app.register_blueprint(blueprint)
    app.context_processor(_explanation)
    app.after_request(_follow)


@blueprint.get("/lab")
def lab() -> BaseResponse | str:
    """Every failure as a card. ``ran`` and ``show``: which one has just run, and its recording."""
    return _page(
        "lab.html",
        groups=GROUPS,
        ran=request.args.get("ran", ""),
        recording_id=request.args.get("show", ""),
    )


@blueprint.get("/lab/<card_id>")
def show(card_id: str) -> BaseResponse | str:
    """One card, with the test that proves it."""
    card = CARDS.get(card_id) or abort(404)
    return _page("lab_card.html", card=card, source=proof_source(card.proof))


def _page(template: str, **values: object) -> BaseResponse | str:
    if (origin := sign_in.origin_to_move_to()) is not None:
        return redirect(f"{origin}{request.path}?{sign_in.MOVED}=1")
    g.lab_explained = True
    # Browsers apply form-action to the redirect after a form too, and some cards lead to OmniFund.
    security.allow_form_action(_origin(integration().settings.omnifund_base_url))
    return render_template(
        template,
        connected=visitor.connection() is not None,
        can_pause_store=integration().settings.demo_control is not None,
        **values,
    )


@blueprint.get("/lab/five-tabs")
@visitor.signed_in_only
def five_tabs(_connection: visitor.Connection) -> str:
    """Five requests at once, counted by a script, or by hand in five tabs."""
    return render_template("lab_tabs.html", card=CARDS["five_tabs"])


@blueprint.post("/lab/<card_id>")
def run(card_id: str) -> BaseResponse:
    """Bring the failure about, and lead the visitor into it."""
    card = CARDS.get(card_id) or abort(404)
    response = _run(card)
    set_cookie(response, integration().settings, _cookie(), card.id, max_age=STRIP_SECONDS)
    return response


def _run(card: Card) -> BaseResponse:
    if card.way is Way.SIGN_IN:
        attempt, response = sign_in.start()
        _arm(card, scope="state", state=attempt.state)
        return response
    if card.way is Way.FORGED:
        _attempt, response = sign_in.start()
        forged = urlencode({"code": "a-code-of-somebody-else", "state": secrets.token_urlsafe(32)})
        response.headers["Location"] = f"{url_for('sign_in.callback')}?{forged}"
        return response
    connection = visitor.connection()
    if connection is None:
        return visitor.to_sign_in()
    if card.way is Way.REPLAYED:
        return redirect(integration().settings.omnifund_base_url + "/faults/last-callback")
    if card.way is Way.STORE:
        _pause_store()
        return redirect(url_for("pages.dashboard"), code=303)
    _arm(card, scope="bearer", bearer=connection.record.token.access_token)
    target = "lab.five_tabs" if card.way is Way.TABS else "pages.customers"
    return redirect(url_for(target), code=303)


def _arm(card: Card, *, scope: str, state: str = "", bearer: str = "") -> None:
    """Switch the card's faults on at Local OmniFund, for this sign-in or this connection."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    for fault in card.faults:
        answer = integration().transport.send(
            "POST",
            "/faults",
            headers=headers,
            body=urlencode({"id": fault, "scope": scope, **({"state": state} if state else {})}),
            max_bytes=_MAX_ANSWER_BYTES,
        )
        if answer.status != 201:
            raise OmniFundUnavailable("this OmniFund cannot enable that fault")


def _pause_store() -> None:
    """Ask the launcher of the demo to stop Redis for some seconds."""
    control = integration().settings.demo_control
    try:
        _tell(control or abort(404), PAUSE)
    except OSError:
        # The launcher has gone, and left its pipe or not even that.
        abort(404)
    # Not before it stands still: the next page might be quicker than the launcher.
    give_up_at = time.monotonic() + PAUSE_WAIT_SECONDS
    with suppress(StoreUnavailable):
        while time.monotonic() < give_up_at:
            integration().store.execute(("PING",))


def _tell(control: Path, word: bytes) -> None:
    # Without anybody at the other end this fails at once, instead of waiting for a reader.
    pipe = os.open(control, os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(pipe, word)
    finally:
        os.close(pipe)


# --- the explanation on the page that follows -------------------------------------------------


def _explanation() -> dict[str, object]:
    """Return the card that led to this page, once, and which recording tells what happened."""
    card, recording_id = _pressed()
    if card is None or g.get("lab_explained"):
        return {"lab_card": None}
    g.lab_explained = True
    return {"lab_card": card, "lab_shown": recording_id or g.request_id}


def _follow(response: Response) -> Response:
    """Forget a card that has been explained; otherwise remember where its story was told.

    What a card leads to may be over before there is a page: the page that follows then belongs to
    another conversation.
    """
    card, recording_id = _pressed()
    if card is None:
        return response
    settings, made = integration().settings, trace.current()
    if g.get("lab_explained"):
        delete_cookie(response, settings, _cookie())
    elif made is not None and not recording_id:
        set_cookie(response, settings, _cookie(), f"{card.id}.{made.id}", max_age=STRIP_SECONDS)
    return response


def _pressed() -> tuple[Card | None, str]:
    card_id, _, recording_id = request.cookies.get(_cookie(), "").partition(".")
    return CARDS.get(card_id), recording_id


def _cookie() -> str:
    return cookie_name(integration().settings, "omnifund_lab")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


# --- the proof ---------------------------------------------------------------------------------


def proof_source(proof: str) -> Source | None:
    """Return the test that ``proof`` names, from the files beside this app, if they are there."""
    file, name = proof.split("::")
    path = trace.ROOT / file
    if not path.is_file():
        return None
    text = path.read_text()
    found = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))
    test = next(node for node in found if node.name == name)
    first = min([test.lineno, *(decorator.lineno for decorator in test.decorator_list)])
    lines = textwrap.dedent("\n".join(text.splitlines()[first - 1 : test.end_lineno]))
    return Source(Frame(file, test.lineno, name), tuple(enumerate(lines.splitlines(), first)))
