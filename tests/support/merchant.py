"""A merchant: a simulated browser at the app."""

from __future__ import annotations

from typing import Any, Protocol

from flask import Flask

from omnifund.client import OmniFund
from omnifund.connections import StoredToken
from tests.support.browsing import Page, SimulatedBrowser, csrf_token_of


class Deployment(Protocol):
    """A running app. ``app`` uses the same Redis and the same keys, in the test's own process."""

    url: str
    app: Flask


class Merchant(SimulatedBrowser):
    """A merchant with a fresh browser. ``at``: where the app runs."""

    def __init__(self, at: Deployment) -> None:
        super().__init__(at.url)
        self.at: Any = at  # a Stack or a Rig, with more than the browser needs

    @property
    def session_id(self) -> str:
        """The session ID, which is the connection ID too."""
        return str(self.cookies["omnifund_session"])

    @property
    def stored(self) -> StoredToken:
        """The token as it is stored now."""
        omnifund: OmniFund = self.at.app.extensions["omnifund"]
        return omnifund.tokens.load(self.session_id)

    def status(self) -> dict[str, Any]:
        """Return what ``/session`` says."""
        status: dict[str, Any] = self.get("/session").json()
        return status

    def authorize(self, next_path: str = "/dashboard", button: str = "accepted") -> str:
        """Start a sign-in, and do what OmniFund asks for; return the callback's URL."""
        started = self.get(f"/login?next={next_path}")
        assert started.status_code == 302, started
        return self.authorize_at(started.headers["Location"], button)

    def sign_in(self, next_path: str = "/dashboard") -> Page:
        """Sign in; return the callback's response."""
        return self.get(self.authorize(next_path))

    def csrf_token(self) -> str:
        """The CSRF token of this session, from a page that needs nothing of OmniFund."""
        return csrf_token_of(self.get("/").text)

    def post_form(self, action: str) -> Page:
        """Send a form of nothing but the CSRF token, as the buttons of every page do."""
        return self.post(action, {"csrf_token": self.csrf_token()})
