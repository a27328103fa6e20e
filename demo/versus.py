"""``/lab/naive``: the same failures through this app and through a careless client, side by side.

Only ``demo.init_app`` imports it, in ``local``, where the naive client's library is installed. The
naive client runs in this process and has no address: the lab plays the browser for both clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from flask import Blueprint, Flask, abort, current_app, got_request_exception, render_template

from demo import conversation, hooks, lab, recorder, scenarios, storage, wire
from demo.conversation import Source, function_named
from demo.recorder import Frame
from demo.scenarios import OmniFundSide, Play, Verdict
from demo.wire import Said
from omnifund.encryption import fingerprint
from omnifund.errors import StoreUnavailable
from web import auth, sessions
from web.current import omnifund, settings

blueprint = Blueprint("versus", __name__)
blueprint.before_request(lab.require_fault_switches)
blueprint.after_request(hooks.keep_for_back)

NAIVE_FILE: Final = "demo/naive_client.py"
LANES: Final = {"browser": 46, "client": 190, "omnifund": 334}
ROW: Final = 40


class Fault(msgspec.Struct, frozen=True):
    """A failure; ``naive`` and ``ours`` say which lines decide (``versus.toml``).

    ``card``: the lab's card about the same failure, if there is one.
    """

    id: str
    title: str
    story: str
    lesson: str
    naive: tuple[str, str]
    ours: tuple[str, str, str]
    card: str = ""
    cost: str = ""


class Arrow(NamedTuple):
    """A message in a picture; ``differs``: the other client has no such message."""

    said: Said
    y: int
    differs: bool

    @property
    def label(self) -> str:
        """What is written above the arrow."""
        return self.said.label if self.said.times == 1 else f"{self.said.times} × {self.said.label}"

    @property
    def ends(self) -> tuple[int, int]:
        """Where it begins and where it points to."""
        return LANES[self.said.sender], LANES[self.said.receiver]


class Side(NamedTuple):
    """One client's half of the page."""

    name: str
    verdict: Verdict
    arrows: list[Arrow]
    height: int
    source: Source


_TEXTS: Final = Path(__file__).with_suffix(".toml").read_bytes()
FAULTS: Final = {
    fault.id: fault for fault in msgspec.toml.decode(_TEXTS, type=dict[str, list[Fault]])["faults"]
}


def init_app(app: Flask) -> None:
    """Add the pages."""
    app.jinja_env.globals["compared"] = {fault.card: fault.id for fault in FAULTS.values()}
    app.register_blueprint(blueprint)


@blueprint.get("/lab/naive")
def overview() -> str:
    """The failures, each with a button."""
    return render_template(
        "versus.html", faults=FAULTS.values(), connected=auth.connection() is not None
    )


@blueprint.post("/lab/naive/<fault_id>")
@auth.signed_in_only
def compare(connection: auth.Connection, fault_id: str) -> str:
    """Send both clients through a failure, and show what each did."""
    fault = FAULTS.get(fault_id) or abort(404)
    stored = omnifund().valid_token(connection.id, connection.stored)
    server = OmniFundSide(omnifund().http, stored.token.access_token)
    naive, ours = _play_both(fault, server)
    naive_file, ours_file = (NAIVE_FILE, *fault.naive), fault.ours
    same = _same(naive.said, ours.said)
    sides = [
        _side("A naive client", naive, {pair[0] for pair in same}, naive_file),
        _side("This app", ours, {pair[1] for pair in same}, ours_file),
    ]
    following = [*FAULTS.values()]
    index = following.index(fault) + 1
    return render_template(
        "versus_result.html",
        fault=fault,
        sides=sides,
        lanes=LANES,
        following=following[index % len(following)],
    )


# --- both clients --------------------------------------------------------------------------------


def _play_both(fault: Fault, server: OmniFundSide) -> tuple[Verdict, Verdict]:
    scenario = scenarios.SCENARIOS[fault.id]
    base_url = settings().omnifund_redirect_uri.removesuffix("callback")
    app: Any = current_app
    plays = [
        Play(_naive_client(), base_url, server),
        Play(app._get_current_object(), base_url, server),
    ]
    problems: list[str] = []

    def note(_naive: Flask, exception: Exception, **_extra: Any) -> None:
        problems.append(_in_words(exception))

    with got_request_exception.connected_to(note, plays[0].app), ThreadPoolExecutor(2) as pool:
        naive, ours = pool.map(scenario, plays)
    # Fewer requests than there might have been: the page of the faults would list the rest.
    for state in plays[0].states + plays[1].states:
        server.disarm(state)
    _sign_out(plays[1])
    return naive._replace(problem=problems[-1] if problems else ""), ours


def _naive_client() -> Flask:
    """Return the naive client. It is made when it is first needed, as its libraries load slowly."""
    if "naive_client" not in current_app.extensions:
        from demo import tapped

        current_app.extensions["naive_client"] = tapped.create(settings())
    naive: Flask = current_app.extensions["naive_client"]
    return naive


def _in_words(exception: Exception) -> str:
    # The message of an error may contain anything; OAuth's error codes are known words.
    code = getattr(exception, "error", None)
    name = type(exception).__name__
    return f"{name}: {code}" if code in wire.ERRORS else name


def _sign_out(play: Play) -> None:
    """End the app's sessions that the played browsers have begun."""
    name = sessions.current().get_cookie_name(current_app)
    for browser in play.browsers:
        if sid := browser.cookies.get(name):
            with suppress(StoreUnavailable):  # They end by themselves, as all do.
                sessions.current().delete(sid)
                storage.delete(fingerprint(sid))


# --- the page ------------------------------------------------------------------------------------


def _same(naive: Sequence[Said], ours: Sequence[Said]) -> list[tuple[int, int]]:
    """Return the pairs of messages that both clients have in common, by their positions."""

    def keys(said: Sequence[Said]) -> list[tuple[str, str, str, int]]:
        return [(each.sender, each.receiver, each.key, each.times) for each in said]

    blocks = SequenceMatcher(a=keys(naive), b=keys(ours), autojunk=False).get_matching_blocks()
    return [(block.a + i, block.b + i) for block in blocks for i in range(block.size)]


def _side(name: str, verdict: Verdict, same: set[int], place: tuple[str, str, str]) -> Side:
    arrows = [
        Arrow(said, 74 + ROW * number, number not in same)
        for number, said in enumerate(verdict.said)
    ]
    return Side(name, verdict, arrows, 66 + ROW * len(arrows), function_source(*place))


def function_source(file: str, name: str, marked: str) -> Source:
    """Return what is around the line of the function ``name`` that contains ``marked``."""
    text = (recorder.ROOT / file).read_text("utf-8")
    numbers = conversation.lines_of_function(text, function_named(text, name).lineno)
    lines = text.splitlines()
    place = next(number for number in numbers if marked in lines[number - 1])
    return conversation.source(Frame(file, place, name))
