"""``SECRET_KEY`` changes while merchants are signed in."""

from __future__ import annotations

import secrets

from app import create_app
from tests.faults.provider import HonestProvider
from tests.support.merchant import Merchant
from tests.support.processes import free_port
from tests.support.rig import Rig
from tests.support.servers import serve
from tests.support.stack import app_settings

OLD, NEW = secrets.token_urlsafe(48), secrets.token_urlsafe(48)


def test_a_rotation_keeps_sessions_and_dropping_the_old_key_ends_them_cleanly(
    redis_url: str,
) -> None:
    """H2: three servers of one fleet, in the three states of a rotation."""
    port = free_port()
    with HonestProvider() as provider:

        def server(secret_key: str, *fallbacks: str) -> Rig:
            settings = app_settings(
                redis_url,
                app_port=port,
                omnifund_base_url=provider.url,
                secret_key=secret_key,
                secret_key_fallbacks=tuple(fallbacks),
            )
            return Rig("", create_app(settings), settings, provider)

        before, during, after = server(OLD, NEW), server(NEW, OLD), server(NEW)
        visitors = []
        for first in (before, during):
            with serve(first.app, port=port) as running:
                first.url = running.url
                merchant = Merchant(first)
                callback = merchant.authorize("/customers")
            # The sign-in is finished by another server than it was started on.
            with serve((during if first is before else before).app, port=port):
                answer = merchant.get(callback)
                assert answer.headers["Location"] == "/customers"
            visitors.append(merchant)
        for state in (before, during, before):
            with serve(state.app, port=port):
                for merchant in visitors:
                    assert merchant.get("/customers").status_code == 200
                    assert merchant.post_form("/token/refresh").status_code == 303
        # Their tokens were last sealed with the old key, one session with each of the two.
        with serve(after.app, port=port):
            for merchant in visitors:
                answer = merchant.get("/customers")
                assert answer.headers["Location"] == "/login?next=/customers"
                assert merchant.sign_in("/customers").headers["Location"] == "/customers"
                assert merchant.get("/customers").status_code == 200
