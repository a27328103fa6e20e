"""What the page after a sign-in says about it: how many messages it took, where to read them."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from flask import Flask, g, request
from werkzeug.wrappers import Response

from demo import cookies
from demo.conversation import STEPS
from demo.recorder import Recording, harmless

_COOKIE: Final = "omnifund_lesson"
_SECONDS: Final = 60
_VALUE: Final = re.compile(r"([\w-]{8,64})\.(\d{1,2})\.(\d{1,2})")


class Lesson(NamedTuple):
    """A sign-in that has just happened.

    ``id``: its recording. ``messages``: requests and responses, ``seen`` of them by the browser.
    """

    id: str
    messages: int
    seen: int


def init_app(app: Flask) -> None:
    """Have the page after a sign-in offer its recording, once."""
    app.context_processor(lambda: {"lesson": _current()})
    app.after_request(_forget)


def offer(response: Response, recording: Recording) -> None:
    """Tell the next page of a sign-in."""
    steps = [STEPS[each.step] for each in recording.exchanges]
    seen = sum("browser" in (step.sender, step.receiver) for step in steps)
    value = f"{recording.id}.{2 * len(steps)}.{2 * seen}"
    cookies.write(response, _COOKIE, value, max_age=_SECONDS)


@harmless
def _current() -> Lesson | None:
    found = _VALUE.fullmatch(cookies.read(_COOKIE))
    # An error page is no place for a lesson, and may have to leave the cookies alone.
    if found is None or request.method != "GET" or "handled_error" in g:
        return None
    g.lesson_told = True
    if request.endpoint == "inspector.inspector":
        return None
    return Lesson(found[1], int(found[2]), int(found[3]))


def _forget(response: Response) -> Response:
    if g.get("lesson_told"):
        cookies.delete(response, _COOKIE)
    return response
