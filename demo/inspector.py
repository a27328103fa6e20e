"""``/inspector``: the OAuth messages of the visitor's own session, as a picture and in words."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Flask, g, jsonify, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from demo import hooks, lesson, sample, storage
from demo.conversation import SIGN_INS, as_json, lay_out, listed
from demo.recorder import Recording
from omnifund.encryption import fingerprint
from omnifund.token_store import RedisTokenStore
from web import auth, sessions
from web.current import omnifund, settings, store

_NO_SUCH_KEY: Final = -2  # as Redis's TTL says it
_SECTION: Final = ("inspector", "step_through")
"""The blueprints that belong to the inspector."""

blueprint = Blueprint("inspector", __name__)


def init_app(app: Flask) -> None:
    """Record what the app sends OmniFund, and show it."""
    app.register_blueprint(blueprint)
    app.extensions["navigation"].append(("inspector.inspector", "Inspector", _SECTION))
    app.extensions["redis_rights"] += storage.RIGHTS
    app.context_processor(lambda: {"recording_id": g.request_id if hooks.is_kept() else None})
    app.context_processor(lambda: {} if auth.is_signed_in() else _for_strangers(app))
    hooks.init_app(app)
    lesson.init_app(app)


def _for_strangers(app: Flask) -> dict[str, Any]:
    """Return the navigation of those who have nothing to inspect yet."""
    own, example = "inspector.inspector", ("inspector.example", "Inspector", _SECTION)
    listed = app.extensions["navigation"]
    return {"navigation": [example if each[0] == own else each for each in listed]}


# --- the page ----------------------------------------------------------------------------------


@blueprint.get("/inspector")
def inspector() -> BaseResponse | str:
    """The messages, what was checked, and the code that ran."""
    recordings = visitors_recordings()
    if recordings is None:
        return auth.to_sign_in()
    chosen = next((each for each in recordings if each.id == request.args.get("show")), None)
    # Without a choice, what there is to learn from: the latest sign-in.
    sign_ins = [each for each in recordings if each.incoming.step in SIGN_INS]
    chosen = chosen or next(iter([*sign_ins, *recordings]), None)
    return _page(chosen, recordings, browser=_browser_holds(), store=_store_holds())


@blueprint.get("/inspector/example")
def example() -> str:
    """A recorded sign-in, for those who have none of their own yet."""
    return _page(sample.load(), [], is_example=True)


def _page(chosen: Recording | None, recordings: list[Recording], **values: object) -> str:
    now = omnifund().clock()
    return render_template(
        "inspector.html",
        groups=listed(recordings, now),
        chosen=lay_out(chosen) if chosen else None,
        is_sign_in=chosen and chosen.incoming.step == "callback" and not chosen.problem,
        age=now - chosen.at if chosen else 0,
        **{"is_example": False, **values},
    )


@blueprint.get("/inspector/recordings.json")
def download() -> BaseResponse:
    """The same as a file, for instance for a support ticket."""
    recordings = visitors_recordings()
    if recordings is None:
        return auth.to_sign_in()
    response = jsonify(
        about="OAuth messages as this app saw them; secrets are replaced by short hashes",
        environment=settings().omnifund_environment,
        recordings=[as_json(each) for each in recordings],
    )
    response.headers["Content-Disposition"] = "attachment; filename=omnifund-conversations.json"
    return response


def visitors_recordings() -> list[Recording] | None:
    """Return what this visitor may see, the latest first; ``None``: they must sign in first."""
    connection, failed = auth.connection(), storage.failed_sign_in()
    if connection is None and failed is None:
        return None
    found = storage.load(connection.id) if connection else []
    return sorted([*found, *([failed] if failed else [])], key=lambda each: -each.at)


# --- where data is stored ------------------------------------------------------------------------


def _browser_holds() -> list[dict[str, Any]]:
    secure = ["Secure"] if omnifund().secure_cookies else []
    return [
        {
            "name": name,
            "bytes": len(name) + len(request.cookies[name]) + 1,
            "flags": ", ".join(["HttpOnly", "SameSite=Lax", "Path=/", *secure]),
            "meaning": meaning,
        }
        for name, meaning in hooks.own_cookies()
    ]


def _store_holds() -> list[dict[str, Any]]:
    connection = auth.connection()
    if connection is None:
        return []
    names = {
        sessions.current().key(connection.id): "when you signed in; encrypted",
        RedisTokenStore.key(connection.id): "the tokens; encrypted",
        storage.key(fingerprint(connection.id)): "these recordings; masked, encrypted",
    }
    lifetimes = store().execute(*(("TTL", name) for name in names))
    # Not every Redis and not every user of it has this command: then there is an error for a size.
    sizes = store().attempt(*(("MEMORY", "USAGE", name) for name in names))
    return [
        {"name": name, "bytes": size, "seconds": seconds, "meaning": meaning}
        for (name, meaning), size, seconds in zip(names.items(), sizes, lifetimes, strict=True)
        if seconds != _NO_SUCH_KEY
    ]
