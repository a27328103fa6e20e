"""The hot inner functions, one by one: ``make bench ARGS=--inner``."""

from __future__ import annotations

import json
import secrets
from typing import Final

from pytest_benchmark.fixture import BenchmarkFixture

from omnifund.encryption import Cipher, fingerprint
from omnifund.http import Response
from omnifund.oauth import require_consistent_status
from omnifund.token import Token
from tests.faults.provider import new_token
from web.logging import _redact
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
    keyring = Cipher([secrets.token_urlsafe(48)])
    sealed = benchmark(keyring.seal, _RECORD, secret=_SECRET, name="token")
    assert len(sealed) > len(_RECORD)


def test_unseal_a_token(benchmark: BenchmarkFixture) -> None:
    keyring = Cipher([secrets.token_urlsafe(48)])
    sealed = keyring.seal(_RECORD, secret=_SECRET, name="token")
    assert benchmark(keyring.open, sealed, secret=_SECRET, name="token") == _RECORD


def test_fingerprint_a_session_id(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(fingerprint, _SECRET)) == 22


def test_validate_a_token_response(benchmark: BenchmarkFixture) -> None:
    response = Response(200, {"Content-Type": "application/json"}, _RECORD)
    assert benchmark(require_consistent_status, response) == _PAYLOAD


def test_make_a_token(benchmark: BenchmarkFixture) -> None:
    token = benchmark(Token.from_response, _PAYLOAD, now=1_800_000_000)
    assert token.access_token == _PAYLOAD["access_token"]


def test_redact_a_log_line(benchmark: BenchmarkFixture) -> None:
    line = {"event": f"GET /callback?state=abc&code={new_token()}", "path": "/callback"}
    assert benchmark(lambda: _redact(None, "info", dict(line)))["event"].endswith("code=***")


def test_mask_a_token(benchmark: BenchmarkFixture) -> None:
    assert benchmark(masked, new_token()).startswith("•")
