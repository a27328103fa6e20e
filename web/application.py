"""Flask, less two things that it looks into for every request and that this app has no use for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.http import parse_cookie
from werkzeug.utils import cached_property


class _Request(Request):
    @cached_property
    def cookies(self) -> ImmutableMultiDict[str, str]:
        """The cookies, read from the one header that WSGI has for them.

        Werkzeug searches all headers for more; it has other protocols than WSGI in mind.
        """
        return ImmutableMultiDict(parse_cookie(self.environ))


class Application(Flask):
    """A Flask app without asynchronous views."""

    request_class = _Request

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``func``: it is synchronous, and need not be asked before each call."""
        return func
