"""A person with a browser, as far as Local OmniFund can tell: cookies, pages and their forms."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Self
from urllib.parse import parse_qs, urljoin, urlsplit

import requests

AUTHORIZE_FORM = "fos_oauth_server_authorize_form"
PASSWORD = "local-omnifund-demo"
TIMEOUT = 10


@dataclass
class Form:
    """A form of a page: where it goes, what it sends, and the names of its buttons."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, str] = field(default_factory=dict)


class _FormParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._textarea: str | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if tag == "form":
            self.forms.append(Form(values["action"]))
        elif tag == "input":
            self.forms[-1].fields[values["name"]] = values.get("value", "")
        elif tag == "textarea":
            self._textarea = values["name"]
            self.forms[-1].fields[self._textarea] = ""
        elif tag == "button" and "name" in values:
            self.forms[-1].buttons[values["name"]] = values["value"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._textarea = None

    def handle_data(self, data: str) -> None:
        if self._textarea is not None:
            self.forms[-1].fields[self._textarea] += data


class Visitor:
    """Keeps cookies. Requests follow no redirect unless asked to."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.http = requests.Session()
        self.http.headers["Accept"] = "text/html,application/xhtml+xml,*/*;q=0.8"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def get(
        self, path: str, parameters: object = None, *, follow: bool = False
    ) -> requests.Response:
        return self.http.get(
            urljoin(self.base_url, path),
            params=parameters,  # type: ignore[arg-type]  # requests takes what tests give it
            allow_redirects=follow,
            timeout=TIMEOUT,
        )

    def post(self, path: str, fields: dict[str, str], *, follow: bool = False) -> requests.Response:
        return self.http.post(
            self.base_url + path, data=fields, allow_redirects=follow, timeout=TIMEOUT
        )

    def submit(
        self, form: Form, changes: dict[str, str] | None = None, **more: str
    ) -> requests.Response:
        """Send a form, with some of its fields filled in."""
        return self.post(form.action, form.fields | (changes or {}) | more)

    def sign_in(self, username: str = "merchant", password: str = PASSWORD) -> requests.Response:
        """Fill in the login page; the answer is the redirect that follows."""
        page = self.get("/login")
        return self.submit(forms(page)[0], {"_username": username, "_password": password})

    def decide(self, parameters: dict[str, str], button: str = "accepted") -> requests.Response:
        """Open the consent page (signed in already) and press one of its buttons."""
        page = self.get("/oauth/v2/auth", parameters)
        assert page.status_code == 200, page.text
        form = form_to(page, "/oauth/v2/auth")
        return self.submit(form, {button: form.buttons[button]})


def forms(page: requests.Response) -> list[Form]:
    """All forms of a page."""
    parser = _FormParser()
    parser.feed(page.text)
    return parser.forms


def form_to(page: requests.Response, action: str) -> Form:
    """The one form of the page that is sent to `action`."""
    (form,) = [form for form in forms(page) if form.action == action]
    return form


def query_of(location: str) -> dict[str, str]:
    """The parameters in a redirect's query."""
    return {name: value[-1] for name, value in parse_qs(urlsplit(location).query, True).items()}
