"""Twenty thousand sessions: what they cost, that they work, and that they go."""

from __future__ import annotations

import random
import secrets

import redis

from omnifund.client import OmniFund
from omnifund.token import Token
from tests.faults.provider import new_token
from tests.support.processes import wait_until
from tests.support.rig import rig
from web.sessions import RedisSessions

SESSIONS = 20_000


def test_twenty_thousand_sessions_are_small_usable_and_end_by_themselves(redis_url: str) -> None:
    """F2: at most 800 bytes each, everything included; no key without an end."""
    with rig(redis_url) as running, redis.Redis.from_url(redis_url) as client:
        omnifund: OmniFund = running.app.extensions["omnifund"]
        sessions = running.app.session_interface
        assert isinstance(sessions, RedisSessions)
        empty = client.info("memory")["used_memory"]
        session_ids = []
        for _ in range(SESSIONS):
            session_id, now = secrets.token_urlsafe(32), int(running.clock())
            token = Token(new_token(), new_token(), now, now + 3600)
            data = {"signed_in_at": now, "csrf_token": "x" * 22}
            beside = [sessions.store_command(session_id, data)]
            omnifund.tokens.save(session_id, token, seconds=1800, also=beside)
            session_ids.append(session_id)
        each = (client.info("memory")["used_memory"] - empty) / SESSIONS
        assert each <= 800

        visitor = running.app.test_client(use_cookies=False)
        for session_id in random.sample(session_ids, 300):
            answer = visitor.get("/session", headers={"Cookie": f"omnifund_session={session_id}"})
            assert answer.json is not None
            assert answer.json["signed_in"] is True

        keys = list(client.scan_iter("omnifund:*", count=5000))
        assert len(keys) == 2 * SESSIONS
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.ttl(key)
        assert all(0 < seconds <= 1800 for seconds in pipeline.execute())
        # Their half hour is over for all of them at the same time.
        for key in keys:
            pipeline.pexpire(key, 1)
        pipeline.execute()
        wait_until(lambda: client.dbsize() == 0, seconds=30, what="the sessions to end")
        answer = visitor.get("/session", headers={"Cookie": f"omnifund_session={session_ids[0]}"})
        assert answer.json == {"signed_in": False}
