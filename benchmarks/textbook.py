"""The textbook: the same journey as the documentation of Authlib and Flask-Session teaches it."""

from __future__ import annotations

import os
from typing import Any

from authlib.integrations.flask_client import OAuth
from flask import Flask, redirect, render_template, session, url_for
from flask_session import Session
from redis import Redis
from werkzeug.wrappers import Response


def create_app() -> Flask:
    """Make the app."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=os.environ["SECRET_KEY"],
        SESSION_TYPE="redis",
        SESSION_REDIS=Redis.from_url(os.environ["REDIS_URL"]),
    )
    Session(app)

    def fetch_token() -> Any:
        return session.get("token")

    def update_token(token: Any, **_old: Any) -> None:
        session["token"] = token

    base_url = os.environ["OMNIFUND_BASE_URL"]
    oauth = OAuth(app)
    oauth.register(
        name="omnifund",
        client_id=os.environ["OMNIFUND_CLIENT_ID"],
        client_secret=os.environ["OMNIFUND_CLIENT_SECRET"],
        access_token_url=f"{base_url}/oauth/v2/token",
        authorize_url=f"{base_url}/oauth/v2/auth",
        api_base_url=f"{base_url}/api/",
        client_kwargs={
            "code_challenge_method": "S256",
            "token_endpoint_auth_method": "client_secret_post",
        },
        fetch_token=fetch_token,
        update_token=update_token,
    )

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    @app.get("/")
    def landing() -> str:
        return render_template("landing.html", signed_in="token" in session)

    @app.get("/login")
    def login() -> Any:
        return oauth.omnifund.authorize_redirect(url_for("callback", _external=True))

    @app.get("/callback")
    def callback() -> Response:
        session["token"] = oauth.omnifund.authorize_access_token()
        return redirect(url_for("dashboard"))

    @app.get("/dashboard")
    def dashboard() -> str | Response:
        if "token" not in session:
            return redirect(url_for("login"))
        return render_template("dashboard.html", token=session["token"])

    @app.get("/customers")
    def customers() -> str | Response:
        if "token" not in session:
            return redirect(url_for("login"))
        answer = oauth.omnifund.get("customers")
        answer.raise_for_status()
        return render_template("customers.html", customers=answer.json()["hydra:member"])

    return app
