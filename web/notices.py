"""One-time notices: a word in a short-lived cookie, shown on the next page as a fixed text.

The word only chooses among these texts, so a forged cookie can say nothing of its own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from flask import Flask, Response, g, request
from werkzeug.wrappers import Response as BaseResponse

from web.cookies import cookie_name, delete_cookie, set_cookie
from web.integration import integration

NOTICE_SECONDS: Final = 600


class Notice(NamedTuple):
    """What a person is told once."""

    title: str
    text: str
    is_good: bool = True


NOTICES: Final = {
    "signed_out": Notice(
        "You are signed out", "Your session has ended, and its tokens were deleted."
    ),
    "refreshed": Notice("Tokens refreshed", "OmniFund issued new tokens."),
    "connection_ended": Notice(
        "You had to sign in again",
        "OmniFund no longer accepted your previous connection, so this app removed it.",
        is_good=False,
    ),
}


def init_app(app: Flask) -> None:
    """Show a notice on whatever page comes next, and forget it then."""
    app.jinja_env.globals["take_notice"] = take
    app.after_request(_forget_shown)


def notify(response: BaseResponse, word: str) -> None:
    """Have the notice ``word`` shown on the next page that this browser sees."""
    settings = integration().settings
    set_cookie(response, settings, _cookie(), word, max_age=NOTICE_SECONDS)


def take() -> Notice | None:
    """Return the notice to show on this page, if any."""
    notice = NOTICES.get(request.cookies.get(_cookie(), ""))
    if notice is not None:
        g.notice_shown = True
    return notice


def _forget_shown(response: Response) -> Response:
    if g.get("notice_shown"):
        delete_cookie(response, integration().settings, _cookie())
    return response


def _cookie() -> str:
    return cookie_name(integration().settings, "omnifund_notice")
