"""Static files: a year in the browser's cache, and never stale."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Blueprint

from tests.support.servers import REPOSITORY as ROOT
from tests.support.stack import Person, Stack

IMMUTABLE = "public, max-age=31536000, immutable"


def urls(person: Person) -> list[str]:
    """The static files that the front page links to."""
    return sorted(set(re.findall(r'"(/static/[^"]+)"', person.get("/").text)))


def is_font(url: str) -> bool:
    return url.endswith(".woff2")


def test_pages_link_to_urls_with_the_contents_hash(person: Person) -> None:
    found = [url for url in urls(person) if not is_font(url)]
    assert len(found) >= 3
    for url in found:
        content = (ROOT / urlsplit(url).path.lstrip("/")).read_bytes()
        (digest,) = parse_qs(urlsplit(url).query)["v"]
        assert hashlib.sha256(content).hexdigest().startswith(digest)
        response = person.get(url)
        assert response.status_code == 200
        assert response.content == content
        assert response.headers["Cache-Control"] == IMMUTABLE
        assert "Cookie" not in response.headers.get("Vary", "")


def test_a_font_is_kept_under_its_own_name_which_stylesheets_know(person: Person) -> None:
    (url,) = filter(is_font, urls(person))
    name = url.removeprefix("/static/")
    assert f'url("{name}")' in (ROOT / "static" / "app.css").read_text()
    response = person.get(url)
    assert response.headers["Content-Type"] == "font/woff2"
    assert response.headers["Cache-Control"] == IMMUTABLE
    assert (ROOT / "static" / name.replace(".woff2", ".LICENSE.txt")).is_file()


def test_there_is_an_icon_where_browsers_look_for_one(person: Person) -> None:
    for origin in (person.stack.url, person.stack.omnifund_url):
        response = person.get(f"{origin}/favicon.ico")
        assert response.status_code == 200
        assert response.content.startswith(b"\x00\x00\x01\x00")


@pytest.mark.parametrize("query", ["", "?v=", "?v=000000000000", "?v=%ff", "?w=1"])
def test_without_the_right_hash_the_browser_has_to_check_each_time(
    person: Person, query: str
) -> None:
    first = person.get(f"/static/app.css{query}")
    assert first.headers["Cache-Control"] == "no-cache"
    again = person.get(f"/static/app.css{query}", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert again.content == b""
    assert again.headers["Cache-Control"] == "no-cache"


def test_the_app_leaves_compression_to_the_proxy(person: Person) -> None:
    response = person.get("/static/app.css", headers={"Accept-Encoding": "gzip, br, zstd"})
    assert "Content-Encoding" not in response.headers
    assert re.search(r"^\tencode ", (ROOT / "deploy" / "Caddyfile").read_text(), re.MULTILINE)


def test_a_blueprints_static_files_are_kept_likewise(stack: Stack) -> None:
    other = Blueprint("other", __name__, static_folder=ROOT / "local_omnifund" / "static")
    stack.app._got_first_request = False  # the app is there already
    stack.app.register_blueprint(other, url_prefix="/other")
    with stack.app.test_request_context():
        url = stack.app.url_for("other.static", filename="portal.css")
    content = (ROOT / "local_omnifund" / "static" / "portal.css").read_bytes()
    assert url == f"/other/static/portal.css?v={hashlib.sha256(content).hexdigest()[:12]}"
    with stack.app.test_client().get(url) as response:
        assert response.headers["Cache-Control"] == IMMUTABLE


@pytest.mark.parametrize(
    "path",
    [
        "/static/app.000000000000.css",
        "/static/",
        "/static/../config.py",
        "/static/%2e%2e/app.py",
        "/static/x",
    ],
)
def test_there_is_nothing_else(person: Person, path: str) -> None:
    response = person.get(path)
    assert response.status_code == 404
    assert response.headers["Cache-Control"] == "no-store"
