"""The product whose users connect OmniFund, and its nightly job, with Local OmniFund."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, delete, table, text

from pytest_omnifund import LocalOmniFund
from tests.examples.test_examples import started
from tests.support.browsing import Page, SimulatedBrowser
from tests.support.processes import free_port
from tests.support.programs import clean_environment, program
from tests.support.servers import REPOSITORY


@dataclass
class Site:
    """The running product."""

    url: str
    folder: Path
    variables: dict[str, str]

    def run(self, *command: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run one of the product's commands, as cron does."""
        environment = self.variables | {"PYTHONPATH": str(self.folder)} | changes
        return subprocess.run(
            command,
            cwd=self.folder,
            env=clean_environment(**environment),
            capture_output=True,
            text=True,
            check=False,
        )

    def care(self, command: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run ``flask omnifund …``."""
        flask = program("flask")
        return self.run(flask, "--app", "connect_app", "omnifund", command, **changes)

    def nightly(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "nightly.py", *arguments, **changes)

    @contextmanager
    def database(self) -> Iterator[Connection]:
        engine = create_engine(self.variables["DATABASE_URL"])
        with engine.begin() as db:
            yield db
        engine.dispose()


@pytest.fixture(scope="module")
def running_site(
    _running_local_omnifund: LocalOmniFund, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    port, folder = free_port(), tmp_path_factory.mktemp("product")
    variables = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "DATABASE_URL": f"sqlite:///{folder}/product.db",
        "OMNIFUND_BASE_URL": _running_local_omnifund.url,
        "OMNIFUND_CLIENT_ID": _running_local_omnifund.client_id,
        "OMNIFUND_CLIENT_SECRET": _running_local_omnifund.client_secret,
        "OMNIFUND_REDIRECT_URI": f"http://localhost:{port}/callback",
    }
    shutil.copy(REPOSITORY / "examples" / "nightly.py", folder)
    example = {"EXAMPLE_PORT": str(port), **variables}
    with started("connect", folder, programs=None, **example) as url:
        yield Site(url, folder, variables)


@pytest.fixture
def site(running_site: Site, local_omnifund: LocalOmniFund) -> Site:
    """The product without a user; the next one is number 1."""
    local_omnifund.redirect_uri = running_site.variables["OMNIFUND_REDIRECT_URI"]
    with running_site.database() as db:
        for name in ("users", "omnifund_connections", "omnifund_claims"):
            db.execute(delete(table(name)))
    return running_site


class Browser(SimulatedBrowser):
    """A browser at the product, and what its user does there."""

    def __init__(self, at: Site, omnifund: LocalOmniFund) -> None:
        super().__init__(at.url)
        self.omnifund = omnifund

    def register(self, name: str) -> None:
        self.press("/", "/users", name=name, password="a password")
        assert self.name == name

    def log_in(self, name: str) -> None:
        self.press("/", "/login", name=name, password="a password")
        assert self.name == name

    @property
    def name(self) -> str:
        """Who is logged in."""
        return self.get("/").text.partition("Logged in as <b>")[2].partition("<")[0]

    def authorize(self, press: str = "allow") -> str:
        """Press Connect, go to OmniFund, and press a button there; return the callback's URL."""
        return self.omnifund.approve(self.press("/", "/connect").headers["Location"], press=press)

    def connect(self) -> None:
        assert self.get(self.authorize()).headers["Location"] == "/"

    def state(self) -> tuple[str, int]:
        """The page's headline, and how many customers it shows."""
        page = self.get("/")
        assert page.status_code == 200, page
        return page.headline, page.text.count("<li>")


@pytest.fixture
def browser(site: Site, local_omnifund: LocalOmniFund) -> Browser:
    return Browser(site, local_omnifund)


CONNECTED = ("Your customers", 30)
NOT_CONNECTED = ("Connect OmniFund", 0)
ENDED = ("Reconnect OmniFund", 0)


def alert(page: Page) -> str:
    return page.text.partition('<p role="alert">')[2].partition("</p>")[0]


def test_a_user_connects_and_disconnects(browser: Browser) -> None:
    """M12: what disconnecting does not do is said where the button is."""
    browser.register("Ada")
    assert browser.state() == NOT_CONNECTED
    browser.connect()
    assert browser.state() == CONNECTED
    assert "OmniFund has no way to revoke them" in browser.get("/").text
    browser.press("/", "/disconnect")
    assert browser.state() == NOT_CONNECTED
    assert browser.name == "Ada"


def test_the_connection_is_the_users_and_not_the_browsers(browser: Browser, site: Site) -> None:
    browser.register("Ada")
    browser.connect()
    browser.press("/", "/logout")
    browser.register("Grace")
    assert browser.state() == NOT_CONNECTED
    elsewhere = Browser(site, browser.omnifund)
    elsewhere.log_in("Ada")
    assert elsewhere.state() == CONNECTED


def test_another_users_callback_is_refused(browser: Browser) -> None:
    """M1"""
    browser.register("Ada")
    callback = browser.authorize()
    browser.press("/", "/logout")
    logged_out = browser.get(callback)
    assert logged_out.status_code == 401
    browser.register("Grace")
    refused = browser.get(callback)
    assert (refused.status_code, alert(refused)[:44]) == (
        400,
        "This attempt to connect belongs to another u",
    )
    assert browser.state() == NOT_CONNECTED
    browser.press("/", "/logout")
    browser.log_in("Ada")
    assert browser.state() == NOT_CONNECTED
    browser.get(callback)
    assert browser.state() == CONNECTED, "the refused attempts have used nothing up"


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("token_503", 503, "OmniFund, or our database, does not respond now."),
        ("invalid_client", 502, "Something went wrong here."),
    ],
)
def test_a_failure_leaves_the_user_logged_in(
    browser: Browser, local_omnifund: LocalOmniFund, fault: str, status: int, words: str
) -> None:
    """M2"""
    browser.register("Ada")
    callback = browser.authorize()
    with local_omnifund.failing(fault):
        page = browser.get(callback)
    assert page.status_code == status, page
    assert alert(page).startswith(words)
    assert browser.name == "Ada"


