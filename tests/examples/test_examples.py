"""Each example, started beside a copy of ``omnifund/`` and nothing else, with Local OmniFund."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import secrets
import shlex
import shutil
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import requests

from local_omnifund import create_app
from local_omnifund.settings import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET, Settings
from tests.faults import provider as kit
from tests.faults.provider import HonestProvider
from tests.support.browsing import Page, SimulatedBrowser
from tests.support.environments import environment, pip
from tests.support.processes import free_port
from tests.support.programs import program, running
from tests.support.servers import REPOSITORY, serve
from tests.support.valkey import ValkeyServer

COMMANDS: dict[str, Callable[[int], list[str]]] = {
    "connect": lambda port: ["flask", "--app", "connect_app", "run", "--port", str(port)],
    "flask": lambda port: ["flask", "--app", "flask_app", "run", "--port", str(port)],
    "django": lambda port: ["gunicorn", "--bind", f"127.0.0.1:{port}", "django_app:application"],
    "fastapi": lambda port: [
        *("uvicorn", "fastapi_app:app", "--no-access-log", "--port", str(port)),
    ],
}
REDIRECT_URI = "http://localhost:8000/callback"
EXAMPLES = ("flask", "django", "fastapi")  # those that sign merchants in


@contextlib.contextmanager
def started(
    name: str, folder: Path, *, programs: Path | None = None, **variables: str
) -> Iterator[str]:
    """Run an example that is alone with ``omnifund/``; give its address.

    ``programs``: another virtual environment's, instead of this one's.
    """
    shutil.copytree(
        REPOSITORY / "omnifund", folder / "omnifund", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(REPOSITORY / "examples" / f"{name}_app.py", folder)
    port = int(variables.pop("EXAMPLE_PORT"))
    command, *arguments = COMMANDS[name](port)
    variables = {"SECRET_KEY": secrets.token_urlsafe(48), **variables, "PYTHONPATH": str(folder)}
    command = program(command) if programs is None else str(programs / command)
    with running([command, *arguments], port, variables, folder=folder):
        yield f"http://localhost:{port}"


@dataclass(frozen=True)
class Site:
    """A running example. ``name`` is the framework's."""

    name: str
    url: str
    omnifund_url: str
    valkey: ValkeyServer

    def tokens(self) -> set[bytes]:
        """The keys of all tokens in Redis."""
        with self.valkey.client() as client:
            return set(client.keys("omnifund:{*}:token"))

    def make_fail(self, fault: str) -> None:
        """Have Local OmniFund fail once."""
        answer = requests.post(f"{self.omnifund_url}/faults", json={"id": fault}, timeout=10)
        assert answer.status_code == 201, answer.text


