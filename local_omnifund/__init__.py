"""Local OmniFund: an emulator of OmniFund for development and tests.

A separate application that sends OmniFund's responses, and is strict where OmniFund is lax, so that
an integration that works here also works there (docs/local-omnifund.md).

Start it with `gunicorn "local_omnifund:create_app()"` or `python -m local_omnifund`.
"""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from mimetypes import guess_type
from pathlib import Path

from flask import Flask, Response, abort
from jinja2 import StrictUndefined
from redis.exceptions import RedisError
from werkzeug.security import safe_join

from local_omnifund import api, authorize, errors, fault_pages, login, portal, sessions, token
from local_omnifund.context import EXTENSION, Services
from local_omnifund.data import Books, bank
from local_omnifund.demo import Clients
from local_omnifund.faults import Faults
from local_omnifund.merchants import Merchants
from local_omnifund.oauth import OmniFundServer
from local_omnifund.settings import Settings
from local_omnifund.store import Store, connect

MAX_REQUEST_BYTES = 64 * 1024


def create_app(
    settings: Settings | None = None, *, clock: Callable[[], float] = time.time
) -> Flask:
    """Create the application.

    `settings`: by default those of the environment. `clock` returns Unix seconds; codes and tokens
    expire by it. Raise `SettingsError` if a setting is missing or invalid.
    """
    settings = settings or Settings.from_environment()
    app = Flask(__name__)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_REQUEST_BYTES

    redis = connect(settings.redis_url, settings.redis_password)
    store = Store(redis, clock)
    faults = Faults(redis, on=settings.faults)
    clients = Clients(store, settings)
    merchants = Merchants(settings.merchant_password)
    server = OmniFundServer(store, clients, merchants, faults, pace=settings.fault_pace)
    app.extensions[EXTENSION] = Services(
        settings, store, clients, merchants, faults, server, Books(clock)
    )

    for blueprint in (
        authorize.blueprint,
        token.blueprint,
        api.blueprint,
        login.blueprint,
        portal.blueprint,
        fault_pages.blueprint,
    ):
        app.register_blueprint(blueprint)
    errors.init_app(app)
    sessions.init_app(app)
    _serve_static_files(app)
    _init_templates(app, settings)
    _prepare_demo_client(app, clients)
    return app


def _serve_static_files(app: Flask) -> None:
    def static(filename: str) -> Response:
        # Not Werkzeug's: it raises on some conditions, such as a date whose year has twenty digits,
        # and its server leaves the file open when a browser breaks off.
        path = safe_join(str(app.static_folder), filename)
        if path is None or not os.path.isfile(path):  # noqa: PTH113 - of Path, too long a name raises
            abort(404)
        return Response(Path(path).read_bytes(), mimetype=guess_type(path)[0])

    app.view_functions["static"] = static


def _init_templates(app: Flask, settings: Settings) -> None:
    # Browsers request it for responses that name no icon, such as JSON.
    app.add_url_rule("/favicon.ico", "static", defaults={"filename": "favicon.ico"})
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.globals["csrf_token"] = sessions.csrf_token
    app.jinja_env.globals["faults_on"] = settings.faults
    app.jinja_env.globals["app_url"] = settings.app_url
    app.jinja_env.filters["bank"] = bank
    app.jinja_env.filters["dollars"] = lambda amount: f"${float(amount):,.2f}"
    app.jinja_env.filters["day"] = lambda seconds: datetime.fromtimestamp(seconds, UTC).strftime(
        "%b %d, %Y"
    )


def _prepare_demo_client(app: Flask, clients: Clients) -> None:
    try:
        clients.ensure_demo_client()
    except RedisError:
        # The client is also created on its first use, so Redis may start later.
        app.logger.warning("Redis does not respond yet; the demo client is created on first use.")