def test_deny_leaves_the_user_logged_in(browser: Browser) -> None:
    """M2"""
    browser.register("Ada")
    page = browser.get(browser.authorize("deny"))
    assert page.status_code == 403
    assert alert(page) == "You chose Deny at OmniFund, so nothing was connected."
    assert browser.state() == NOT_CONNECTED
    assert browser.name == "Ada"


def test_after_15_days_without_use_the_user_reconnects(
    browser: Browser, site: Site, local_omnifund: LocalOmniFund
) -> None:
    """M2, M3"""
    browser.register("Ada")
    browser.connect()
    local_omnifund.clock.advance(days=15)
    assert browser.state() == ENDED
    assert browser.name == "Ada"
    assert site.care("keep-alive").returncode == 0, "an ended one is not due"
    browser.connect()
    assert browser.state() == CONNECTED


def test_a_wrong_secret_key_is_no_matter_of_the_user(browser: Browser, site: Site) -> None:
    """M5: nobody is asked to reconnect, and the right key opens everything again."""
    browser.register("Ada")
    browser.connect()
    wrong = site.nightly(SECRET_KEY=secrets.token_urlsafe(48))
    assert "ConnectionUnreadable" in wrong.stdout
    assert "reconnect" not in wrong.stdout
    assert wrong.returncode == 1
    assert site.nightly().returncode == 0


def test_the_nightly_job_goes_on_when_one_fails(browser: Browser, site: Site) -> None:
    """M7"""
    for name in ("Ada", "Grace", "Mary"):
        browser.register(name)
        browser.connect()
        browser.press("/", "/logout")
    everything = site.nightly("--days", "4000")
    assert everything.returncode == 0
    assert everything.stderr == ""
    rows = [line.split() for line in everything.stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert len({tuple(row[1:]) for row in rows}) == 1, "all connected the same account"
    assert int(rows[0][1]) > 100, "several pages"
    with site.database() as db:
        db.execute(text("UPDATE omnifund_connections SET record = 'rubbish' WHERE id = '2'"))
    one_broken = site.nightly()
    assert one_broken.returncode == 1
    outcomes = [line.split()[3:] for line in one_broken.stdout.splitlines()[1:]]
    assert outcomes == [["read"], ["failed:", "ConnectionUnreadable"], ["read"]]


def test_the_commands_tell_what_they_did(browser: Browser, site: Site) -> None:
    """M3, M15: run as from cron."""
    browser.register("Ada")
    browser.connect()
    assert site.care("keep-alive").stdout == "0 refreshed, 0 failed\n", "none is due"
    old, new = site.variables["SECRET_KEY"], secrets.token_urlsafe(48)
    resealed = site.care("reseal", SECRET_KEY=f"{new}, {old}")
    assert resealed.stdout == (
        "0 with the newest key, 1 with an older one until now, 0 unreadable\n"
    )
    assert site.care("reseal", SECRET_KEY=new).stdout.startswith("1 with the newest key, 0 ")
    unreadable = site.care("reseal")
    assert (unreadable.returncode, unreadable.stdout[-13:]) == (1, "1 unreadable\n")


def test_the_commands_say_plainly_that_the_database_fails(browser: Browser, site: Site) -> None:
    browser.register("Ada")
    browser.connect()
    keys = {"SECRET_KEY": f"{secrets.token_urlsafe(48)},{site.variables['SECRET_KEY']}"}
    busy = {"DATABASE_URL": f"{site.variables['DATABASE_URL']}?timeout=0", **keys}
    with site.database() as db:
        db.execute(text("UPDATE users SET name = name"))
        resealed = site.care("reseal", **busy)
    assert (resealed.returncode, resealed.stdout) == (1, "")
    assert resealed.stderr == (
        "Gave up; run it again later: another process keeps the database locked\n"
    )
    assert site.care("reseal", **keys).returncode == 0


def test_a_job_that_cannot_reach_the_database_says_so_in_one_line(site: Site) -> None:
    """Cron mails what a job prints."""
    nowhere = {"DATABASE_URL": "sqlite:////no/such/folder/product.db"}
    for job in (site.nightly(**nowhere), site.care("keep-alive", **nowhere)):
        assert (job.returncode, job.stdout) == (1, "")
        assert job.stderr == "The database does not respond.\n"


def test_a_file_that_is_no_database_is_one_line_too(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but a text of more than a hundred characters " * 9)
    job = site.care("keep-alive", DATABASE_URL=f"sqlite:///{file}")
    assert (job.returncode, job.stdout) == (1, "")
    assert job.stderr == "DATABASE_URL does not lead to a database of this product.\n"
