"""Backups, restored for real: what docs/deploying.md and docs/connect-your-users.md say."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from omnifund.errors import StoreUnavailable
from omnifund.sql_token_store import SQLTokenStore
from tests.support.processes import wait_until
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
    """Also with an append-only file, which has to be made before Redis is told to read it."""
    with ValkeyServer() as lost, rig(lost.url) as running:
        merchant = running.merchant()
        backup(lost, tmp_path / "copy")
        lost.kill()
        assert merchant.get("/dashboard").status_code == 503
        options = ("--dir", str(tmp_path / "copy"), "--appendonly")
        with ValkeyServer(port=lost.port, options=(*options, "no")) as restored:
            assert merchant.get("/customers").status_code == 200
            assert merchant.post_form("/token/refresh").status_code == 303
            with restored.client() as client:
                client.config_set("appendonly", "yes")
                wait_until(
                    lambda: not client.info("persistence")["aof_rewrite_in_progress"],
                    what="the append-only file",
                )
        with ValkeyServer(port=lost.port, options=(*options, "yes")):
            assert merchant.get("/customers").status_code == 200
            assert merchant.post_form("/token/refresh").status_code == 303
            assert running.provider.refreshes == 2


def test_with_an_append_only_file_a_dump_is_ignored(tmp_path: Path) -> None:
    """Which is why the page says in which order to do it."""
    with ValkeyServer() as lost, rig(lost.url) as running:
        merchant = running.merchant()
        backup(lost, tmp_path / "copy")
        lost.kill()
        options = ("--dir", str(tmp_path / "copy"), "--appendonly", "yes")
        with ValkeyServer(port=lost.port, options=options):
            assert merchant.get("/session").json() == {"signed_in": False}


def test_a_copy_of_sqlite_is_made_by_sqlite(tmp_path: Path) -> None:
    """With its journal in WAL mode, the file alone may lack everything."""
    names = ("product.db", "copied.db", "vacuumed.db")
    files = [tmp_path / name for name in names]
    engines = [sql.create_engine(f"sqlite:///{file}") for file in files]
    product, copied, vacuumed = (SQLTokenStore(engine) for engine in engines)
    with engines[0].connect() as db:
        db.exec_driver_sql("PRAGMA journal_mode = WAL")
        product.create_tables()
        facts: dict[str, Any] = {
            "refreshed_at": 1,
            "seconds": None,
            "completes": {},
            "swap": None,
            "also": (),
        }
        product.save("ann", b"record", **facts)
        shutil.copy(files[0], files[1])
        db.exec_driver_sql(f"VACUUM INTO '{files[2]}'")
    assert vacuumed.list_ids() == ["ann"]
    with pytest.raises(StoreUnavailable):
        copied.list_ids()
    for engine in engines:
        engine.dispose()


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
