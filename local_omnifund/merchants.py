"""The merchants who can sign in, each in a different situation, all with one published password."""

import hmac
from dataclasses import dataclass

from local_omnifund.models import digest


@dataclass(frozen=True, slots=True)
class Merchant:
    """A user of the portal, and the business that it belongs to."""

    username: str
    full_name: str
    business: str
    situation: str
    is_locked: bool = False


MERCHANTS = (
    Merchant("merchant", "Jordan Reyes", "Harbor Street Studio", "Everything works."),
    Merchant(
        "second-merchant", "Priya Natarajan", "Larkspur Dental", "Another account, different data."
    ),
    Merchant("newcomer", "Sam Whitfield", "Sam's Bike Repair", "No customers yet."),
    Merchant("busy", "Lucia Marchetti", "Northgate Fitness", "10,000 transactions."),
    Merchant("locked", "Theo Bakker", "Bakker Antiques", "The account is locked.", is_locked=True),
)


class Merchants:
    """Finds merchants and checks their password."""

    def __init__(self, password: str) -> None:
        self._password_digest = digest(password)
        self._by_username = {merchant.username: merchant for merchant in MERCHANTS}

    def find(self, username: str | None) -> Merchant | None:
        """The merchant with this username."""
        return self._by_username.get(username) if username else None

    def authenticate(self, username: str, password: str) -> Merchant | None:
        """The merchant, or None for an unknown user or a wrong password."""
        password_is_right = hmac.compare_digest(self._password_digest, digest(password))
        return self.find(username) if password_is_right else None
