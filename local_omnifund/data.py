"""Fictional customers and transactions, the same at every start.

They are generated from a fixed seed and the merchant's username. Only the dates change: they are
relative to the clock's day, so that the demo always looks current.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

SEED = 20_240_229
# Numbers of customers, processed transactions, and scheduled transactions.
USUAL = (60, 500, 40)
SIZES = {"newcomer": (0, 0, 0), "busy": (60, 10_000, 40)}
DAY = 24 * 3600
HISTORY_DAYS = 180
SCHEDULE_DAYS = 45

FIRST_NAMES = [
    "Ada",
    "Aiko",
    "Alma",
    "Amara",
    "Ben",
    "Bruno",
    "Camille",
    "Carlos",
    "Chloe",
    "Clara",
    "Dana",
    "Dmitri",
    "Elena",
    "Elias",
    "Esther",
    "Farah",
    "Felix",
    "Grace",
    "Hana",
    "Hugo",
    "Imani",
    "Ines",
    "Ivan",
    "Jada",
    "Jonas",
    "Julia",
    "Kaito",
    "Kofi",
    "Lara",
    "Leila",
    "Liam",
    "Lucia",
    "Maya",
    "Mateo",
    "Mina",
    "Nadia",
    "Noah",
    "Nora",
    "Omar",
    "Oscar",
    "Petra",
    "Quinn",
    "Rafael",
    "Rosa",
    "Ruth",
    "Sami",
    "Sofia",
    "Tariq",
    "Theo",
    "Uma",
    "Vera",
    "Victor",
    "Wanda",
    "Xavier",
    "Yara",
    "Yusuf",
    "Zoe",
]
LAST_NAMES = [
    "Abbott",
    "Acosta",
    "Baker",
    "Becker",
    "Bianchi",
    "Brooks",
    "Carter",
    "Castillo",
    "Chen",
    "Cohen",
    "Costa",
    "Diaz",
    "Duval",
    "Eriksen",
    "Evans",
    "Fischer",
    "Fontaine",
    "Garcia",
    "Gupta",
    "Hansen",
    "Hoffman",
    "Ibrahim",
    "Ivanova",
    "Jensen",
    "Johnson",
    "Kaplan",
    "Keller",
    "Kim",
    "Larsen",
    "Lopez",
    "Martin",
    "Mehta",
    "Moreau",
    "Moretti",
    "Nakamura",
    "Novak",
    "Okafor",
    "Olsen",
    "Osei",
    "Park",
    "Patel",
    "Petrov",
    "Quintero",
    "Ramos",
    "Rossi",
    "Sato",
    "Schmidt",
    "Silva",
    "Singh",
    "Tanaka",
    "Torres",
    "Usman",
    "Vargas",
    "Vogel",
    "Walsh",
    "Weber",
    "Wong",
    "Yamada",
    "Young",
    "Zhang",
]
COMPANIES = """Alder & Ash Carpentry|Blue Heron Books|Bright Path Tutoring|Canyon Cycle Works
Cedar Lane Veterinary|Cloud City Coffee|Copper Kettle Catering|Driftwood Yoga|Eastside Plumbing
Fernhill Nursery|Golden Gate Pilates|Granite Peak Climbing|Harvest Table|High Plains Dental
Ironwood Fitness|Juniper Legal|Kestrel Consulting|Lakeside Dance Academy|Maple Street Montessori
Meridian Massage|Northwind Movers|Oak Hollow Daycare|Paper Lantern Design|Quarry Lake Rowing
Redwood Chiropractic|Silver Birch Salon|Stonebridge Storage|Summit Swim School|Tidewater Tennis
Willow Creek Landscaping""".replace("\n", "|").split("|")
STREETS = """Alameda Ave|Birch St|Cherry Ln|Colfax Ave|Dogwood Dr|Elm St|Foothill Rd|Garfield St
Highland Ave|Juniper Ct|Larimer St|Magnolia Way|Oak St|Pearl St|Quail Run|River Rd|Spruce St
Walnut St""".replace("\n", "|").split("|")
CITIES = (
    ("Denver", "CO", "80202", "303"),
    ("Boulder", "CO", "80301", "720"),
    ("Fort Collins", "CO", "80521", "970"),
    ("Austin", "TX", "78701", "512"),
    ("Portland", "OR", "97201", "503"),
    ("Tacoma", "WA", "98402", "253"),
    ("Madison", "WI", "53703", "608"),
    ("Asheville", "NC", "28801", "828"),
    ("Tempe", "AZ", "85281", "480"),
    ("Salem", "MA", "01970", "978"),
)
CARDS = {
    "visa": "Visa",
    "mastercard": "Mastercard",
    "amex": "American Express",
    "discover": "Discover",
}
BANKS = ("First Mesa Bank", "Plains Credit Union", "Harbor Federal", "")
PLANS = (
    ("Monthly membership", 4900),
    ("Family membership", 8900),
    ("Ten-visit pass", 12000),
    ("Private lesson", 7500),
    ("Annual dues", 36000),
    ("Equipment rental", 2250),
    ("Drop-in", 1800),
    ("Consultation", 15000),
    ("Late fee", 1500),
)
STATUSES = ("settled", "approved", "declined", "refunded", "voided")
STATUS_WEIGHTS = (78, 8, 8, 4, 2)

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Book:
    """One merchant's records in the REST API's form, newest first."""

    customers: tuple[Record, ...]
    processed: tuple[Record, ...]
    pending: tuple[Record, ...]


def bank(account: Record) -> str:
    """The name that pages show for a payment account's bank or card."""
    name: str = account["bankName"] or account["@type"]
    return CARDS.get(name, name)


