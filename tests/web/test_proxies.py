"""The app behind nginx and Caddy, with the files of ``deploy/``, below a path of their host."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.faults import provider as kit
from tests.faults.provider import ScriptedProvider
from tests.support.browsing import SimulatedBrowser, form_to
from tests.support.processes import free_port, wait_until
from tests.support.proxies import (
    caddy,
    caddyfile,
    certificate_for_localhost,
    nginx,
    nginx_site,
    without_tls,
)
from tests.support.rig import Rig, rig


@dataclass
class Front:
    """The app at ``url``, behind a proxy with a certificate that ``authority`` has signed."""

    url: str
    authority: Path
    rig: Rig

    def browser(self) -> SimulatedBrowser:
        browser = SimulatedBrowser(self.url)
        browser.http.verify = str(self.authority)
        return browser


@contextlib.contextmanager
def front(redis_url: str, folder: Path, kind: str, *, strips: bool) -> Iterator[Front]:
    """One proxy with TLS, or ``caddy+nginx``: Caddy with TLS in front of nginx without."""
    port, certificate = free_port(), certificate_for_localhost(folder)
    both, authority = certificate
    chained = kind == "caddy+nginx"
    options: dict[str, Any] = {
        "omnifund_redirect_uri": f"https://localhost:{port}/pay/callback",
        "allowed_hosts": ("localhost",),
        "trusted_proxies": 2 if chained else 1,
        "rate_limits": chained,
    }
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(rig(redis_url, **options))
        upstream = int(running.url.rpartition(":")[2])
        if chained:
            inner = free_port()
            site = without_tls(nginx_site(upstream, inner, both, path="/pay", strips=strips))
            stack.enter_context(nginx(site, inner))
            upstream, strips = inner, False
        if kind == "nginx":
            site = nginx_site(upstream, port, both, path="/pay", strips=strips)
            stack.enter_context(nginx(site, port))
        else:
            outer = caddyfile(upstream, port, both, path="/pay", strips=strips)
            stack.enter_context(caddy(outer, port))
        yield Front(f"https://localhost:{port}", authority, running)


@pytest.mark.parametrize("strips", [False, True], ids=["keeps the path", "strips the path"])
@pytest.mark.parametrize("kind", ["nginx", "caddy", "caddy+nginx"])
def test_the_journey_through_a_proxy_below_a_path(
    redis_url: str, tmp_path: Path, kind: str, strips: bool
) -> None:
    """K39: sign in, a deep link, a form, a file, signing out; then HTTP/2, and the metrics."""
    with front(redis_url, tmp_path, kind, strips=strips) as site, site.browser() as browser:
        asked = browser.get("/pay/customers?page=2")
        assert asked.headers["Location"] == "/pay/login?next=/pay/customers%3Fpage%3D2"
        started = browser.get(asked.headers["Location"])
        callback = browser.authorize_at(started.headers["Location"])
        assert callback.startswith(f"{site.url}/pay/callback?")
        signed_in = browser.get(callback)
        assert signed_in.headers["Location"] == "/pay/customers?page=2"
        assert browser.get(signed_in.headers["Location"]).status_code == 200
        dashboard = browser.get("/pay/dashboard")
        refreshed = browser.submit(form_to(dashboard, "/pay/token/refresh"), follow=True)
        assert "Tokens refreshed" in refreshed.text
        assert site.rig.provider.refreshes == 1
        style = browser.get("/pay/static/app.css")
        assert style.status_code == 200
        assert style.headers["Content-Encoding"] in ("gzip", "zstd")
        left = browser.submit(form_to(dashboard, "/pay/logout"))
        assert left.headers["Location"] == "/pay/"
        for path in ("/metrics", "/pay/metrics"):
            assert browser.get(path).status_code == 404
        assert version_and_status(site, "/pay/") == "2 200"


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_a_name_with_underscores_does_not_pass_for_a_header_of_the_proxys(
    tmp_path: Path, kind: str
) -> None:
    """G5: to WSGI both are HTTP_X_FORWARDED_FOR. gunicorn drops such a name, granian does not."""
    both, authority = certificate_for_localhost(tmp_path)
    port = free_port()
    with ScriptedProvider() as upstream:
        upstream.on("GET", "/", kit.json_answer({}))
        if kind == "nginx":
            proxy = nginx(nginx_site(upstream.port, port, both, strips=False), port)
        else:
            proxy = caddy(caddyfile(upstream.port, port, both, path="", strips=False), port)
        made_up = {"X_Forwarded_For": "192.0.2.1", "X-Forwarded_Host": "evil.example"}
        made_up |= {"X-Forwarded-Host": "evil.example", "X-Forwarded-Port": "666"}
        with proxy:
            url = f"https://localhost:{port}/"
            requests.get(url, headers=made_up, verify=str(authority), timeout=10)
        (received,) = upstream.received("/")
    assert received.header("X-Forwarded-For") == "127.0.0.1"
    assert [name for name, _value in received.headers if "_" in name] == []
    assert [name for name, value in received.headers if value in ("evil.example", "666")] == []


def test_nginx_writes_no_query_into_its_log(tmp_path: Path) -> None:
    """D2: a callback's holds a code."""
    both, authority = certificate_for_localhost(tmp_path)
    port = free_port()
    with ScriptedProvider() as upstream:
        upstream.on("GET", "/callback", kit.json_answer({}))
        with nginx(nginx_site(upstream.port, port, both, strips=False), port) as folder:
            url = f"https://localhost:{port}/callback?code=hush&state=hush"
            requests.get(url, verify=str(authority), timeout=10)
            log = folder / "access.log"
            wait_until(lambda: "GET /callback" in log.read_text(), what="the line")
            assert "hush" not in log.read_text()


def version_and_status(site: Front, path: str) -> str:
    """What curl says of a request that asks for HTTP/2."""
    command = ["curl", "--silent", "--http2", "--cacert", str(site.authority)]
    wanted = ["--output", "/dev/null", "--write-out", "%{http_version} %{http_code}"]
    answer = subprocess.run(
        [*command, *wanted, site.url + path], capture_output=True, text=True, check=True
    )
    return answer.stdout


class From(HTTPAdapter):
    """Sends from an address of one's own."""

    def init_poolmanager(self, *args: object, **more: object) -> None:
        super().init_poolmanager(*args, source_address=("127.0.0.9", 0), **more)  # type: ignore[arg-type]  # as the base class


def test_two_proxies_tell_the_visitors_address_and_no_header_of_theirs(
    redis_url: str, tmp_path: Path
) -> None:
    """G5: the limit counts the visitor, not a proxy, and not what the visitor makes up."""
    with front(redis_url, tmp_path, "caddy+nginx", strips=False) as site:
        with site.browser() as flood:
            for number in range(101):
                made_up = {
                    "X-Forwarded-For": f"192.0.2.{number}",
                    "X-Forwarded-Host": "evil.example",
                }
                last = flood.get("/pay/login", headers=made_up)
        assert last.status_code == 429
        with requests.Session() as other:
            other.mount("https://", From())
            page = other.get(
                f"{site.url}/pay/login",
                verify=str(site.authority),
                allow_redirects=False,
                timeout=10,
            )
        assert page.status_code == 302
