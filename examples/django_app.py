"""A Django app that signs merchants in, with nothing of this project but ``omnifund/``.

``gunicorn django_app:application``; docs/take-it-with-you.md lists the variables. In a project of
your own the settings go to ``settings.py``, the paths to ``urls.py``, the rest to an app.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.middleware.csrf import rotate_token
from django.template import engines
from django.urls import path
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_GET, require_POST

from omnifund.client import OmniFund
from omnifund.errors import OmniFundError, ReauthorizationRequired, Unavailable
from omnifund.redis_client import OPTIONS
from omnifund.token_store import RedisTokenStore

PAGE = """<!doctype html>
<html lang="en">
<title>Customers</title>
{% if customers is None %}
<a href="/login">Sign in with OmniFund</a>
{% else %}
<ul>{% for customer in customers %}<li>{{ customer.name }}</li>{% endfor %}</ul>
<form action="/logout" method="post">{% csrf_token %}<button>Sign out</button></form>
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

redirect_uri = urlsplit(os.environ["OMNIFUND_REDIRECT_URI"])
settings.configure(
    SECRET_KEY=os.environ["SECRET_KEY"],
    ALLOWED_HOSTS=[redirect_uri.hostname],
    # Behind a proxy with TLS, forms come from https although the requests here do not.
    CSRF_TRUSTED_ORIGINS=[f"{redirect_uri.scheme}://{redirect_uri.netloc}"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        f"{__name__}.Explain",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    SESSION_COOKIE_SECURE=omnifund.secure_cookies,
    CSRF_COOKIE_SECURE=omnifund.secure_cookies,
)


@require_GET
def login(request: HttpRequest) -> HttpResponse:
    """Send the merchant to OmniFund."""
    start = omnifund.create_authorization_request(request.COOKIES, request.GET.get("next"))
    response = HttpResponseRedirect(start.url)
    for cookie in start.cookies:
        response.set_cookie(**cookie)
    return response


@require_GET
def callback(request: HttpRequest) -> HttpResponse:
    """Complete what ``/login`` started."""
    sign_in = omnifund.handle_callback(
        request.META["QUERY_STRING"], request.COOKIES, current=request.session.get("connection")
    )
    # The session's data belong to an earlier visitor; this gives the session a new ID too.
    request.session.flush()
    rotate_token(request)
    request.session["connection"] = sign_in.connection_id
    return HttpResponseRedirect(sign_in.next)


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Show the merchant's customers."""
    customers = None
    if "connection" in request.session:
        customers = omnifund.api.customers(request.session["connection"]).items
    page = engines["django"].from_string(PAGE)
    return HttpResponse(page.render({"customers": customers}, request))


@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    """Delete the tokens, and the session."""
    if "connection" in request.session:
        omnifund.disconnect(request.session["connection"])
    request.session.flush()
    return HttpResponseRedirect("/")


class Explain:
    """Middleware that responds to every failure; give each a page in your own words."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        # Browsers and proxies store no copy of a merchant's data.
        add_never_cache_headers(response)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Every failure has a name and a status."""
        if isinstance(error, ReauthorizationRequired):
            # The connection has ended: sign in, once.
            request.session.flush()
            return HttpResponseRedirect("/login")
        if not isinstance(error, OmniFundError):
            return None
        response = JsonResponse({"problem": type(error).__name__}, status=error.status)
        if isinstance(error, Unavailable):
            response["Retry-After"] = str(error.retry_after)
        return response


urlpatterns = [
    path("", home),
    path("login", login),
    path("callback", callback),
    path("logout", logout),
]
application = get_wsgi_application()
