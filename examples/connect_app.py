"""A product whose users each connect an OmniFund account, with nothing of this project but
``omnifund/``.

``flask --app connect_app run --port 8000``; docs/connect-your-users.md explains it and lists the
variables. Once a day: ``flask --app connect_app omnifund keep-alive``. The user stays logged in
here whatever happens to the connection: no handler of the connection touches the session.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from datetime import UTC, datetime

import click
import sqlalchemy as sql
from flask import Flask, abort, redirect, render_template_string, request, session
from flask.cli import AppGroup
from flask_wtf import CSRFProtect
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.wrappers import Response

from omnifund.client import OmniFund
from omnifund.errors import (
    AccessDenied,
    ConnectionEnded,
    ConnectionNotFound,
    InvalidState,
    OmniFundError,
    Unavailable,
)
from omnifund.sql_token_store import SQLTokenStore

PAGE = """<!doctype html>
<html lang="en">
<meta name="viewport" content="width=device-width">
<title>Product</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
label, button { display: block; margin: .75rem 0 }
input { display: block; font: inherit; width: 100%; max-width: 20rem }
</style>
{% macro form(action, label) %}
<form action="{{ action }}" method="post">
<input type="hidden" name="csrf_token" value="{{ csrf_token() }}">
{{ caller() if caller else "" }}
<button>{{ label }}</button>
</form>
{% endmacro %}
{% if problem %}
<p role="alert">{{ problem }}</p>
<p><a href="/">Back to the product</a></p>
{% elif user is none %}
{% for action, label in [("/login", "Log in"), ("/users", "Create an account")] %}
<h1>{{ label }}</h1>
{% call form(action, label) %}
<label>Name <input name="name" required></label>
<label>Password <input name="password" type="password" required minlength="8"></label>
{% endcall %}
{% endfor %}
{% else %}
<p>Logged in as <b>{{ name }}</b></p>
{{ form("/logout", "Log out") }}
{% if ended %}
<h1>Reconnect OmniFund</h1>
<p>OmniFund ended the connection; noticed on {{ ended.date() }}.</p>
{{ form("/connect", "Reconnect OmniFund") }}
{% elif customers is none %}
<h1>Connect OmniFund</h1>
{{ form("/connect", "Connect OmniFund") }}
{% else %}
<h1>Your customers</h1>
<ul>{% for customer in customers %}<li>{{ customer.name }}</li>{% endfor %}</ul>
{{ form("/disconnect", "Disconnect OmniFund") }}
<p>Disconnecting deletes the tokens here. OmniFund has no way to revoke them: the access token works
for an hour at most, the refresh token for 14 days, for anybody who has a copy.</p>
{% endif %}
{% endif %}
"""

# A frozen server would hold each request as long as the system lets it; see the page.
database = os.environ.get("DATABASE_URL", "sqlite:///product.db")
engine = sql.create_engine(database, pool_pre_ping=True)  # Not the dead ones after a restart.
users = sql.Table(
    "users",
    sql.MetaData(),
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("name", sql.String(80), unique=True, nullable=False),
    sql.Column("password_hash", sql.String(255), nullable=False),
)
store = SQLTokenStore(engine)
try:
    if engine.dialect.name == "sqlite":
        with engine.connect() as db:  # Readers wait for no writer; the file remembers it.
            db.exec_driver_sql("PRAGMA journal_mode = WAL")
    # A product with a migration tool creates both there instead.
    store.create_tables()
    with suppress(sql.exc.IntegrityError), engine.begin() as db:
        # Workers may start at once; on PostgreSQL one may find that another creates it now.
        db.execute(sql.schema.CreateTable(users, if_not_exists=True))
except sql.exc.OperationalError:
    sys.exit("The database does not respond.")
except sql.exc.DBAPIError:
    sys.exit("DATABASE_URL does not lead to a database of this product.")

keys = [key.strip() for key in os.environ["SECRET_KEY"].split(",")]  # the newest first
omnifund = OmniFund(
    store,
    base_url=os.environ["OMNIFUND_BASE_URL"],
    client_id=os.environ["OMNIFUND_CLIENT_ID"],
    client_secret=os.environ["OMNIFUND_CLIENT_SECRET"],
    redirect_uri=os.environ["OMNIFUND_REDIRECT_URI"],
    secret_keys=keys,
    sign_in_seconds=None,  # A connection lasts as long as keep-alive runs.
)

app = Flask(__name__)
app.config.update(
    SECRET_KEY=keys[0],
    SECRET_KEY_FALLBACKS=keys[1:],
    SESSION_COOKIE_SECURE=omnifund.secure_cookies,
    # Not Strict: the redirect from OmniFund begins on another site.
    SESSION_COOKIE_SAMESITE="Lax",
)
CSRFProtect(app)


# --- the product's own users ---------------------------------------------------------------------


def user_id() -> str:
    """Return the ID of the user who is logged in; it is the connection ID too."""
    if "user" not in session:
        abort(401, "Log in first.")
    return str(session["user"])


@app.post("/users")
def create_user() -> Response:
    """Create an account, and log in."""
    name, password = request.form["name"], request.form["password"]
    if not name or len(name) > 80 or len(password) < 8:
        abort(400, "A name of 1 to 80 characters and a password of 8 or more.")
    row = {"name": name, "password_hash": generate_password_hash(password)}
    try:
        with engine.begin() as db:
            db.execute(sql.insert(users).values(row))
    except sql.exc.IntegrityError:
        abort(409, "There is a user of this name.")
    return log_in()


@app.post("/login")
def log_in() -> Response:
    """Log in to the product, which is no matter of OmniFund's."""
    with engine.begin() as db:
        query = sql.select(users).where(users.c.name == request.form["name"])
        user = db.execute(query).first()
    if user is None or not check_password_hash(user.password_hash, request.form["password"]):
        abort(403, "The name or the password is wrong.")
    session.clear()
    session.update(user=user.id, name=user.name)
    return redirect("/", 303)


