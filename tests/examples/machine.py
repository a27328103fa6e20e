"""One of a product's machines: runs connect_app.py's commands with a clock that a test moves.

``python -m tests.examples.machine CLOCK``; reads a command for each line, and answers with a line
of JSON. ``connect FIRST LAST`` connects users by the password grant, as no browser is at hand;
``nightly`` runs nightly.py; any other is one of ``flask omnifund …``.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import sys
from pathlib import Path
from unittest import mock

from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection

from local_omnifund.settings import DEMO_MERCHANT_PASSWORD
from omnifund import client
from tests.support.servers import REPOSITORY
from tests.support.shared_clock import SharedClock


def lose_data_in_a_power_cut(connection: DBAPIConnection, _record: object) -> None:
    """Make SQLite wait for no disk, as this is about time."""
    connection.cursor().execute("PRAGMA synchronous = OFF")


def main() -> None:
    # The example is as it is; only its clock is another one.
    moved = functools.partial(client.OmniFund, clock=SharedClock(Path(sys.argv[1])))
    sys.path.insert(0, str(REPOSITORY / "examples"))
    with mock.patch.object(client, "OmniFund", moved):
        import connect_app
        import nightly
    event.listen(connect_app.engine, "connect", lose_data_in_a_power_cut)
    connect_app.engine.dispose()
    for line in sys.stdin:
        command, *numbers = line.split()
        output, status = io.StringIO(), 0
        if command == "connect":
            for number in range(*map(int, numbers)):
                merchant = "merchant" if number % 100 == 0 else "newcomer"
                connect_app.omnifund.sign_in_with_password(
                    merchant, DEMO_MERCHANT_PASSWORD, owner=f"user-{number}"
                )
        elif command == "nightly":
            with contextlib.redirect_stdout(output):
                status = nightly.main(days=1)
        else:
            result = connect_app.app.test_cli_runner().invoke(args=["omnifund", command])
            output.write(result.output)
            status = result.exit_code
        sys.stdout.write(json.dumps([status, output.getvalue()]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
