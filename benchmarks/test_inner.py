"""The hot inner functions, one by one: ``make bench ARGS=--inner``."""

from __future__ import annotations

import json
import secrets
from typing import Final

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.provider import new_token
from omnifund.gateway import read_token_answer
from omnifund.http import Response
from omnifund.sealing import Keyring, fingerprint
from omnifund.token import Token
from web.operations import _redact
from web.pages import masked

_SECRET: Final = secrets.token_urlsafe(32)
_PAYLOAD: Final = {
    "access_token": new_token(),
    "expires_in": 3600,
    "token_type": "bearer",
    "scope": None,
    "refresh_token": new_token(),
}
_RECORD: Final = json.dumps(_PAYLOAD).encode()


def test_seal_a_token(benchmark: BenchmarkFixture) -> None:
    keyring = Keyring([secrets.token_urlsafe(48)])
    sealed = benchmark(keyring.seal, _RECORD, secret=_SECRET, name="token")
    assert len(sealed) > len(_RECORD)


def test_unseal_a_token(benchmark: BenchmarkFixture) -> None:
    keyring = Keyring([secrets.token_urlsafe(48)])
    sealed = keyring.seal(_RECORD, secret=_SECRET, name="token")
    assert benchmark(keyring.open, sealed, secret=_SECRET, name="token") == _RECORD


def test_fingerprint_a_session_id(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(fingerprint, _SECRET)) == 22


def test_read_a_token_answer(benchmark: BenchmarkFixture) -> None:
    answer = Response(200, {"Content-Type": "application/json"}, _RECORD)
    assert benchmark(read_token_answer, answer, now=0) == _PAYLOAD


def test_make_a_token(benchmark: BenchmarkFixture) -> None:
    token = benchmark(Token.from_response, _PAYLOAD, now=1_800_000_000)
    assert token.access_token == _PAYLOAD["access_token"]


def test_redact_a_log_line(benchmark: BenchmarkFixture) -> None:
    line = {"event": f"GET /callback?state=abc&code={new_token()}", "path": "/callback"}
    assert benchmark(lambda: _redact(None, "info", dict(line)))["event"].endswith("code=***")


def test_mask_a_token(benchmark: BenchmarkFixture) -> None:
    assert benchmark(masked, new_token()).startswith("•")