@app.post("/logout")
def log_out() -> Response:
    """Log out of the product. The connection stays."""
    session.clear()
    return redirect("/", 303)


# --- the connection ------------------------------------------------------------------------------


@app.post("/connect")
def connect() -> Response:
    """Send the user to OmniFund, to connect or reconnect."""
    start = omnifund.create_authorization_request(request.cookies, "/", owner=user_id())
    response = redirect(start.url, 303)
    for cookie in start.cookies:
        response.set_cookie(**cookie)
    return response


@app.get("/callback")
def callback() -> Response:
    """Complete what ``/connect`` started, for the same user only."""
    done = omnifund.handle_callback(request.query_string, request.cookies, owner=user_id())
    return redirect(done.next, 303)


@app.get("/")
def home() -> str:
    """Show the user's customers, or what to do to see them."""
    customers = ended = None
    if "user" in session:
        try:
            customers = omnifund.api.customers(user_id()).items
        except ConnectionNotFound:
            pass
        except ConnectionEnded as end:
            ended = datetime.fromtimestamp(end.ended_at, UTC)
    shown = {"user": session.get("user"), "name": session.get("name"), "ended": ended}
    return render_template_string(PAGE, customers=customers, **shown)


@app.post("/disconnect")
def disconnect() -> Response:
    """Delete the user's tokens."""
    omnifund.disconnect(user_id())
    return redirect("/", 303)


@app.errorhandler(OmniFundError)
def explain(error: OmniFundError) -> tuple[str, int, dict[str, str]]:
    """No other failure changes the connection; docs/reference.md lists them."""
    problem, headers = "Something went wrong here. We have been told.", {}
    if isinstance(error, AccessDenied):
        problem = "You chose Deny at OmniFund, so nothing was connected."
    elif isinstance(error, InvalidState):
        problem = "This attempt to connect belongs to another user or browser, or is over."
    elif isinstance(error, Unavailable):
        problem = "OmniFund, or our database, does not respond now. Try again in a minute."
        headers["Retry-After"] = str(error.retry_after)
    app.logger.warning("OmniFund: %s: %s", type(error).__name__, error)
    return render_template_string(PAGE, problem=problem), error.status, headers


@app.after_request
def keep_nothing(response: Response) -> Response:
    """Let browsers and proxies store no copy of a merchant's data."""
    response.headers["Cache-Control"] = "no-store"
    for cookie in omnifund.surplus_cookies(request.cookies):
        response.set_cookie(**cookie)
    return response


# --- once a day, from cron -----------------------------------------------------------------------

commands = AppGroup("omnifund", help="Care for the connections to OmniFund.")
app.cli.add_command(commands)


@commands.command("keep-alive")
def keep_alive() -> None:
    """Refresh all connections that are due; any number of machines may run it at once."""
    refreshed = failed = 0
    try:
        for each in omnifund.keep_alive():
            if each.error is None:
                refreshed += 1
            else:
                # An ended connection is told once: here, write to the user.
                failed += 1
                reason = f"{type(each.error).__name__}: {each.error}"
                click.echo(f"user {each.connection_id}: {reason}", err=True)
    except Unavailable as error:
        failed += 1
        click.echo(f"Gave up; run it again later: {error}", err=True)
    click.echo(f"{refreshed} refreshed, {failed} failed")
    sys.exit(1 if failed else 0)


@commands.command("reseal")
def reseal() -> None:
    """Encrypt all connections with the first key of SECRET_KEY."""
    try:
        done = omnifund.reseal()
    except Unavailable as error:
        click.echo(f"Gave up; run it again later: {error}", err=True)
        sys.exit(1)
    click.echo(
        f"{done.newest_key} with the newest key, {done.older_key} with an older one until now, "
        f"{done.unreadable} unreadable"
    )
    sys.exit(1 if done.unreadable else 0)
