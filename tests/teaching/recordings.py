"""What a visitor's recordings say, as they are downloaded."""

from __future__ import annotations

from typing import Any

from tests.support.merchant import Merchant


def recordings(visitor: Merchant) -> list[dict[str, Any]]:
    """The visitor's recordings, the latest first."""
    found: list[dict[str, Any]] = visitor.get("/inspector/recordings.json").json()["recordings"]
    return found


def steps(recording: dict[str, Any]) -> list[str]:
    """What each message of a recording is for."""
    return [exchange["step"] for exchange in recording["exchanges"]]


def exchange_of(recording: dict[str, Any], step: str) -> dict[str, Any]:
    """The last message of a recording that is for this."""
    found: dict[str, Any] = [
        exchange for exchange in recording["exchanges"] if exchange["step"] == step
    ][-1]
    return found


def checks(exchange: dict[str, Any], outcome: str = "passed") -> list[str]:
    """The functions whose rules had this outcome, in order."""
    return [each["function"] for each in exchange["checks"] if each["outcome"] == outcome]
