"""Flask, less two things that it looks into for every request and that this app has no use for.

And with a page for a request whose ``Host`` is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.exceptions import HTTPException
from werkzeug.http import parse_cookie
from werkzeug.routing import MapAdapter
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

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Return what finds views and addresses for ``request``."""
        try:
            return super().create_url_adapter(request)
        except HTTPException as problem:
            if request is None:
                raise
            # A Host that no machine can have, such as "a..b". The page that says so has links too,
            # so it gets addresses, below whatever path the app is mounted at.
            request.routing_exception = problem
            return self.url_map.bind("", script_name=request.environ.get("SCRIPT_NAME"))
