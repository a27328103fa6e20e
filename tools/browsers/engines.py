"""Chromium, Firefox, and WebKitGTK behind one interface: what a person does in a browser."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from marionette_driver import By
from marionette_driver.marionette import Marionette
from playwright.sync_api import Page, sync_playwright
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import WebKitGTK, WebKitGTKOptions, WebKitGTKService

from tests.support.browser import ARGUMENTS, find_chromium
from tests.support.processes import free_port, wait_until

DISPLAY: Final = ":97"
WEBKIT: Final = "/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser"
PACKAGES: Final = {
    "firefox-esr": "firefox-esr",
    "WebKitWebDriver": "webkit2gtk-driver",
    "Xvfb": "xvfb",
}
"""Programs, and Debian's packages that bring them."""

Colors = Literal["light", "dark", "forced"]


class Engine(Protocol):
    """A browser with one window. Elements are named by XPath."""

    def open(self, url: str) -> None: ...
    def click(self, xpath: str) -> None: ...
    def type(self, xpath: str, text: str) -> None: ...
    def run(self, script: str) -> Any: ...
    def open_tab(self) -> None: ...
    def go_to_tab(self, number: int) -> None: ...
    def resize(self, width: int, height: int) -> None: ...
    def picture(self) -> bytes: ...
    def version(self) -> str: ...


class _Chromium:
    def __init__(self, page: Page) -> None:
        self.page = page

    def open(self, url: str) -> None:
        self.page.goto(url)

    def click(self, xpath: str) -> None:
        self.page.locator(f"xpath={xpath}").first.click()

    def type(self, xpath: str, text: str) -> None:
        self.page.locator(f"xpath={xpath}").first.fill(text)

    def run(self, script: str) -> Any:
        return self.page.evaluate(f"() => {{ {script} }}")

    def open_tab(self) -> None:
        self.page = self.page.context.new_page()

    def go_to_tab(self, number: int) -> None:
        self.page = self.page.context.pages[number]

    def resize(self, width: int, height: int) -> None:
        self.page.set_viewport_size({"width": width, "height": height})

    def picture(self) -> bytes:
        return self.page.screenshot()

    def version(self) -> str:
        browser = self.page.context.browser
        return f"Chromium {browser.version if browser else ''}"


class _Firefox:
    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.navigate(url)

    def click(self, xpath: str) -> None:
        self.driver.find_element(By.XPATH, xpath).click()

    def type(self, xpath: str, text: str) -> None:
        field = self.driver.find_element(By.XPATH, xpath)
        field.clear()
        field.send_keys(text)

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def open_tab(self) -> None:
        self.driver.switch_to_window(self.driver.open(type="tab")["handle"])

    def go_to_tab(self, number: int) -> None:
        self.driver.switch_to_window(self.driver.window_handles[number])

    def resize(self, width: int, height: int) -> None:
        with self.driver.using_context("chrome"):  # whose own style asks for 500 pixels
            self.run("document.documentElement.style.minWidth = 0")
        # The window's frame and tab bar come on top of what the page gets.
        for _ in range(2):
            inner = self.run("return [innerWidth, innerHeight]")
            outer = self.driver.window_rect
            self.driver.set_window_rect(
                width=outer["width"] + width - inner[0], height=outer["height"] + height - inner[1]
            )

    def picture(self) -> bytes:
        return base64.b64decode(self.driver.screenshot(full=False))

    def version(self) -> str:
        return f"Firefox {self.driver.session_capabilities['browserVersion']}"


class _WebKit:
    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def click(self, xpath: str) -> None:
        self.driver.find_element("xpath", xpath).click()

    def type(self, xpath: str, text: str) -> None:
        field = self.driver.find_element("xpath", xpath)
        field.clear()
        field.send_keys(text)

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def open_tab(self) -> None:
        self.driver.switch_to.new_window("tab")

    def go_to_tab(self, number: int) -> None:
        self.driver.switch_to.window(self.driver.window_handles[number])

    def resize(self, width: int, height: int) -> None:
        self.driver.set_window_size(width, height)

    def picture(self) -> bytes:
        # The driver waits for the next frame, and a page at rest may never draw one.
        self.run(
            "let n = 0;"
            "painting = setInterval(() => { document.body.style.opacity = 1 - n++ % 2 / 500; }, 20)"
        )
        picture: bytes = self.driver.get_screenshot_as_png()
        self.run("clearInterval(painting); document.body.style.opacity = 1")
        return picture

    def version(self) -> str:
        return f"WebKitGTK {self.driver.capabilities['browserVersion']}"


@contextlib.contextmanager
def chromium(colors: Colors = "light") -> Iterator[Engine]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        # A picture of something that moves would be another one each time.
        page = browser.new_context(
            color_scheme="dark" if colors == "dark" else "light",
            forced_colors="active" if colors == "forced" else "none",
            reduced_motion="reduce",
        ).new_page()
        page.set_default_timeout(15_000)
        yield _Chromium(page)
        browser.close()


@contextlib.contextmanager
def firefox(colors: Colors = "light") -> Iterator[Engine]:
    prefs: dict[str, Any] = {"marionette.port": free_port(), "ui.prefersReducedMotion": 1}
    prefs["layout.css.prefers-color-scheme.content-override"] = 0 if colors == "dark" else 1
    if colors == "forced":
        prefs["browser.display.document_color_use"] = 2
    with tempfile.TemporaryDirectory() as log:
        driver = Marionette(
            host="127.0.0.1",
            port=prefs["marionette.port"],
            bin=shutil.which("firefox-esr"),
            headless=True,
            prefs=prefs,
            startup_timeout=60,
            gecko_log=log,
        )
        driver.start_session()
        driver.timeout.implicit = 15
        try:
            yield _Firefox(driver)
        finally:
            driver.quit(in_app=False)


@contextlib.contextmanager
def webkit(colors: Colors = "light") -> Iterator[Engine]:
    """WebKitGTK on a virtual screen; it knows no forced colors."""
    display = subprocess.Popen(
        ["Xvfb", DISPLAY, "-screen", "0", "1400x1000x24"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    socket = Path(f"/tmp/.X11-unix/X{DISPLAY[1:]}")  # noqa: S108 - X11's own place
    wait_until(socket.exists, what="Xvfb")
    options = WebKitGTKOptions()
    options.binary_location = WEBKIT
    options.add_argument("--automation")
    environment = {**os.environ, "DISPLAY": DISPLAY, "WEBKIT_DISABLE_COMPOSITING_MODE": "1"}
    environment["GTK_THEME"] = "Adwaita:dark" if colors == "dark" else "Adwaita"
    service = WebKitGTKService(shutil.which("WebKitWebDriver") or "", env=environment)
    try:
        driver = WebKitGTK(options=options, service=service)
        driver.implicitly_wait(15)
        # Without these, a navigation that never ends would be waited for without end.
        driver.set_page_load_timeout(30)
        yield _WebKit(driver)
        with contextlib.suppress(WebDriverException):
            driver.quit()
    finally:
        service.stop()
        display.terminate()
        display.wait()
