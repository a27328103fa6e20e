"""Both servers for the tests that an operator relies on: gunicorn, and granian by its wrapper."""

from __future__ import annotations

import pytest

from tests.support import rig
from tests.support.servers import Granian, Gunicorn


@pytest.fixture(
    params=[
        Gunicorn,
        # It replaces workers one after the other, 3.5 s each, and stops only after that.
        pytest.param(Granian, marks=pytest.mark.timeout(300)),
    ],
    ids=["gunicorn", "granian"],
)
def both_servers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``fleet`` start each server in turn."""
    monkeypatch.setattr(rig, "SERVER", request.param)
