"""The floor: a bare Flask page with one Redis GET. Nothing signed in can cost less than this."""

from __future__ import annotations

import os

from flask import Flask, render_template, request
from redis import Redis

PAGE = """<!doctype html>
<title>Dashboard</title>
<h1>Dashboard</h1>
<p>{{ found }}</p>
"""


def create_app() -> Flask:
    """Make the app from the environment that the benchmark gives it."""
    app = Flask(__name__)
    template = app.jinja_env.from_string(PAGE)
    redis = Redis.from_url(os.environ["REDIS_URL"])

    @app.get("/")
    def landing() -> str:
        return "Welcome"

    @app.get("/dashboard")
    def dashboard() -> str:
        found = redis.get(f"session:{request.cookies.get('session')}")
        return render_template(template, found=bool(found))

    return app
