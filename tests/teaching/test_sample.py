"""``/inspector/example``: what the inspector shows to those who have no recording of their own."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from demo import conversation, sample
from tests.support.merchant import Merchant
from tests.teaching.recordings import checks, recordings

HOW = "start `make demo`, and record the example again with `make screenshots`"
CHANGES = {"id", "at", "changed", "started", "ended", "frames", "checks"}


def _shape(value: Any, name: str = "") -> Any:
    """Return what of a recording is the same for every sign-in at every port."""
    if isinstance(value, dict):
        return {key: _shape(each, key) for key, each in value.items() if key not in CHANGES}
    if isinstance(value, list):
        return [_shape(each) for each in value]
    if name == "Cookie":
        return value.partition("_attempt_")[0]
    secrets = r"#[0-9a-f]{8}|localhost:\d+|_session\w*|" + r"^[\w-]{40,}$"
    return re.sub(secrets, "…", str(value)) if name not in ("Date", "body") else name


def test_the_example_is_what_a_sign_in_is_today(merchant: Merchant) -> None:
    merchant.sign_in()
    (own,) = recordings(merchant)
    example = sample.load()
    kept = _shape(msgspec.to_builtins(example))
    assert kept == _shape(own), HOW
    for shown, recorded in zip(example.exchanges, own["exchanges"], strict=True):
        assert [each.rule.function for each in conversation.checks(shown.checks)] == checks(
            recorded
        )
        assert set(shown.checks.values()) <= {"passed"}


def test_a_stranger_reads_it_without_signing_in(merchant: Merchant) -> None:
    page = merchant.get("/inspector/example")
    assert page.status_code == 200
    assert page.text.count('class="message card"') == 4
    assert "This is an example" in page.text
    assert "/login?next=/inspector" in page.text
    for own in ("Where data is stored", "recordings.json", "Source code"):
        assert own not in page.text


def test_the_navigation_leads_a_stranger_there_and_a_merchant_to_their_own(
    merchant: Merchant,
) -> None:
    def inspector(text: str) -> list[str]:
        return re.findall(r'href="([^"]+)"[^>]*>Inspector<', text)

    assert inspector(merchant.get("/").text) == ["/inspector/example"]
    assert 'aria-current="page">Inspector' in merchant.get("/inspector/example").text
    merchant.sign_in()
    assert inspector(merchant.get("/").text) == ["/inspector"]


def test_the_example_holds_no_secret() -> None:
    text = sample.PATH.read_text()
    for name in ("code", "state", "code_verifier", "access_token", "refresh_token"):
        values = re.findall(rf'"{name}": "([^"]*)"', text)
        assert values
        assert all(re.fullmatch(r"#[0-9a-f]{8}", value) for value in values), name
    assert set(re.findall(r'"client_secret": "([^"]*)"', text)) == {"•" * 8}
