"""Twenty thousand sessions: what they cost, that they work, and that they go."""

from __future__ import annotations

import random

import redis

from omnifund.token import Token
from tests.faults.provider import new_token
from tests.support.processes import wait_until
from tests.support.rig import rig

SESSIONS, BATCH = 20_000, 500


def test_twenty_thousand_sessions_are_small_usable_and_end_by_themselves(redis_url: str) -> None:
    """F2: at most 700 bytes each, everything included; no key without an end."""
    with rig(redis_url) as running, redis.Redis.from_url(redis_url) as client:
        parts = running.app.extensions["omnifund"]
        sessions = running.app.session_interface
        empty = client.info("memory")["used_memory"]
        handles = []
        for _ in range(SESSIONS // BATCH):
            commands = []
            for _ in range(BATCH):
                handle, now = sessions.new_sid(), int(running.clock())  # type: ignore[attr-defined]  # the app's own interface
                token = Token(new_token(), new_token(), now, now + 3600)
                data = {"signed_in_at": now, "csrf_token": "x" * 22}
                commands.append(parts.vault.save(handle, token, seconds=1800))
                commands.append(sessions.store_command(handle, data))  # type: ignore[attr-defined]  # as above
                handles.append(handle)
            parts.store.execute(*commands)
        each = (client.info("memory")["used_memory"] - empty) / SESSIONS
        assert each <= 700

        visitor = running.app.test_client(use_cookies=False)
        for handle in random.sample(handles, 300):
            answer = visitor.get("/session", headers={"Cookie": f"omnifund_session={handle}"})
            assert answer.json is not None
            assert answer.json["signed_in"] is True

        keys = list(client.scan_iter("omnifund:*", count=5000))
        assert len(keys) == 2 * SESSIONS
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.ttl(key)
        assert all(0 < seconds <= 1800 for seconds in pipeline.execute())
        # Their half hour is over for all of them at once.
        for key in keys:
            pipeline.pexpire(key, 1)
        pipeline.execute()
        wait_until(lambda: client.dbsize() == 0, seconds=30, what="the sessions to end")
        answer = visitor.get("/session", headers={"Cookie": f"omnifund_session={handles[0]}"})
        assert answer.json == {"signed_in": False}
