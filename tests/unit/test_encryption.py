"""Encryption: a value opens only with the same key, secret and name, unaltered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnifund.encryption import Cipher, Unreadable, fingerprint

KEY, OLD_KEY = "k" * 40, "o" * 40
SEALED = Cipher([KEY]).seal(b"a secret", secret="session ID", name="token")


def test_what_was_encrypted_opens_again() -> None:
    assert Cipher([KEY]).open(SEALED, secret="session ID", name="token") == b"a secret"


def test_the_secret_is_not_in_what_is_stored() -> None:
    """D3"""
    assert b"a secret" not in SEALED


@pytest.mark.parametrize(
    ("keys", "secret", "name"),
    [
        ([OLD_KEY], "session ID", "token"),
        ([KEY], "another", "token"),
        ([KEY], "session ID", "another"),
    ],
)
def test_another_key_secret_or_name_decrypts_nothing(
    keys: list[str], secret: str, name: str
) -> None:
    """D3, D4"""
    with pytest.raises(Unreadable):
        Cipher(keys).open(SEALED, secret=secret, name=name)


@pytest.mark.parametrize("position", range(len(SEALED)))
def test_one_flipped_bit_makes_it_unreadable(position: int) -> None:
    """D4"""
    altered = bytearray(SEALED)
    altered[position] ^= 1
    with pytest.raises(Unreadable):
        Cipher([KEY]).open(bytes(altered), secret="session ID", name="token")


@pytest.mark.parametrize("length", range(len(SEALED)))
def test_a_truncated_value_is_unreadable(length: int) -> None:
    """D4"""
    with pytest.raises(Unreadable):
        Cipher([KEY]).open(SEALED[:length], secret="session ID", name="token")


@given(st.binary(max_size=200))
def test_anything_else_is_unreadable(value: bytes) -> None:
    """D4"""
    with pytest.raises(Unreadable):
        Cipher([KEY]).open(value, secret="session ID", name="token")


def test_an_older_key_still_decrypts_and_no_longer_encrypts() -> None:
    """H2"""
    old, rotated = Cipher([OLD_KEY]), Cipher([KEY, OLD_KEY])
    sealed = old.seal(b"x", secret="h", name="n")
    assert rotated.open(sealed, secret="h", name="n") == b"x"
    with pytest.raises(Unreadable):
        old.open(rotated.seal(b"x", secret="h", name="n"), secret="h", name="n")


def test_the_same_value_never_looks_the_same_twice() -> None:
    cipher = Cipher([KEY])
    assert len({cipher.seal(b"x", secret="h", name="n") for _ in range(100)}) == 100


def test_a_fingerprint_names_without_revealing() -> None:
    assert fingerprint("session ID") == fingerprint("session ID") != fingerprint("session IE")
    assert "session ID" not in fingerprint("session ID")
    assert len(fingerprint("session ID")) == 22
