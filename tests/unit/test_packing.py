"""A token comes out of its bytes as it went in, whatever it looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnifund.packing import pack, unpack
from omnifund.token import Token
from tests.faults.provider import new_token

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


@given(TOKENS)
def test_every_token_comes_back_the_same(token: Token) -> None:
    assert unpack(pack(token)) == token


def test_omnifunds_tokens_take_three_quarters_of_their_length() -> None:
    token = Token(new_token(), new_token(), 1_800_000_000, 1_800_003_600)
    assert len(pack(token)) < 2 * 64 + 32


@given(st.binary(max_size=80))
def test_anything_else_is_refused(packed: bytes) -> None:
    """D4"""
    try:
        token = unpack(packed)
    except ValueError:
        return
    assert unpack(pack(token)) == token


@pytest.mark.parametrize("cut", [0, 1, 10, 24, 25, 40])
def test_what_was_cut_short_is_refused(cut: int) -> None:
    """D4"""
    with pytest.raises(ValueError, match=r"."):
        unpack(pack(Token("a" * 64, None, 1, 2))[:cut])
