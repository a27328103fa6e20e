"""A backup of Redis, restored for real: what docs/deploying.md says about it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.rig import rig
from tests.support.valkey import ValkeyServer


def backup(server: ValkeyServer, to: Path) -> None:
    """Save, and copy the file elsewhere."""
    with server.client() as client:
        client.save()
        place = Path(str(client.config_get("dir")["dir"]), "dump.rdb")
    to.mkdir()
    shutil.copy(place, to)


def test_a_restored_backup_signs_merchants_in_again(tmp_path: Path) -> None:
    with ValkeyServer() as lost, rig(lost.url) as running:
        merchant = running.merchant()
        backup(lost, tmp_path / "copy")
        lost.kill()
        assert merchant.get("/dashboard").status_code == 503
        options = ("--dir", str(tmp_path / "copy"))
        with ValkeyServer(port=lost.port, options=options):
            assert merchant.get("/customers").status_code == 200
            assert merchant.post_form("/token/refresh").status_code == 303
            assert running.provider.refreshes == 1


def test_a_merchant_whose_tokens_are_newer_than_the_backup_signs_in_once_more(
    tmp_path: Path,
) -> None:
    """The backup holds a refresh token that OmniFund has replaced. Nothing else is affected."""
    with ValkeyServer() as lost, rig(lost.url) as running:
        merchant = running.merchant()
        backup(lost, tmp_path / "copy")
        merchant.post_form("/token/refresh")
        lost.kill()
        options = ("--dir", str(tmp_path / "copy"))
        with ValkeyServer(port=lost.port, options=options):
            running.clock.advance(3600)
            asked = merchant.get("/customers")
            assert asked.headers["Location"] == "/login?next=/customers"
            assert merchant.sign_in().status_code == 303
            assert merchant.get("/customers").status_code == 200


def test_without_its_key_a_backup_is_worth_nothing(tmp_path: Path) -> None:
    """Neither to a thief nor to an operator: SECRET_KEY is part of the backup."""
    with ValkeyServer() as lost, rig(lost.url) as running:
        merchant = running.merchant()
        token = merchant.stored.token
        backup(lost, tmp_path / "copy")
    content = (tmp_path / "copy" / "dump.rdb").read_bytes()
    for secret in (token.access_token, token.refresh_token or "", merchant.session_id):
        assert secret.encode() not in content
    options = ("--dir", str(tmp_path / "copy"))
    with ValkeyServer(options=options) as other, rig(other.url) as stranger:
        visitor = stranger.merchant().copy()
        visitor.cookies.clear()
        visitor.cookies.update(merchant.cookies)
        assert visitor.get("/session").json() == {"signed_in": False}
