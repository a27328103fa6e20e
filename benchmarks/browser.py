"""A merchant's browser, as cheap as it can be: cookies, redirects, one kept-alive connection."""

from __future__ import annotations

import http.client
import itertools
import threading
from collections.abc import Iterator
from typing import Final, Self
from urllib.parse import urlsplit

_PAGE_HEADERS: Final = {
    "Accept": "text/html,application/xhtml+xml",
    "Accept-Language": "en",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}

# Every merchant comes from an address of their own, through a proxy that the app believes: else
# all of them together would meet the rate limit of one address.
_addresses: Final[Iterator[str]] = (
    f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}" for number in itertools.count(1)
)


class Door:
    """A kept-alive connection to one server, which browsers may share: they wait for each other."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._lock = threading.Lock()

    def get(self, path: str, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage]:
        """Return status and headers; the body is read and dropped."""
        with self._lock:
            self._connection.request("GET", path, headers=headers)
            answer = self._connection.getresponse()
            answer.read()
        return answer.status, answer.headers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()


class Browser:
    """Somebody with cookies. ``provider``: the plain door of the provider."""

    def __init__(self, server: Door, provider: Door, host: str) -> None:
        self._server = server
        self._provider = provider
        self._headers = {
            **_PAGE_HEADERS,
            "Host": host,
            "X-Forwarded-For": next(_addresses),
            "X-Forwarded-Proto": "https",
        }
        self.cookies: dict[str, str] = {}

    def get(self, path: str) -> tuple[int, str]:
        """Open a page; return the status and where it redirects to."""
        headers = self._headers
        if self.cookies:
            pairs = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            headers = {**headers, "Cookie": pairs}
        status, answered = self._server.get(path, headers)
        for line in answered.get_all("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            if value and "Max-Age=0" not in line:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        return status, answered.get("Location", "")

    def page(self, path: str) -> None:
        """Open a page that must be shown. Raises ``WrongAnswer``."""
        status, location = self.get(path)
        if status != 200:
            raise WrongAnswer(f"{path} was answered with {status} {location}")

    def connect(self) -> str:
        """Sign in and return the path of the page that follows. Raises ``WrongAnswer``."""
        _, authorize = self.get("/login")
        if not authorize.startswith("https://"):
            raise WrongAnswer(f"/login leads to {authorize!r}")
        url = urlsplit(authorize)
        _, provider = self._provider.get(f"{url.path}?{url.query}", {})
        callback = urlsplit(provider["Location"])
        status, location = self.get(f"{callback.path}?{callback.query}")
        page = urlsplit(location).path
        if status not in (302, 303) or page != "/dashboard":
            raise WrongAnswer(f"the callback was answered with {status} {location}")
        return page

    def sign_in(self) -> None:
        """Sign in and open the page that it leads to. Raises ``WrongAnswer``."""
        self.page(self.connect())


class WrongAnswer(Exception):
    """A server did not do what the benchmark measures."""
