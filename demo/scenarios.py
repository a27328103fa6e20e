"""The same failure for any client: who opens what, and how what happened is judged.

The lab plays the browser: it calls the client as a server would, with cookies of its own. OmniFund
is the real Local OmniFund, over HTTP. Only the merchant's click on Allow has a stand-in, at
``/faults/consent``, which decides for the merchant who has signed in to the app.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass, field
from html import unescape
from http.cookies import SimpleCookie
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from werkzeug.test import Client, TestResponse

from demo.progress import elapsed
from demo.wire import Said, Wire, listening
from omnifund.errors import OmniFundUnavailable
from omnifund.http import HTTPClient

TABS: Final = 5
ATTACKER: Final = "https://attacker.example/"
_MAX_RESPONSE_BYTES: Final = 16 * 1024
_HEADING: Final = re.compile(r"<h1[^>]*>(.*?)</h1>", re.DOTALL)

Armed = tuple[str, int]
"""A fault of Local OmniFund's, and how often it strikes."""


class Verdict(NamedTuple):
    """What came of it. ``problem``: the error that the client did not handle."""

    is_good: bool
    says: str
    said: list[Said]
    problem: str = ""


class OmniFundSide(NamedTuple):
    """Local OmniFund, as the merchant of ``access_token`` uses it."""

    http: HTTPClient
    access_token: str

    def arm(self, state: str, faults: Iterable[Armed]) -> None:
        """Enable faults for one authorization request, its code, and its tokens."""
        for fault, times in faults:
            self._send("/faults", id=fault, times=str(times), scope="state", state=state)

    def disarm(self, state: str) -> None:
        """Disable what is left of the faults of one authorization request."""
        self._send("/faults", "DELETE", scope="state", state=state)

    def consent(self, url: str, decision: str) -> str:
        """Decide about the authorization request ``url``; return where the browser is sent."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        decided = self._send("/faults/consent", **query, decision=decision)
        return str(json.loads(decided)["location"])

    def _send(self, path: str, method: str = "POST", /, **fields: str) -> bytes:
        headers = {
            "Accept": "application/json",
            "Authorization": f"Bearer {self.access_token}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        response = self.http.send(
            method, path, headers=headers, body=urlencode(fields), max_bytes=_MAX_RESPONSE_BYTES
        )
        if response.status not in (201, 204):
            raise OmniFundUnavailable("this OmniFund cannot play that failure")
        return response.body


@dataclass
class Browser:
    """A browser with cookies of its own. It follows no redirects."""

    client: Client
    base_url: str
    omnifund_url: str
    wire: Wire
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> TestResponse:
        """Open a page of the client."""
        self.wire.note("browser", "client", f"GET {urlsplit(path).path}")
        # In a context of its own: the request that is being served here must not be disturbed.
        response = Context().run(self._get, path)
        for header in response.headers.getlist("Set-Cookie"):
            for name, cookie in SimpleCookie(header).items():
                self.cookies[name] = cookie.value
                if not cookie.value:
                    del self.cookies[name]
        self.wire.note("client", "browser", *self._label(response))
        return response

    def _get(self, path: str) -> TestResponse:
        headers = {
            "Accept": "text/html",
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        }
        origin = {"REMOTE_ADDR": "127.0.0.1"}
        with listening(self.wire):
            return self.client.get(
                path, base_url=self.base_url, headers=headers, environ_overrides=origin
            )

    def _label(self, response: TestResponse) -> tuple[str, str]:
        status, location = response.status_code, response.headers.get("Location")
        if location is None:
            return f"{status} page", f"{status} page"
        if location.startswith(f"{self.omnifund_url}/"):
            return f"{status} to OmniFund", "to OmniFund"
        if self.leaves(response):
            return f"{status} to {urlsplit(location).netloc}", "to another site"
        path = urlsplit(location).path
        is_sign_in = path.endswith("/login")
        return f"{status} to {path}", "to the sign-in" if is_sign_in else "to a page of the client"

    def leaves(self, response: TestResponse) -> bool:
        """Whether ``response`` sends the browser to another site."""
        target = urlsplit(response.headers.get("Location", ""))
        return bool(target.netloc) and target.netloc != urlsplit(self.base_url).netloc


@dataclass
class Play:
    """One client in one failure."""

    app: Any
    base_url: str
    omnifund: OmniFundSide
    wire: Wire = field(default_factory=Wire)
    browsers: list[Browser] = field(default_factory=list)
    states: list[str] = field(default_factory=list)

    def browser(self) -> Browser:
        """Return a new browser."""
        client = Client(self.app, use_cookies=False)
        new = Browser(client, self.base_url, self.omnifund.http.base_url, self.wire)
        self.browsers.append(new)
        return new

    def start(
        self,
        browser: Browser,
        *faults: Armed,
        path: str = "/login",
        decision: str = "allow",
    ) -> str:
        """Start a sign-in and decide at OmniFund; return the callback to open."""
        url = browser.get(path).headers["Location"]
        self.states += parse_qs(urlsplit(url).query)["state"]
        self.omnifund.arm(self.states[-1], faults)
        self.wire.note("browser", "omnifund", decision.capitalize())
        location = self.omnifund.consent(url, decision)
        self.wire.note("omnifund", "browser", "302 code" if "code=" in location else "302 error")
        return f"/callback?{urlsplit(location).query}"

    def forget(self) -> None:
        """Leave out of the picture what was said until now."""
        self.wire.said.clear()


# --- the failures --------------------------------------------------------------------------------


def forged_callback(play: Play) -> Verdict:
    """Another browser's code arrives with another browser's state."""
    callback = play.start(play.browser())
    play.forget()
    victim = play.browser()
    victim.get(callback)
    is_signed_in = victim.get("/customers").status_code == 200
    says = "is signed in with the attacker's code" if is_signed_in else "is not signed in"
    return Verdict(not is_signed_in, f"Your browser {says}.", play.wire.said)


def replayed_callback(play: Play) -> Verdict:
    """The same callback arrives twice."""
    browser = play.browser()
    callback = play.start(browser)
    browser.get(callback)
    again = browser.get(callback)
    sent = play.wire.requests("POST code")
    says = f"The code was sent {_times(sent)}. The second visit ended in {_in_words(again)}."
    return Verdict(again.status_code < 400 and sent == 1, says, play.wire.said)


def denied(play: Play) -> Verdict:
    """The callback has an error."""
    browser = play.browser()
    page = browser.get(play.start(browser, decision="deny"))
    is_good = "denied" in _headline(page).lower()
    return Verdict(is_good, f"You read {_in_words(page)}.", play.wire.said)


def open_redirect(play: Play) -> Verdict:
    """The page to return to is another site's."""
    browser = play.browser()
    page = browser.get(play.start(browser, path=f"/login?{urlencode({'next': ATTACKER})}"))
    where = urlsplit(page.headers.get("Location", ""))
    has_left = browser.leaves(page)
    says = f"After the sign-in your browser is sent to {where.netloc if has_left else where.path}."
    return Verdict(not has_left and page.status_code < 400, says, play.wire.said)


