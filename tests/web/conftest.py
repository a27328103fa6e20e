"""Both servers for the tests that an operator relies on: gunicorn, and granian by its wrapper."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support import rig
from tests.support.servers import Granian, Gunicorn

SERVERS: Final = pytest.mark.parametrize("server", [Gunicorn, Granian], indirect=True)
NOT_GRANIAN: Final[dict[str, str]] = {}
"""Where granian does not do what gunicorn does (docs/adr/0019): test and reason."""


@pytest.fixture(params=[Gunicorn, Granian], ids=["gunicorn", "granian"])
def both_servers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``fleet`` start each server in turn; granian may fail only where it is listed."""
    monkeypatch.setattr(rig, "SERVER", request.param)
    reason = NOT_GRANIAN.get(request.node.originalname)
    if request.param is Granian and reason is not None:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
