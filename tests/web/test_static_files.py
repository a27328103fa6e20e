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


def test_pages_link_to_names_with_the_contents_hash(person: Person) -> None:
    found = addresses(person)
    assert found
    for address in found:
        stem, digest, suffix = address.removeprefix("/static/").split(".")
        content = (ROOT / "static" / f"{stem}.{suffix}").read_bytes()
        assert hashlib.sha256(content).hexdigest().startswith(digest)
        answer = person.get(address)
        assert answer.status_code == 200
        assert answer.content == content
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"


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
