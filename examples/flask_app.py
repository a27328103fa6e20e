"""A Flask app that signs merchants in, with nothing of this project but ``omnifund/``.

``flask --app flask_app run --port 8000``; docs/take-it-with-you.md lists the variables.
"""

from __future__ import annotations

import os

import redis
from flask import Flask, redirect, render_template_string, request, session
from flask_wtf import CSRFProtect
from werkzeug.wrappers import Response

from omnifund.client import OmniFund
from omnifund.errors import OmniFundError, ReauthorizationRequired, Unavailable
from omnifund.redis_client import OPTIONS
from omnifund.token_store import RedisTokenStore

PAGE = """<!doctype html>
<html lang="en">
<title>Customers</title>
{% if customers is none %}
<a href="/login">Sign in with OmniFund</a>
{% else %}
<ul>{% for customer in customers %}<li>{{ customer.name }}</li>{% endfor %}</ul>
<form action="/logout" method="post">
<input type="hidden" name="csrf_token" value="{{ csrf_token() }}">
<button>Sign out</button>
</form>
{% endif %}
"""

omnifund = OmniFund(
    RedisTokenStore(redis.Redis.from_url(os.environ["REDIS_URL"], **OPTIONS)),
    base_url=os.environ["OMNIFUND_BASE_URL"],
    client_id=os.environ["OMNIFUND_CLIENT_ID"],
    client_secret=os.environ["OMNIFUND_CLIENT_SECRET"],
    redirect_uri=os.environ["OMNIFUND_REDIRECT_URI"],
    secret_keys=[os.environ["SECRET_KEY"]],
)

app = Flask(__name__)
app.config.update(
    SECRET_KEY=os.environ["SECRET_KEY"],
    SESSION_COOKIE_SECURE=omnifund.secure_cookies,
    # Not Strict: the redirect from OmniFund begins on another site.
    SESSION_COOKIE_SAMESITE="Lax",
)
CSRFProtect(app)


@app.get("/login")
def login() -> Response:
    """Send the merchant to OmniFund."""
    start = omnifund.create_authorization_request(request.cookies, request.args.get("next"))
    response = redirect(start.url)
    for cookie in start.cookies:
        response.set_cookie(**cookie)
    return response


@app.get("/callback")
def callback() -> Response:
    """Complete what ``/login`` started."""
    sign_in = omnifund.handle_callback(
        request.query_string, request.cookies, current=session.get("connection")
    )
    # The session's data belong to an earlier visitor. A session on a server needs a new ID too.
    session.clear()
    session["connection"] = sign_in.connection_id
    return redirect(sign_in.next, 303)


@app.get("/")
def home() -> str:
    """Show the merchant's customers."""
    customers = None
    if "connection" in session:
        customers = omnifund.api.customers(session["connection"]).items
    return render_template_string(PAGE, customers=customers)


@app.post("/logout")
def logout() -> Response:
    """Delete the tokens, and the session."""
    if "connection" in session:
        omnifund.disconnect(session["connection"])
    session.clear()
    return redirect("/", 303)


@app.errorhandler(ReauthorizationRequired)
def sign_in_again(_error: ReauthorizationRequired) -> Response:
    """The connection has ended: sign in, once."""
    session.clear()
    return redirect("/login")


@app.errorhandler(OmniFundError)
def explain(error: OmniFundError) -> tuple[dict[str, str], int, dict[str, str]]:
    """Every other failure has a name and a status; give each a page in your own words."""
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Unavailable) else {}
    return {"problem": type(error).__name__}, error.status, headers


@app.after_request
def keep_nothing(response: Response) -> Response:
    """Let browsers and proxies store no copy of a merchant's data."""
    response.headers["Cache-Control"] = "no-store"
    for cookie in omnifund.surplus_cookies(request.cookies):
        response.set_cookie(**cookie)
    return response
