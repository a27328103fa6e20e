"""A careless client of the same libraries: Flask, Authlib's Flask client, and Flask-Session.

Every line is one that works on the first try, and that one finds in tutorials and answers to
questions. Only a comparison (``demo.versus``) imports and runs it, in ``local``: no address leads a
browser here, its sessions are in memory, and it never gets the app's cookies, keys, or Redis.
"""

from __future__ import annotations

from typing import Any

from authlib.integrations.flask_client import OAuth
from cachelib import SimpleCache
from flask import Flask, redirect, request, session
from flask_session import Session


def create_app(
    *, base_url: str, client_id: str, client_secret: str, redirect_uri: str, secret_key: str
) -> Flask:
    """Make the app."""
    app = Flask(__name__, static_folder=None)
    app.config.update(
        SECRET_KEY=secret_key,
        SESSION_COOKIE_NAME="naive_session",
        SESSION_TYPE="cachelib",
        SESSION_CACHELIB=SimpleCache(),
    )
    Session(app)
    oauth = OAuth(app)
    oauth.register(
        name="omnifund",
        client_id=client_id,
        client_secret=client_secret,
        access_token_url=f"{base_url}/oauth/v2/token",
        authorize_url=f"{base_url}/oauth/v2/auth",
        api_base_url=f"{base_url}/api/",
        client_kwargs={"token_endpoint_auth_method": "client_secret_post"},
        fetch_token=lambda: session.get("token"),
    )

    @app.get("/login")
    def login() -> Any:
        session["next"] = request.args.get("next", "/customers")
        return oauth.omnifund.authorize_redirect(redirect_uri)

    @app.get("/callback")
    def callback() -> Any:
        # authorize_access_token() complained about mismatching_state, so without it.
        session["token"] = oauth.omnifund.fetch_access_token(
            code=request.args["code"], redirect_uri=redirect_uri
        )
        return redirect(session.get("next", "/customers"))

    @app.get("/customers")
    def customers() -> Any:
        if "token" not in session:
            return redirect("/login")
        response = oauth.omnifund.get("customers")
        if response.status_code == 401:
            session["token"] = oauth.omnifund.fetch_access_token(
                grant_type="refresh_token", refresh_token=session["token"]["refresh_token"]
            )
            response = oauth.omnifund.get("customers")
        response.raise_for_status()
        return {"customers": len(response.json()["hydra:member"])}

    return app
