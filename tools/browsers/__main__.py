"""``make browsers``: the journey in Chromium, Firefox, and WebKitGTK, with pictures side by side.

On Debian as root it installs Firefox ESR, WebKitGTK's driver, and Xvfb. ``FOLDER`` says where the
pictures go, by default ``.browsers``. The exit status is 0 if every step held in every engine.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from tests.support.browsing import PASSWORD, USERNAME
from tests.support.processes import wait_until
from tests.support.stack import Stack, running_stack
from tests.support.valkey import ValkeyServer
from tools.browsers import engines
from tools.browsers.engines import Engine
from tools.install_programs import install

FOLDER: Final = Path(os.environ.get("FOLDER") or ".browsers")
DESKTOP: Final = (1280, 860)
PHONE: Final = (320, 720)
PAGES: Final = (
    *("/", "/dashboard", "/customers", "/transactions", "/transactions?kind=pending", "/x"),
    *("/inspector", "/inspector/example", "/inspector/step-through"),
    *("/lab", "/lab/deny", "/lab/five-tabs", "/lab/naive"),
)
PORTAL: Final = ("/", "/customers", "/transactions", "/profile/api-access", "/faults", "/x")
Start = Callable[..., AbstractContextManager[Engine]]
ENGINES: Final[dict[str, Start]] = {
    "chromium": engines.chromium,
    "firefox": engines.firefox,
    "webkit": engines.webkit,
}


def named(text: str) -> str:
    """The link or button of that name."""
    return f"//*[self::a or self::button][normalize-space()='{text}']"


class Journey:
    """What a person does, step by step. ``held`` and ``failed``: the steps, by their titles."""

    def __init__(self, engine: Engine, stack: Stack, name: str) -> None:
        self.engine, self.stack, self.name = engine, stack, name
        self.held: list[str] = []
        self.failed: list[str] = []

    def step(self, what: Callable[[], None]) -> None:
        """Do one step; a failure is printed, and the next ones are tried all the same."""
        title = (what.__doc__ or "").rstrip(".")
        try:
            what()
            self.held.append(title)
            print(f"  ok      {title}", flush=True)
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, the rest is tried
            self.failed.append(title)
            print(f"  FAILED  {title}: {type(error).__name__}: {error}", flush=True)

    def shows(self, text: str, at: str = "") -> None:
        """Wait until the page shows ``text``, at an address that begins with ``at``."""

        def ready() -> bool:
            found = self.engine.run(
                "return [location.href, document.body.innerText, document.readyState]"
            )
            return text in found[1] and found[0].startswith(at) and found[2] == "complete"

        # A page that is being left has no body for a moment.
        wait_until(lambda: quietly(ready), seconds=20, what=f"{text!r}")

    def sees(self, path: str) -> None:
        self.engine.open(self.stack.url + path)

    def shoot(self, name: str) -> None:
        FOLDER.joinpath(f"{name}-{self.name}.png").write_bytes(self.engine.picture())

    # --- the steps -------------------------------------------------------------------------------

    def deny(self) -> None:
        """Sign in at OmniFund and press Deny."""
        self.engine.resize(*DESKTOP)
        self.sees("/")
        self.shows("Sign in with OmniFund")
        self.shoot("landing")
        self.engine.click(named("Sign in with OmniFund"))
        self.shows("Sign in to OmniFund")
        self.engine.type("//input[@id='username']", USERNAME)
        self.engine.type("//input[@id='password']", PASSWORD)
        self.engine.click(named("Sign in"))
        self.shows("Allow")
        self.shoot("consent")
        self.engine.click(named("Deny"))
        self.shows("Deny", self.stack.url)

    def allow(self) -> None:
        """Sign in again and press Allow."""
        self.engine.click(named("Sign in again"))
        self.shows("Allow", self.stack.omnifund_url)
        self.engine.click(named("Allow"))
        self.shows("Refresh now", f"{self.stack.url}/dashboard")
        self.shoot("dashboard")

    def reload(self) -> None:
        """Reload, and stay signed in."""
        self.engine.run("window.isLeft = true; location.reload()")
        wait_until(
            lambda: quietly(lambda: not self.engine.run("return window.isLeft")), what="the reload"
        )
        self.shows("Refresh now", f"{self.stack.url}/dashboard")

    def refresh(self) -> None:
        """Refresh the tokens by a form."""
        self.engine.click(named("Refresh now"))
        self.shows("refreshed", f"{self.stack.url}/dashboard")

    def customers(self) -> None:
        """See 30 customers."""
        self.sees("/customers")
        self.shows("Customers")
        assert self.engine.run("return document.querySelectorAll('tbody tr').length") == 30
        self.shoot("customers")

    def back(self) -> None:
        """Go back to the dashboard."""
        self.engine.run("history.back()")
        self.shows("Refresh now", f"{self.stack.url}/dashboard")

    def thief(self) -> None:
        """Place the thief everywhere; the secret and the tokens together are worth most."""
        self.sees("/inspector")
        for loss in ("history", "log", "redis", "cookie", "secret", "tokens"):
            self.engine.click(f"//input[@id='thief-{loss}']")
        self.shows("He has the connection.")
        self.shoot("thief")

    def step_through(self) -> None:
        """Step through a sign-in: the wrong verifier is refused, the right one is not."""
        self.sees("/inspector/step-through")
        self.engine.click(named("Send to OmniFund"))
        self.shows("Allow", self.stack.omnifund_url)
        self.engine.click(named("Allow"))
        self.shows("Hand it to the app")
        self.engine.click(named("Hand it to the app"))
        self.shows("The app accepted the callback")
        self.shoot("step-through")
        self.engine.click("//input[@value='code_verifier']")
        self.engine.click(named("Send"))
        self.shows("OmniFund objected")
        self.engine.click("//input[@value='code_verifier']")
        self.engine.click(named("Send it again"))
        self.shows("Nobody objected")

    def five_tabs(self) -> None:
        """Open five tabs; one refreshes, and the picture is drawn."""
        self.sees("/lab/five-tabs")
        self.engine.click(named("Open five tabs"))
        self.shows("5 of 5 requests returned your customers. Refresh requests sent to OmniFund: 1.")
        self.shows("1 of 5 tabs refreshed, 4 waited, 5 returned your customers.")
        self.shoot("five-tabs")

    def naive_client(self) -> None:
        """Send the naive client and this app through the same failure."""
        self.sees("/lab/naive")
        self.engine.click("//*[@id='replayed_callback']//button")
        self.shows("goes wrong")
        self.shows("holds")
        self.shoot("comparison")

    def every_page(self) -> None:
        """Every page of both applications has a picture."""
        for name, url in self.everything():
            self.engine.open(url)
            self.shows("OmniFund", url.partition("?")[0])
            self.shoot(f"desktop-{name}")

    def everything(self) -> list[tuple[str, str]]:
        """Return the name and the URL of each page that a link leads to."""
        both = (("app", self.stack.url, PAGES), ("portal", self.stack.omnifund_url, PORTAL))
        return [
            (f"{name}{re.sub('[^a-z]+', '-', path).rstrip('-')}", url + path)
            for name, url, paths in both
            for path in paths
        ]

    def narrow(self) -> None:
        """No page is too wide for 320 pixels, or the narrowest window that there is."""
        self.engine.resize(*PHONE)
        for name, url in self.everything():
            self.engine.open(url)
            self.shows("OmniFund", url.partition("?")[0])
            wide = self.engine.run("return document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{url} is {wide} pixels too wide"
            self.shoot(f"phone-{name}")
        self.engine.resize(*DESKTOP)

    def two_tabs(self) -> None:
        """Sign out in a second tab, and the first one knows."""
        self.sees("/dashboard")
        self.engine.open_tab()
        self.sees("/dashboard")
        self.shows("Refresh now")
        self.engine.click(named("Sign out"))
        self.shows("Sign in with OmniFund")
        self.engine.go_to_tab(0)
        self.sees("/customers")
        self.shows("Sign in to continue")

    def other_name(self) -> None:
        """Begin at 127.0.0.1, and end signed in at localhost."""
        self.engine.open(self.stack.url.replace("localhost", "127.0.0.1") + "/")
        self.shows("Sign in with OmniFund")
        self.engine.click(named("Sign in with OmniFund"))
        self.shows("Allow", self.stack.omnifund_url)
        self.engine.click(named("Allow"))
        self.shows("Refresh now", f"{self.stack.url}/dashboard")

    def forced_colors(self) -> None:
        """Forced colors are on, and the pages that need no sign-in are read."""
        self._read("forced-colors: active")

    def dark(self) -> None:
        """The color scheme is dark, and the pages that need no sign-in are read."""
        self._read("prefers-color-scheme: dark")

    def _read(self, feature: str) -> None:
        self.engine.resize(*DESKTOP)
        for path in ("/", "/inspector/example", "/lab", "/inspector/step-through", "/x"):
            self.sees(path)
            self.shows("OmniFund", self.stack.url + path)
            assert self.engine.run(f"return matchMedia('({feature})').matches")
            self.shoot(f"{feature.partition(':')[0]}{path.rstrip('/').replace('/', '-')}")


def quietly(condition: Callable[[], bool]) -> bool:
    with contextlib.suppress(Exception):
        return condition()
    return False


def journey(name: str, start: Start, stack: Stack) -> Journey:
    """Go through the whole journey in one engine."""
    with start() as engine:
        print(f"{name}: {engine.version()}", flush=True)
        it = Journey(engine, stack, name)
        steps = [it.deny, it.allow, it.reload, it.refresh, it.customers, it.back]
        if name == "webkit":
            # Its driver hangs on Back from a page with Cross-Origin-Opener-Policy.
            steps.remove(it.back)
        steps += [it.thief, it.step_through, it.five_tabs, it.naive_client]
        for step in [*steps, it.every_page, it.narrow, it.two_tabs, it.other_name]:
            it.step(step)
    with start("dark") as engine:
        it.engine = engine
        it.step(it.dark)
    if name != "webkit":  # which knows no forced colors
        with start("forced") as engine:
            it.engine = engine
            it.step(it.forced_colors)
    return it


def side_by_side() -> None:
    """Write a page with the same picture of every engine in a row."""
    names = sorted({path.stem.rpartition("-")[0] for path in FOLDER.glob("*.png")})
    rows = "".join(
        f"<h2>{name}</h2><div>"
        + "".join(
            f'<figure><img src="{name}-{engine}.png" alt="">'
            f"<figcaption>{engine}</figcaption></figure>"
            for engine in ENGINES
            if (FOLDER / f"{name}-{engine}.png").exists()
        )
        + "</div>"
        for name in names
    )
    style = "div{display:flex;gap:1rem}figure{margin:0;flex:1}img{max-width:100%}"
    (FOLDER / "index.html").write_text(f"<!doctype html><style>{style}</style>{rows}")


def main() -> int:
    """Return the exit status."""
    # The start of an engine says what is missing after that.
    if missing := [name for program, name in engines.PACKAGES.items() if not shutil.which(program)]:
        install(*missing)
    FOLDER.mkdir(parents=True, exist_ok=True)
    done = []
    for name in sys.argv[1:] or ENGINES:
        with ValkeyServer() as valkey, running_stack(valkey.url, log_level="ERROR") as stack:
            done.append(journey(name, ENGINES[name], stack))
    side_by_side()
    failed = sum(len(each.failed) for each in done)
    held = sum(len(each.held) for each in done)
    print(f"{held} steps held, {failed} failed; pictures: {FOLDER / 'index.html'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
