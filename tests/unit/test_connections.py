"""A token comes out of its record as it went in; any other record counts as absent."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omnifund.connections import Connections, StoredToken
from omnifund.encryption import Cipher
from omnifund.errors import ConnectionEnded, ConnectionNotFound, ConnectionUnreadable
from omnifund.events import Event
from omnifund.token import Token
from omnifund.token_store import RedisTokenStore
from tests.faults.provider import new_token

CIPHER = Cipher(["k" * 40])
SECRETS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=300)
TOKENS = st.builds(
    Token,
    access_token=SECRETS | st.from_regex(r"[A-Za-z0-9_-]{1,90}", fullmatch=True),
    refresh_token=st.none() | SECRETS,
    obtained_at=st.integers(0, 2**40),
    expires_at=st.integers(0, 2**40),
    scope=st.none() | st.text(max_size=40),
    generation=st.integers(0, 2**31),
)


def connections(events: list[Event] | None = None) -> Connections:
    def on_event(event: Event, **_facts: Any) -> None:
        (events if events is not None else []).append(event)

    # Without a store: nothing here is stored.
    return Connections(cast(Any, None), CIPHER, on_event=on_event)


def opened(
    record: bytes | None, connection_id: str = "a connection", events: list[Event] | None = None
) -> StoredToken | None:
    """Return the token in a record, or ``None`` if it cannot be read."""
    try:
        return connections(events).open(connection_id, record)
    except ConnectionUnreadable:
        return None


def record_of(token: Token) -> bytes:
    return connections().prepare("a connection", token).version


def encrypted(plaintext: bytes) -> bytes:
    """What a process with the right key might have stored: an older version of this app, say."""
    name = RedisTokenStore.key("a connection")
    return CIPHER.seal(plaintext, secret="a connection", name=name)


@given(TOKENS)
def test_every_token_comes_back_the_same(token: Token) -> None:
    stored = opened(record_of(token))
    assert stored is not None
    assert stored.token == token


def test_a_record_of_omnifunds_tokens_is_little_longer_than_they_are() -> None:
    access_token, refresh_token = new_token(), new_token()
    token = Token(access_token, refresh_token, 1_800_000_000, 1_800_003_600)
    assert len(record_of(token)) < len(access_token + refresh_token) + 64


@given(st.binary(max_size=80))
@example(b"\x94\xa5\x00\x00\x00\x00\x80")  # text that is not UTF-8, and
@example(b"\x94\xa5\xed\xa0\x80ab\xa5abcde\x01\x02")  # half of a surrogate pair
def test_other_plaintext_is_no_token(plaintext: bytes) -> None:
    """D4"""
    events: list[Event] = []
    try:
        stored = opened(encrypted(plaintext), events=events)
    except ConnectionEnded:
        return  # A pair of a number and a text.
    if stored is None:
        assert events == [Event.RECORD_UNREADABLE]
    else:
        assert opened(record_of(stored.token)) is not None


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        "token",
        ["only-an-access-token"],
        [None, None, 1, 2],
        [1, None, 1, 2],
        ["a", None, "1", 2],
        ["a", None, 1.5, 2],
        ["a", None, 1, 2, ["scope"]],
        ["a", 7, 1, 2],
        {"access_token": "a", "obtained_at": 1, "expires_at": 2},
    ],
)
def test_a_value_of_another_shape_is_no_token(value: object) -> None:
    """D4"""
    events: list[Event] = []
    record = encrypted(msgspec.msgpack.encode(value))
    assert opened(record, events=events) is None
    assert events == [Event.RECORD_UNREADABLE]


@pytest.mark.parametrize("cut", [0, 1, 10, 24, 25, 40])
def test_what_was_cut_short_is_no_token(cut: int) -> None:
    """D4: before it was encrypted, and after."""
    plaintext = msgspec.msgpack.encode(Token("a" * 64, None, 1, 2))
    assert opened(encrypted(plaintext[:cut])) is None
    assert opened(record_of(Token("a" * 64, None, 1, 2))[:cut]) is None


@given(st.binary(max_size=200))
def test_any_other_bytes_are_no_token(record: bytes) -> None:
    """D4"""
    events: list[Event] = []
    assert opened(record, events=events) is None
    assert events == [Event.RECORD_UNREADABLE]


def test_no_record_is_not_an_unreadable_one() -> None:
    """F8"""
    events: list[Event] = []
    with pytest.raises(ConnectionNotFound):
        opened(None, events=events)
    assert events == []


def test_another_connections_record_is_no_token() -> None:
    """D4"""
    assert opened(record_of(Token("a", None, 1, 2)), "another") is None


def test_a_stored_token_shows_no_secret_in_its_repr() -> None:
    """D2"""
    access_token, refresh_token = new_token(), new_token()
    record = record_of(Token(access_token, refresh_token, 1, 2))
    shown = repr(opened(record))
    assert access_token not in shown
    assert refresh_token not in shown
