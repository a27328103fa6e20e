"""What an answer of OmniFund must look like before anybody believes a word of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, NoReturn

from omnifund import trace
from omnifund.errors import InvalidResponse, OmniFundUnavailable
from omnifund.trace import Check
from omnifund.transport import Answer

DEFAULT_RETRY_AFTER: Final = 5
MAX_RETRY_AFTER: Final = 3600
_SHORT_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_JSON_TYPES: Final = re.compile(r"application/(?:[a-z0-9.+-]+\+)?json", re.IGNORECASE)


def read_token_answer(answer: Answer, *, now: float) -> Mapping[str, Any]:
    """Return the JSON object of a token endpoint's answer (RFC 6749 §5.1, §5.2).

    It is either a success with status 200, or an error with a status of 4xx and a string `error`.
    Raises ``OmniFundUnavailable`` for 429 and 5xx, ``InvalidResponse`` for everything else.
    """
    raise_if_unavailable(answer, now=now)
    payload = read_json_object(answer)
    granted = answer.status == 200 and "error" not in payload
    refused = 400 <= answer.status < 500 and isinstance(payload.get("error"), str)
    if granted or refused:
        trace.checked(Check.STATUS)
        return payload
    raise InvalidResponse("OmniFund's token answer fits neither success nor refusal")


def raise_if_unavailable(answer: Answer, *, now: float) -> None:
    """Raise ``OmniFundUnavailable`` for 429 and 5xx, with the server's ``Retry-After``."""
    if answer.status == 429 or answer.status >= 500:
        raise OmniFundUnavailable(
            "OmniFund cannot answer now",
            retry_after=retry_after(answer.headers.get("Retry-After"), now=now),
        )


def read_json_object(answer: Answer) -> Mapping[str, Any]:
    """Return the body as a JSON object. Raises ``InvalidResponse`` when it is none."""
    content_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    if _JSON_TYPES.fullmatch(content_type) is None:
        raise InvalidResponse("OmniFund's answer is not JSON")
    try:
        payload = json.loads(answer.body.decode("utf-8"), parse_constant=_no_such_number)
    except (ValueError, RecursionError):
        raise InvalidResponse("OmniFund's answer is not valid JSON") from None
    if not isinstance(payload, dict):
        raise InvalidResponse("OmniFund's answer is not a JSON object")
    trace.checked(Check.JSON)
    return payload


def retry_after(value: str | None, *, now: float) -> int:
    """Read ``Retry-After`` (RFC 9110 §10.2.3): seconds, or a date. ``now``: Unix seconds."""
    if value is None:
        return DEFAULT_RETRY_AFTER
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return min(int(value), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return DEFAULT_RETRY_AFTER
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(min(max(moment.timestamp() - now, 0), MAX_RETRY_AFTER))


def short_code(value: object) -> str | None:
    """Return an error code if it is fit to be shown or logged, else ``None``."""
    return value if isinstance(value, str) and _SHORT_CODE.fullmatch(value) else None


def _no_such_number(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON (RFC 8259 §6)")
