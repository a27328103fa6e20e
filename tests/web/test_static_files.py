"""Static files: a year in the browser's cache, compressed, and never stale."""

from __future__ import annotations

import hashlib
import re

import pytest

from omnifund.trace import ROOT
from tests.support.stack import Person


def addresses(person: Person) -> list[str]:
    """The static files that the front page links to."""
    return sorted(set(re.findall(r"/static/[\w.-]+", person.get("/").text)))


def is_font(address: str) -> bool:
    return address.endswith(".woff2")


def test_pages_link_to_names_with_the_contents_hash(person: Person) -> None:
    found = [address for address in addresses(person) if not is_font(address)]
    assert found
    for address in found:
        stem, digest, suffix = address.removeprefix("/static/").split(".")
        content = (ROOT / "static" / f"{stem}.{suffix}").read_bytes()
        assert hashlib.sha256(content).hexdigest().startswith(digest)
        answer = person.get(address)
        assert answer.status_code == 200
        assert answer.content == content
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_a_font_is_kept_under_its_own_name_which_stylesheets_know(person: Person) -> None:
    (address,) = filter(is_font, addresses(person))
    name = address.removeprefix("/static/")
    assert f'url("{name}")' in (ROOT / "static" / "app.css").read_text()
    answer = person.get(address)
    assert answer.headers["Content-Type"] == "font/woff2"
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert (ROOT / "static" / name.replace(".woff2", ".LICENSE.txt")).is_file()


def test_there_is_an_icon_where_browsers_look_for_one(person: Person) -> None:
    for origin in (person.stack.url, person.stack.omnifund_url):
        answer = person.get(f"{origin}/favicon.ico")
        assert answer.status_code == 200
        assert answer.content.startswith(b"\x00\x00\x01\x00")


def test_they_are_compressed_for_whoever_takes_it(person: Person) -> None:
    packed = person.get("/static/app.css", headers={"Accept-Encoding": "gzip"})
    plain = person.get("/static/app.css", headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.content == plain.content
    assert int(packed.headers["Content-Length"]) < int(plain.headers["Content-Length"]) / 3
    assert packed.headers["Vary"] == "Accept-Encoding"


def test_the_plain_name_works_and_asks_each_time(person: Person) -> None:
    first = person.get("/static/app.css")
    assert first.headers["Cache-Control"] == "no-cache"
    again = person.get("/static/app.css", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert again.content == b""


@pytest.mark.parametrize(
    "path", ["/static/app.000000000000.css", "/static/", "/static/../config.py", "/static/x"]
)
def test_there_is_nothing_else(person: Person, path: str) -> None:
    assert person.get(path).status_code == 404
