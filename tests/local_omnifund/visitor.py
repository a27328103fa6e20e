"""A merchant's browser at Local OmniFund alone, without an app."""

from __future__ import annotations

from typing import Any

from tests.support.browsing import PASSWORD, USERNAME, Page, SimulatedBrowser, form_to, forms

AUTHORIZE_FORM = "fos_oauth_server_authorize_form"


class Visitor(SimulatedBrowser):
    """Signs in at Local OmniFund's own pages."""

    def sign_in(self, username: str = USERNAME, password: str = PASSWORD) -> Page:
        """Fill in the login page; return the redirect that follows."""
        page = self.get("/login")
        return self.submit(forms(page)[0], {"_username": username, "_password": password})

    def decide(self, parameters: Any, button: str = "accepted") -> Page:
        """Open the consent page (signed in already) and press one of its buttons."""
        page = self.get("/oauth/v2/auth", parameters)
        assert page.status_code == 200, page
        form = form_to(page, "/oauth/v2/auth")
        return self.submit(form, {button: form.buttons[button]})