@pytest.fixture(scope="module", params=EXAMPLES)
def site(
    request: pytest.FixtureRequest,
    valkey: ValkeyServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """An example and Local OmniFund; the tests of this module share them."""
    valkey.flush()
    port = free_port()
    with (
        serve(create_app(Settings(valkey.url, app_port=port))) as omnifund,
        started(
            request.param,
            tmp_path_factory.mktemp(request.param),
            EXAMPLE_PORT=str(port),
            REDIS_URL=valkey.url,
            OMNIFUND_BASE_URL=omnifund.url,
            OMNIFUND_CLIENT_ID=DEMO_CLIENT_ID,
            OMNIFUND_CLIENT_SECRET=DEMO_CLIENT_SECRET,
            OMNIFUND_REDIRECT_URI=f"http://localhost:{port}/callback",
        ) as url,
    ):
        yield Site(request.param, url, omnifund.url, valkey)


class Merchant(SimulatedBrowser):
    """A merchant's browser at an example."""

    def __init__(self, at: Site) -> None:
        super().__init__(at.url)
        self.at = at

    def get(self, url: str, params: Any = None, **more: Any) -> Page:
        """Open a page. Each page of an example may be a merchant's own, so no browser keeps it."""
        page = super().get(url, params, **more)
        if page.url.startswith(self.at.url):
            assert "no-store" in page.headers["Cache-Control"]
        return page

    def authorize(self, button: str = "accepted") -> str:
        """Go to OmniFund and press ``button`` there; return the callback's URL."""
        return self.authorize_at(self.get("/login").headers["Location"], button)

    def sign_in(self) -> None:
        """Sign in."""
        assert self.get(self.authorize()).headers["Location"] == "/"

    def customers(self) -> int | None:
        """How many customers the front page shows; ``None`` when it shows a way to sign in."""
        page = self.get("/")
        assert page.status_code == 200, page
        if self.at.name == "fastapi":
            return len(page.json()["customers"]) if page.json()["signed_in"] else None
        return None if "Sign in with OmniFund" in page.text else page.text.count("<li>")

    def sign_out(self) -> Page:
        """Press the button of the front page, or do what a script would do for it."""
        if self.at.name == "fastapi":
            return self.post("/logout")
        return self.press("/", "/logout")


@pytest.fixture
def merchant(site: Site) -> Merchant:
    return Merchant(site)


def problem(answer: requests.Response) -> tuple[int, Any]:
    """The status, and the failure's name."""
    return answer.status_code, answer.json()["problem"]


def test_a_merchant_signs_in_and_sees_customers(merchant: Merchant) -> None:
    assert merchant.customers() is None
    merchant.sign_in()
    assert merchant.customers() == 30


def test_the_callback_may_be_reloaded(merchant: Merchant) -> None:
    callback = merchant.authorize()
    for _ in range(2):
        assert merchant.get(callback).headers["Location"] == "/"
        assert merchant.customers() == 30


def test_a_denial_is_403(merchant: Merchant) -> None:
    assert problem(merchant.get(merchant.authorize("rejected"))) == (403, "AccessDenied")


def test_a_forged_callback_and_another_browsers_are_400(merchant: Merchant, site: Site) -> None:
    forged = f"/callback?code=x&state={'A' * 43}"
    for callback in (forged, merchant.authorize()):
        assert problem(Merchant(site).get(callback)) == (400, "InvalidState")


def test_omnifund_out_of_order_is_503_and_says_when_to_try_again(
    merchant: Merchant, site: Site
) -> None:
    callback = merchant.authorize()
    site.make_fail("token_503")
    answer = merchant.get(callback)
    assert problem(answer) == (503, "OmniFundUnavailable")
    assert int(answer.headers["Retry-After"]) > 0


def test_what_the_merchant_may_not_see_is_403(merchant: Merchant, site: Site) -> None:
    merchant.sign_in()
    site.make_fail("api_403")
    assert problem(merchant.get("/")) == (403, "AccessForbidden")


def test_a_connection_that_has_ended_means_signing_in_once_more(
    merchant: Merchant, site: Site
) -> None:
    before = site.tokens()
    merchant.sign_in()
    with redis.Redis.from_url(site.valkey.url) as client:
        client.delete(*(site.tokens() - before))
    answer = merchant.get("/")
    if site.name == "fastapi":
        assert problem(answer) == (401, "ConnectionNotFound")
    else:
        assert answer.headers["Location"] == "/login"
    assert merchant.customers() is None


def test_signing_in_again_takes_the_place_of_the_connection_before(
    merchant: Merchant, site: Site
) -> None:
    before = site.tokens()
    merchant.sign_in()
    thief = Merchant(site)
    thief.cookies.update(merchant.cookies)
    assert thief.customers() == 30
    merchant.sign_in()
    assert merchant.customers() == 30
    assert len(site.tokens() - before) == 1
    answer = thief.get("/")
    assert answer.is_redirect or answer.status_code == 401


def test_signing_out_deletes_the_token(merchant: Merchant, site: Site) -> None:
    before = site.tokens()
    merchant.sign_in()
    assert site.tokens() != before
    assert merchant.sign_out().headers["Location"] == "/"
    assert site.tokens() == before
    assert merchant.customers() is None


def test_another_site_ends_no_session(merchant: Merchant, site: Site) -> None:
    merchant.sign_in()
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}
    answer = merchant.post(f"{site.url}/logout", headers=headers, timeout=30)
    assert answer.status_code in (400, 403)
    assert merchant.customers() == 30


def test_a_link_ends_no_session(merchant: Merchant) -> None:
    merchant.sign_in()
    assert merchant.get("/logout").status_code == 405
    assert merchant.customers() == 30


def test_a_browser_keeps_seven_pending_requests_and_the_newest_work(merchant: Merchant) -> None:
    for _ in range(9):
        merchant.get("/login")
    callback = merchant.authorize()
    names = [cookie.name for cookie in merchant.cookies]
    assert len([name for name in names if "attempt" in name]) == 7
    assert merchant.get(callback).headers["Location"] == "/"


def test_no_token_is_in_the_browser(merchant: Merchant) -> None:
    """D1"""
    sent_to = merchant.get("/login").headers["Location"]
    # Another browser goes to OmniFund: only the example's cookies are in this one.
    merchant.get(SimulatedBrowser(merchant.at.omnifund_url).authorize_at(sent_to))
    assert merchant.customers() is not None
    readable = b""
    for cookie in merchant.cookies:
        readable += str(cookie.value).encode()
        # A session of one of these frameworks is signed, not sealed: anybody can read it.
        for word in re.findall(r"[\w-]{20,}", str(cookie.value)):
            with contextlib.suppress(binascii.Error, zlib.error):
                decoded = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
                readable += decoded
                readable += zlib.decompress(decoded)
    assert b'"connection"' in readable
    # OmniFund's tokens are hexadecimal digits in base64, so every fourth letter is one of five.
    assert not re.search(rb"(?:[MNOYZ][A-Za-z0-9]{3}){20}", readable)


# --- alone ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """What an example returned during a sign-in without a browser."""

    login: requests.Response
    callback: requests.Response


