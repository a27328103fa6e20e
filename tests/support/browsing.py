"""One simulated browser for all tests: cookies, redirects, pages, and their forms; no scripts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from typing import Any, Self, cast
from urllib.parse import parse_qs, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar

from local_omnifund.settings import DEMO_MERCHANT_PASSWORD

USERNAME, PASSWORD = "merchant", DEMO_MERCHANT_PASSWORD
TIMEOUT = 60


class Page(requests.Response):
    """A response. A failing assert about it prints its headline and its request ID."""

    def __repr__(self) -> str:
        asked = f"{self.request.method} {self.request.path_url}"
        said = self.headers.get("Location") or self.headline or self.text[:80]
        reference = self.headers.get("X-Request-ID", "none")
        return f"<{asked}: {self.status_code} {said!r}, request ID {reference}>"

    @property
    def headline(self) -> str:
        """The page's first heading, or the error of a JSON response."""
        found = re.search(r'<h1[^>]*>(.*?)</h1>|"error": ?"([^"]*)"', self.text, re.DOTALL)
        return unescape(re.sub(r"<[^>]+>", "", found[1] or found[2]).strip()) if found else ""


class _Adapter(HTTPAdapter):
    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = super().build_response(req, resp)
        response.__class__ = Page
        return response


@dataclass
class Form:
    """A form of a page. ``buttons``: those with a name, and their values; ``url``: where it goes.

    ``action``: as the page has it.
    """

    action: str
    method: str
    url: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._url = url
        self._textarea: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            action = values.get("action", "")
            method = values.get("method", "get").lower()
            self.forms.append(Form(action, method, urljoin(self._url, action)))
        elif self.forms and "name" in values:
            form, name = self.forms[-1], values["name"]
            if tag == "input":
                form.fields[name] = values.get("value", "")
            elif tag == "button":
                form.buttons[name] = values.get("value", "")
            elif tag == "textarea":
                self._textarea, form.fields[name] = name, ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._textarea = None

    def handle_data(self, data: str) -> None:
        if self._textarea is not None:
            self.forms[-1].fields[self._textarea] += data


def forms(page: requests.Response) -> list[Form]:
    """Return the forms of a page."""
    parser = _Forms(page.url)
    parser.feed(page.text)
    return parser.forms


def form_to(page: requests.Response, action: str) -> Form:
    """Return the first form of ``page`` that leads to ``action``, the end of a path."""
    found = [form for form in forms(page) if urlsplit(form.url).path.endswith(action)]
    assert found, f"{page!r} has no form to {action}"
    return found[0]


def csrf_token_of(page: str) -> str:
    """Return the CSRF token of the first form of a page of the app."""
    return page.split('name="csrf_token" value="')[1].partition('"')[0]


def query_of(url: str) -> dict[str, str]:
    """Return a URL's query. A repeated parameter fails the test."""
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert all(len(values) == 1 for values in query.values()), query
    return {name: values[0] for name, values in query.items()}


class SimulatedBrowser:
    """Keeps cookies, opens pages, and sends forms. It follows no redirect unless told to.

    ``site``: the URL that paths belong to. ``http``: the underlying session.
    """

    def __init__(self, site: str) -> None:
        self.site = site
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.headers["Accept"] = "text/html,application/xhtml+xml,*/*;q=0.8"
        for scheme in ("http://", "https://"):
            self.http.mount(scheme, _Adapter())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.http.close()

    @property
    def cookies(self) -> RequestsCookieJar:
        """The browser's cookies."""
        return self.http.cookies

    def copy(self) -> SimulatedBrowser:
        """Return another browser, or another tab, that has the same cookies now."""
        other = SimulatedBrowser(self.site)
        other.cookies.update(self.cookies)
        return other

    def request(
        self, method: str, url: str, *, follow: bool = False, timeout: float = TIMEOUT, **more: Any
    ) -> Page:
        """Send a request to a path of the site, or to a whole URL."""
        url = urljoin(self.site, url)
        response = self.http.request(method, url, allow_redirects=follow, timeout=timeout, **more)
        return cast(Page, response)

    def get(self, url: str, params: Any = None, **more: Any) -> Page:
        """Open a page."""
        return self.request("GET", url, params=params, **more)

    def post(self, url: str, data: Any = None, **more: Any) -> Page:
        """Send a form that no page had."""
        return self.request("POST", url, data=data, **more)

    def submit(
        self,
        form: Form,
        changes: Mapping[str, str] | None = None,
        *,
        follow: bool = False,
        **more: str,
    ) -> Page:
        """Send ``form`` with some of its fields filled in, and perhaps a button pressed."""
        data = {**form.fields, **(changes or {}), **more}
        if form.method == "get":
            return self.get(form.url, data, follow=follow)
        return self.post(form.url, data, follow=follow)

    def press(self, path: str, action: str, **fields: str) -> Page:
        """Open ``path``, and send its form that leads to ``action``."""
        return self.submit(form_to(self.get(path), action), fields)

    def authorize_at(self, authorization_url: str, button: str = "accepted") -> str:
        """Do what OmniFund asks for: log in, press ``button``; return the callback's URL."""
        callback = query_of(authorization_url)["redirect_uri"]
        page = self.get(authorization_url)
        for _ in range(10):
            location = urljoin(page.url, page.headers.get("Location", ""))
            if location.partition("?")[0] == callback:
                return location
            assert page.is_redirect or page.status_code == 200, page
            if page.is_redirect:
                page = self.get(location)
            elif "_username" in page.text:
                login = form_to(page, "/login_check")
                page = self.submit(login, _username=USERNAME, _password=PASSWORD)
            else:
                consent = form_to(page, "/oauth/v2/auth")
                page = self.submit(consent, {button: consent.buttons[button]})
        raise AssertionError(f"ten pages without a callback, at last {page!r}")

    def in_parallel(self, url: str, count: int, **more: Any) -> list[Page]:
        """Open a page so many times at the same moment, each over a connection of its own."""

        def visit(tab: SimulatedBrowser) -> Page:
            with tab:
                return tab.get(url, **more)

        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(visit, [self.copy() for _ in range(count)]))
