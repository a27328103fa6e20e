"""Both servers for the tests that an operator relies on: gunicorn, and granian by its wrapper."""

from __future__ import annotations

import pytest

from tests.support import rig
from tests.support.servers import Granian, Gunicorn


@pytest.fixture(params=[Gunicorn, Granian], ids=["gunicorn", "granian"])
def both_servers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``fleet`` start each server in turn."""
    monkeypatch.setattr(rig, "SERVER", request.param)