@contextlib.contextmanager
def with_provider(
    name: str, folder: Path, redis_url: str, redirect_uri: str, **more: Any
) -> Iterator[tuple[HonestProvider, str]]:
    """Run an example with a provider that approves every request; give both, by its address."""
    with (
        HonestProvider() as provider,
        started(
            name,
            folder,
            EXAMPLE_PORT=str(free_port()),
            REDIS_URL=redis_url,
            OMNIFUND_BASE_URL=provider.url,
            OMNIFUND_CLIENT_ID="an id",
            OMNIFUND_CLIENT_SECRET=secrets.token_hex(16),
            OMNIFUND_REDIRECT_URI=redirect_uri,
            **more,
        ) as url,
    ):
        yield provider, url


def sign_in_at(url: str) -> Answers:
    """Sign in at an example."""
    login = requests.get(f"{url}/login", allow_redirects=False, timeout=30)
    approved = requests.get(login.headers["Location"], allow_redirects=False, timeout=30)
    back = urlsplit(approved.headers["Location"])
    callback = requests.get(
        f"{url}/callback?{back.query}",
        headers={"Cookie": login.headers["Set-Cookie"].partition(";")[0]},
        allow_redirects=False,
        timeout=30,
    )
    assert callback.headers["Location"] == "/"
    return Answers(login, callback)


@pytest.mark.parametrize("name", EXAMPLES)
def test_with_https_the_cookies_insist_on_it(name: str, tmp_path: Path, redis_url: str) -> None:
    """The redirect URI says that there is a proxy that speaks https; here there is none."""
    with with_provider(name, tmp_path, redis_url, "https://localhost/callback") as (_, url):
        answers = sign_in_at(url)
    assert answers.login.headers["Set-Cookie"].startswith("__Host-omnifund_attempt_")
    for answer in (answers.login, answers.callback):
        flags = {flag.strip().lower() for flag in answer.headers["Set-Cookie"].split(";")[1:]}
        assert flags >= {"httponly", "secure", "path=/", "samesite=lax"}


def installed(folder: Path, page: str, *more: str) -> Path:
    """Run the page's only ``pip install`` in an empty environment; return its programs' folder."""
    text = (REPOSITORY / "docs" / page).read_text()
    (packages,) = re.findall(r"^ *pip install (.+)$", text, re.MULTILINE)
    programs = environment(folder / "venv")
    install = [*pip(programs), "install", "--no-compile", *shlex.split(packages), *more]
    subprocess.run(install, cwd=REPOSITORY, check=True)
    return programs


def test_what_a_page_tells_to_install_is_enough(tmp_path: Path, redis_url: str) -> None:
    """M14: with what a Flask app has anyway, and a copy of ``omnifund/``."""
    programs = installed(tmp_path, "take-it-with-you.md", "Flask", "Flask-WTF")
    with with_provider("flask", tmp_path, redis_url, REDIRECT_URI, programs=programs) as (_, url):
        sign_in_at(url)


def test_what_the_page_about_connecting_tells_to_install_is_enough(tmp_path: Path) -> None:
    """M14: the package itself, with SQL, instead of a copy."""
    programs, port = installed(tmp_path, "connect-your-users.md"), free_port()
    shutil.copy(REPOSITORY / "examples" / "connect_app.py", tmp_path)
    variables = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "OMNIFUND_BASE_URL": "http://localhost:9",
        "OMNIFUND_CLIENT_ID": "an id",
        "OMNIFUND_CLIENT_SECRET": "a secret",
        "OMNIFUND_REDIRECT_URI": f"http://localhost:{port}/callback",
        "PYTHONPATH": str(tmp_path),
    }
    command, *arguments = COMMANDS["connect"](port)
    with running([str(programs / command), *arguments], port, variables, folder=tmp_path):
        assert "Log in" in requests.get(f"http://localhost:{port}", timeout=30).text
    assert (tmp_path / "product.db").exists()


def test_five_requests_that_wait_for_omnifund_leave_the_event_loop_free(
    tmp_path: Path, redis_url: str
) -> None:
    """M11: FastAPI serves its own description in the event loop."""
    released = threading.Event()
    with (
        with_provider("fastapi", tmp_path, redis_url, REDIRECT_URI) as (provider, url),
        ThreadPoolExecutor(5) as pool,
    ):
        session = sign_in_at(url).callback.headers["Set-Cookie"].partition(";")[0]
        customers = kit.json_answer({"hydra:member": []})
        provider.next_api_answer(*[kit.hold(released, customers)] * 5)
        waiting = [
            pool.submit(requests.get, url, headers={"Cookie": session}, timeout=60)
            for _ in range(5)
        ]
        try:
            provider.wait_for("/api/customers", 5)
            assert requests.get(f"{url}/openapi.json", timeout=30).status_code == 200
            assert not any(each.done() for each in waiting)
        finally:
            released.set()
        assert [each.result().status_code for each in waiting] == [200] * 5
