"""The parts that teach: the inspector, which shows every OAuth message, and the failure lab.

The app is complete without this package, and ``app.py`` imports it only where one of them is on.
``web/`` and ``omnifund/`` know nothing of it: it sees the messages because it sends them
(``RecordingHTTPClient``), the outcome through the package's events (``observing``) and Flask's
hooks, and the checks in the code itself (``rules``).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from flask import Blueprint, Flask

from config import Settings
from demo import inspector, lab, rules, step_through
from demo.conversation import marks
from demo.hooks import observing
from demo.recorder import RecordingHTTPClient

__all__ = ["RecordingHTTPClient", "init_app", "observing"]

SLOTS: Final = frozenset({"above_page", "error_details", "landing", "landing_links"})
"""Places in the app's templates that ``templates/slots`` fills."""

_blueprint = Blueprint(
    "demo",
    __name__,
    template_folder="templates",
    static_folder="static",
    static_url_path="/static/demo",
)


def init_app(app: Flask, settings: Settings) -> None:
    """Add the inspector where ``FLOW_INSPECTOR`` is on, and the lab where OmniFund has faults."""
    app.register_blueprint(_blueprint)
    has_lab = settings.has_local_omnifund and settings.local_omnifund_faults
    app.jinja_env.globals.update(
        slots=SLOTS, has_inspector=settings.flow_inspector, has_lab=has_lab
    )
    app.jinja_env.filters.update(references=rules.references, marks=marks)
    if settings.flow_inspector:
        inspector.init_app(app)
    if has_lab:
        lab.init_app(app)
        step_through.init_app(app)
    # The naive client's library is no part of what serves merchants (requirements-demo.txt).
    has_naive_client = has_lab and find_spec("requests") is not None
    app.jinja_env.globals.update(has_naive_client=has_naive_client, compared={})
    if has_naive_client:
        from demo import versus

        versus.init_app(app)
