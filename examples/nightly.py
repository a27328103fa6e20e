"""Reads what every connected user's customers paid, without a browser; for cron.

``python nightly.py --days 1``, beside connect_app.py and with its variables. One user's failure
does not end the job; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from decimal import Decimal

from connect_app import omnifund

from omnifund.errors import ConnectionEnded, ConnectionNotFound, OmniFundError, StoreUnavailable


def read(user: str, since: int) -> tuple[int, Decimal, str]:
    """Return how many transactions ``user`` has since that time, their sum, and the outcome."""
    count, total, outcome = 0, Decimal(0), "read"
    try:
        filters = [("tranDate[gte]", str(since))]
        for transaction in omnifund.api.iter_transactions(user, "history", filters):
            count += 1
            total += transaction.amount or 0
    except (ConnectionNotFound, ConnectionEnded) as error:
        outcome = f"needs to reconnect: {error}"
    except OmniFundError as error:  # No matter of the user's; the next night reads it.
        outcome = f"failed: {type(error).__name__}"
    return count, total, outcome


def main(days: int) -> int:
    """Print a line for each user; return the exit status."""
    since = int(time.time()) - days * 24 * 3600
    failed = 0
    print(f"{'user':<12} {'transactions':>12} {'amount':>14}  outcome")
    try:
        users = omnifund.tokens.list_ids()
    except StoreUnavailable:
        print("The database does not respond.", file=sys.stderr)
        return 1
    for user in users:
        count, total, outcome = read(user, since)
        failed += outcome != "read"
        print(f"{user:<12} {count:>12} {total:>14}  {outcome}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=1, help="how far back to read")
    sys.exit(main(parser.parse_args().days))