class Books:
    """Every merchant's records, with dates relative to the clock's day."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def of(self, username: str) -> Book:
        """The records of this merchant today (UTC)."""
        return _book(username, int(self._clock()) // DAY * DAY)


@lru_cache(maxsize=16)
def _book(username: str, today: int) -> Book:
    """The records for one day; `today` is its midnight in Unix seconds."""
    # The same seed must give the same values.
    rng = random.Random(f"{SEED}:{username}")  # noqa: S311 - fictional data from a fixed seed
    customer_count, processed_count, pending_count = SIZES.get(username, USUAL)
    customers = _customers(rng, customer_count)
    past = sorted(
        today - rng.randrange(1, HISTORY_DAYS) * DAY + rng.randrange(7 * 3600, 21 * 3600)
        for _ in range(processed_count)
    )
    first = rng.randrange(78_000_000, 79_000_000)
    processed = _transactions(rng, "transactions-history", username, customers, past, first)
    future = sorted(today + rng.randrange(1, SCHEDULE_DAYS) * DAY for _ in range(pending_count))
    first = rng.randrange(5_000_000, 6_000_000)
    pending = _transactions(rng, "transactions-pending", username, customers, future, first)
    return Book(customers, tuple(reversed(processed)), tuple(pending))


def _customers(rng: random.Random, count: int) -> tuple[Record, ...]:
    companies = rng.sample(COMPANIES, len(COMPANIES))
    last_names = rng.sample(LAST_NAMES, count)
    number = rng.randrange(23_100_000, 23_200_000)
    customers = []
    for last_name in last_names:
        number += rng.randrange(3, 400)
        # Half of them are companies.
        company = companies.pop() if companies and rng.random() < 0.5 else ""
        customers.append(_customer(rng, number, last_name, company))
    return tuple(customers)


def _customer(rng: random.Random, number: int, last_name: str, company: str) -> Record:
    first_name = rng.choice(FIRST_NAMES)
    city, state, postcode, area = rng.choice(CITIES)
    return {
        "@id": f"/api/customers/{number}",
        "@type": "customers",
        "id": number,
        "customerRef": f"C-{rng.randrange(1000, 10_000)}-{number % 1000:03d}",
        "company": company,
        "firstName": first_name,
        "lastName": last_name,
        "displayAs": "company" if company else "name",
        "address1": f"{rng.randrange(10, 4800)} {rng.choice(STREETS)}",
        "address2": rng.choice(("", "", "", "Suite 200", "Unit 4", "Apt 12")),
        "city": city,
        "state": state,
        "zip": postcode,
        # 555-01xx numbers are reserved for fiction.
        "phone": f"({area}) 555-01{rng.randrange(100):02d}",
        "email": f"{first_name}.{last_name}@example.com".lower(),
        "paymentAccounts": [
            _payment_account(rng, (number - 23_000_000) * 3 + each)
            for each in range(rng.choice((1, 1, 2)))
        ],
    }


def _payment_account(rng: random.Random, number: int) -> Record:
    last_four = f"{rng.randrange(10_000):04d}"
    if rng.random() < 0.35:
        return {
            "@type": "Bank",
            "id": number,
            "bankName": rng.choice(BANKS),
            "enabled": 1,
            "isSavings": int(rng.random() < 0.2),
            "referenceId": f"tok_{rng.getrandbits(64):016x}",
            "maskedAccountNumber": f"xx-{last_four}",
        }
    return {
        "@type": "Card",
        "id": number,
        "ccName": "",
        "expiration": f"{rng.randrange(1, 13)}{rng.randrange(27, 32)}",
        "bankName": rng.choice(tuple(CARDS)),
        "enabled": int(rng.random() < 0.93),
        "referenceId": f"tok_{rng.getrandbits(64):016x}",
        "maskedAccountNumber": f"xx-{last_four}",
    }


def _transactions(
    rng: random.Random,
    kind: str,
    username: str,
    customers: tuple[Record, ...],
    moments: list[int],
    number: int,
) -> list[Record]:
    """A transaction at each of `moments`, in that order; their numbers follow `number`."""
    records = []
    for moment in moments:
        number += rng.randrange(1, 90)
        is_pending = kind == "transactions-pending"
        status = "scheduled" if is_pending else rng.choices(STATUSES, STATUS_WEIGHTS)[0]
        customer = rng.choice(customers)
        records.append(_transaction(rng, kind, number, username, customer, moment, status))
    return records


def _transaction(
    rng: random.Random,
    kind: str,
    number: int,
    username: str,
    customer: Record,
    moment: int,
    status: str,
) -> Record:
    """One transaction. The amount is dollars with two decimals; `tranDate` is Unix seconds."""
    description, cents = rng.choice(PLANS)
    account = rng.choice(customer["paymentAccounts"])
    return {
        "@id": f"/api/{kind}/{number}",
        "@type": kind,
        "id": number,
        "amount": f"{cents * rng.choice((1, 1, 1, 1, 2)) / 100:.2f}",
        "customer": {
            field: customer[field]
            for field in ("@id", "@type", "id", "customerRef", "company", "firstName", "lastName")
        },
        "loginID": username,
        "referenceId": f"ref_{rng.getrandbits(48):012x}",
        "tranDate": moment,
        "status": status,
        "description": description,
        "paymentAccount": {
            field: account[field] for field in ("@type", "id", "bankName", "maskedAccountNumber")
        },
    }
