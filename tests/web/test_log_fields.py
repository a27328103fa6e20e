"""The table of log fields in docs/reference.md, against the lines that the app writes."""

from __future__ import annotations

import json
import re
import select
import socket
import subprocess
import sys
from typing import Any

import redis
import requests

from omnifund.events import Event
from tests.faults import provider as kit
from tests.support.merchant import Merchant
from tests.support.rig import Fleet, fleet
from tests.support.servers import REPOSITORY
from tests.support.valkey import ValkeyServer
from tests.test_reference import section


def documented() -> dict[str, str]:
    """Each field of the table, and where it is said to be."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section("Log fields"), re.MULTILINE)
    assert len(rows) > 10
    return dict(rows)


def everything_that_is_logged(running: Fleet, valkey: ValkeyServer) -> list[dict[str, Any]]:
    """What a merchant does, what OmniFund refuses, what Redis does not do; then a stop."""
    merchant = running.merchant()
    merchant.get("/customers")
    merchant.post_form("/token/refresh")
    running.provider.next_token_answer(kit.json_answer({}, 500))
    merchant.post_form("/token/refresh")
    Merchant(running).get("/callback?state=x&code=y")
    requests.get(f"{running.url}/", headers={"Host": "other.example"}, timeout=5)
    requests.get(f"{running.url}/wrong", headers={"Host": "localhost"}, timeout=5)
    with redis.Redis.from_url(valkey.url) as client:
        (key,) = client.keys("omnifund:*:token")
        client.set(key, "altered")
    merchant.get("/customers")
    running.merchant().post_form("/logout")
    valkey.pause()
    try:
        merchant.get("/dashboard")
    finally:
        valkey.resume()
    assert running.server.stop() == 0
    return [json.loads(line) for line in running.server.log.splitlines()]


def test_every_field_is_documented_and_every_documented_field_is_there(
    redis_url: str, valkey: ValkeyServer
) -> None:
    """G7, H4"""
    variables = {"ALLOWED_HOSTS": "localhost"}
    with fleet(redis_url, workers=1, variables=variables) as running:
        lines = everything_that_is_logged(running, valkey)
    found = {field for line in lines for field in line}
    assert found == set(documented())
    every_line = {field for field, where in documented().items() if where == "every line"}
    assert all(every_line <= set(line) for line in lines)
    of_requests = {field for field, where in documented().items() if where == "requests"}
    requested = [line for line in lines if line["event"] == "http:request:answered"]
    assert all(of_requests <= set(line) for line in requested)
    assert not any(of_requests & set(line) for line in lines if line not in requested)
    # Also while Flask opens the session, which is before it knows the page; so that one counts.
    (silent,) = [
        line for line in requested if line["path"] == "/dashboard" and line["status"] == 503
    ]
    assert silent["milliseconds"] > 500
    failed = [line for line in lines if line["event"] == Event.STORE_FAILED]
    assert {line["request_id"] for line in failed} == {silent["request_id"]}
    assert {line["event"] for line in lines} & set(Event)
    assert "http:host:refused" in {line["event"] for line in lines}


def test_the_document_names_this_test() -> None:
    text = (REPOSITORY / "docs" / "deploying.md").read_text()
    assert "reference.md#log-fields" in text


LOGGING = """
from tests.support.stack import app_settings
from web import logging
logging.configure(app_settings("redis://localhost:1", log_level="INFO"))
for number in range(300):
    logging.log.info("line", number=number)
"""


def test_lines_are_written_many_at_a_time_and_each_in_one_piece() -> None:
    """A write of more than PIPE_BUF bytes may be torn apart by another process's."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reader, writer:
        command = [sys.executable, "-c", LOGGING]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=writer.fileno())
        writer.close()
        written = list(iter(lambda: reader.recv(1 << 20), b""))
        assert process.wait(timeout=30) == 0
    assert all(len(each) <= select.PIPE_BUF and each.endswith(b"}\n") for each in written)
    lines = b"".join(written).splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(300))
    assert len(written) < len(lines) / 10
