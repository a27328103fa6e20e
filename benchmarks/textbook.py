"""The textbook peer: the same libraries, put together as their documentation shows.

Flask, Authlib's Flask client and Flask-Session with Redis. It is here to be measured, not to be
copied: it keeps the token in the session in clear, and refreshes without a lock.
"""

from __future__ import annotations

import os
from typing import Any

from authlib.integrations.flask_client import OAuth
from flask import Flask, redirect, render_template_string, session, url_for
from flask_session import Session
from redis import Redis
from werkzeug.wrappers import Response

PAGE = """<!doctype html>
<title>{{ title }}</title>
<h1>{{ title }}</h1>
<nav><a href="{{ url_for('dashboard') }}">Dashboard</a> <a href="{{ url_for('customers') }}">Customers</a></nav>
<ul>{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul>
"""


def create_app() -> Flask:
    """Make the app from the environment that the benchmark gives it."""
    provider = os.environ["OMNIFUND_BASE_URL"]
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=os.environ["SECRET_KEY"],
        SESSION_TYPE="redis",
        SESSION_REDIS=Redis.from_url(os.environ["REDIS_URL"]),
    )
    Session(app)

    def fetch_token(name: str) -> Any:
        return session.get("token")

    def update_token(
        name: str, token: Any, refresh_token: Any = None, access_token: Any = None
    ) -> None:
        session["token"] = token

    oauth = OAuth(app, fetch_token=fetch_token, update_token=update_token)
    oauth.register(
        "omnifund",
        client_id=os.environ["OMNIFUND_CLIENT_ID"],
        client_secret=os.environ["OMNIFUND_CLIENT_SECRET"],
        authorize_url=f"{provider}/oauth/v2/auth",
        access_token_url=f"{provider}/oauth/v2/token",
        api_base_url=f"{provider}/api/",
        client_kwargs={
            "token_endpoint_auth_method": "client_secret_post",
            "code_challenge_method": "S256",
        },
    )

    @app.get("/login")
    def login() -> Response:
        answer: Response = oauth.omnifund.authorize_redirect(url_for("callback", _external=True))
        return answer

    @app.get("/callback")
    def callback() -> Response:
        session["token"] = oauth.omnifund.authorize_access_token()
        return redirect(url_for("dashboard"))

    @app.get("/")
    def landing() -> str:
        return render_template_string(PAGE, title="Welcome", lines=["Sign in."])

    @app.get("/dashboard")
    def dashboard() -> str:
        token = session["token"]
        lines = [f"expires at {token['expires_at']}", token["token_type"]]
        return render_template_string(PAGE, title="Dashboard", lines=lines)

    @app.get("/customers")
    def customers() -> str:
        answer = oauth.omnifund.get("customers")
        answer.raise_for_status()
        lines = [customer["firstName"] for customer in answer.json()["hydra:member"]]
        return render_template_string(PAGE, title="Customers", lines=lines)

    return app
