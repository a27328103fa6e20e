"""django-oauth-toolkit on OmniFund's paths, for one merchant who is always signed in.

Run as a program: ``PORT``, ``REDIRECT_URI``, ``CLIENT_ID`` and ``CLIENT_SECRET`` come from the
environment; ``<CLIENT_ID>-password`` is a second client, for the password work-flow.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from django.conf import settings

MERCHANT, PASSWORD = "merchant", "made-up-password"


class AlwaysSignedIn:
    """Middleware: every visitor is the merchant."""

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        from django.contrib.auth import get_user_model

        request.user = get_user_model().objects.get(username=MERCHANT)
        return self.get_response(request)


class Quiet(WSGIRequestHandler):
    """Logs no requests."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    settings.configure(
        SECRET_KEY="signs nothing but a test's cookies",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="tests.interop.django_urls",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "tests.interop.django_oauth_toolkit.AlwaysSignedIn",
        ],
        TEMPLATES=[
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        OAUTH2_PROVIDER={"ROTATE_REFRESH_TOKEN": True, "PKCE_REQUIRED": True},
        AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.ModelBackend"],
    )
    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application
    from oauth2_provider.models import Application

    call_command("migrate", verbosity=0)
    merchant = get_user_model().objects.create_user(MERCHANT, password=PASSWORD)
    client_id = os.environ["CLIENT_ID"]
    for identifier, grant_type in (
        (client_id, Application.GRANT_AUTHORIZATION_CODE),
        (f"{client_id}-password", Application.GRANT_PASSWORD),
    ):
        Application.objects.create(
            client_id=identifier,
            client_secret=os.environ["CLIENT_SECRET"],
            client_type=Application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=grant_type,
            redirect_uris=os.environ["REDIRECT_URI"],
            name="The reference integration",
            user=merchant,
        )
    # One thread: the database is in this thread's memory.
    port = int(os.environ["PORT"])
    make_server("127.0.0.1", port, get_wsgi_application(), handler_class=Quiet).serve_forever()


if __name__ == "__main__":
    main()
