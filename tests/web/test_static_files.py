"""Static files: a year in the browser's cache, and never stale."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Blueprint

from tests.support.merchant import Merchant
from tests.support.servers import REPOSITORY as ROOT
from tests.support.stack import Stack

IMMUTABLE = "public, max-age=31536000, immutable"


def urls(merchant: Merchant) -> list[str]:
    """The static files that the front page links to."""
    return sorted(set(re.findall(r'"(/static/[^"]+)"', merchant.get("/").text)))


def file_of(url: str) -> Path:
    """The file behind a URL; the inspector and the lab have a folder of their own."""
    name = urlsplit(url).path.removeprefix("/static/")
    inner = name.removeprefix("demo/")
    return ROOT / "static" / name if inner == name else ROOT / "demo" / "static" / inner


def is_font(url: str) -> bool:
    return url.endswith(".woff2")


def test_pages_link_to_urls_with_the_contents_hash(merchant: Merchant) -> None:
    found = [url for url in urls(merchant) if not is_font(url)]
    assert len(found) >= 3
    for url in found:
        content = file_of(url).read_bytes()
        (digest,) = parse_qs(urlsplit(url).query)["v"]
        assert hashlib.sha256(content).hexdigest().startswith(digest)
        response = merchant.get(url)
        assert response.status_code == 200
        assert response.content == content
        assert response.headers["Cache-Control"] == IMMUTABLE
        assert "Cookie" not in response.headers.get("Vary", "")


def test_a_font_is_kept_under_its_own_name_which_stylesheets_know(merchant: Merchant) -> None:
    (url,) = filter(is_font, urls(merchant))
    name = url.removeprefix("/static/")
    assert f'url("{name}")' in (ROOT / "static" / "app.css").read_text()
    response = merchant.get(url)
    assert response.headers["Content-Type"] == "font/woff2"
    assert response.headers["Cache-Control"] == IMMUTABLE
    assert (ROOT / "static" / name.replace(".woff2", ".LICENSE.txt")).is_file()


@pytest.mark.parametrize(
    ("kind", "kilobytes"),
    [("css", 60), ("js", 25)],
)
def test_styles_and_scripts_stay_small(kind: str, kilobytes: int) -> None:
    """Of both applications together, uncompressed."""
    folders = ("static", "demo/static", "local_omnifund/static")
    files = [file for folder in folders for file in (ROOT / folder).glob(f"*.{kind}")]
    assert len(files) > len(folders)
    assert sum(file.stat().st_size for file in files) <= kilobytes * 1000


@pytest.mark.parametrize("folders", [("static", "demo/static"), ("local_omnifund/static",)])
def test_every_custom_property_is_defined(folders: tuple[str, ...]) -> None:
    """A browser drops a declaration with one that is not, without a word."""
    styles = "".join(
        file.read_text() for folder in folders for file in (ROOT / folder).glob("*.css")
    )
    used = set(re.findall(r"var\((--[\w-]+)", styles))
    assert used - set(re.findall(r"(--[\w-]+):", styles)) == set()
    assert len(used) > 10


def test_there_is_an_icon_where_browsers_look_for_one(merchant: Merchant) -> None:
    for origin in (merchant.at.url, merchant.at.omnifund_url):
        response = merchant.get(f"{origin}/favicon.ico")
        assert response.status_code == 200
        assert response.content.startswith(b"\x00\x00\x01\x00")


@pytest.mark.parametrize("query", ["", "?v=", "?v=000000000000", "?v=%ff", "?w=1"])
def test_without_the_right_hash_the_browser_has_to_check_each_time(
    merchant: Merchant, query: str
) -> None:
    first = merchant.get(f"/static/app.css{query}")
    assert first.headers["Cache-Control"] == "no-cache"
    again = merchant.get(
        f"/static/app.css{query}", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert again.status_code == 304
    assert again.content == b""
    assert again.headers["Cache-Control"] == "no-cache"


def test_the_app_leaves_compression_to_the_proxy(merchant: Merchant) -> None:
    response = merchant.get("/static/app.css", headers={"Accept-Encoding": "gzip, br, zstd"})
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
def test_there_is_nothing_else(merchant: Merchant, path: str) -> None:
    response = merchant.get(path)
    assert response.status_code == 404
    assert response.headers["Cache-Control"] == "no-store"