def five_tabs(play: Play) -> Verdict:
    """Five requests need the same refresh token at the same moment."""
    browser = play.browser()
    browser.get(play.start(browser, ("api_401", TABS), ("refresh_slow", TABS)))
    play.forget()
    with ThreadPoolExecutor(TABS) as pool:
        pages = list(pool.map(browser.get, ["/customers"] * TABS))
    good = sum(page.status_code == 200 for page in pages)
    sent = play.wire.requests("POST refresh token")
    says = f"{good} of {TABS} tabs show customers. The refresh token was sent {_times(sent)}."
    return Verdict(good == TABS and sent == 1, says, play.wire.counted())


def silence(play: Play) -> Verdict:
    """OmniFund does not respond."""
    browser = play.browser()
    callback = play.start(browser, ("token_timeout", 1))
    began = time.monotonic()
    page = browser.get(callback)
    waited = elapsed((time.monotonic() - began) * 1000)
    has_given_up = any(each.label == "no response" for each in play.wire.said)
    says = f"You wait {waited} for {_in_words(page)}."
    return Verdict(has_given_up and page.status_code == 504, says, play.wire.said)


def html(play: Play) -> Verdict:
    """The token response is a page."""
    browser = play.browser()
    page = browser.get(play.start(browser, ("token_html", 1)))
    return Verdict(page.status_code == 502, f"You read {_in_words(page)}.", play.wire.said)


def forbidden(play: Play) -> Verdict:
    """The API returns 403."""
    browser = play.browser()
    browser.get(play.start(browser, ("api_403", 1)))
    page = browser.get("/customers")
    return Verdict(page.status_code == 403, f"You read {_in_words(page)}.", play.wire.said)


SCENARIOS: Final[dict[str, Callable[[Play], Verdict]]] = {
    scenario.__name__: scenario
    for scenario in (
        *(forged_callback, replayed_callback, denied, open_redirect),
        *(five_tabs, silence, html, forbidden),
    )
}


def _headline(page: TestResponse) -> str:
    found = _HEADING.search(page.text)
    return unescape(re.sub(r"<[^>]+>", "", found[1])).strip() if found else ""


def _in_words(page: TestResponse) -> str:
    if 300 <= page.status_code < 400:
        return f"a redirect to {urlsplit(page.headers['Location']).path}"
    return f"page {page.status_code}, “{_headline(page)}”"


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")
