"""What is read out of a response, without a network."""

from __future__ import annotations

import contextlib
import json
from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omnifund.errors import InvalidResponse, OmniFundUnavailable
from omnifund.http import (
    DEFAULT_RETRY_AFTER,
    MAX_RETRY_AFTER,
    Response,
    raise_if_unavailable,
    read_json_object,
    retry_after,
)

NOW = 1_800_000_000


def json_response(body: bytes | str, content_type: str = "application/json") -> Response:
    content = body if isinstance(body, bytes) else body.encode()
    return Response(200, {"Content-Type": content_type}, content)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=utf-8", "application/ld+json ;x"],
)
def test_a_json_object_is_read(content_type: str) -> None:
    body = '{"a": [1, 2.5, "\\ud83d\\ude00 \N{SNOWMAN}", null, true]}'
    read = read_json_object(json_response(body, content_type))
    assert read == {"a": [1, 2.5, "\N{GRINNING FACE} \N{SNOWMAN}", None, True]}


@pytest.mark.parametrize("content_type", ["", "text/html", "text/plain", "application/jsonp", "a"])
def test_another_content_type_is_invalid(content_type: str) -> None:
    """C6"""
    with pytest.raises(InvalidResponse):
        read_json_object(json_response("{}", content_type))


@pytest.mark.parametrize(
    "body",
    [
        *("", "[1]", '"a"', "null", "7", '{"a": 1', '{"a": 1}}', "[" * 30000 + "]" * 30000),
        *('{"a": NaN}', '{"a": Infinity}', '{"a": -Infinity}', b'{"a": "\xff\xfe"}'),
        '{"a": ' + "9" * 5000 + "}",
        *('{"a": "\\ud800"}', '{"a": ["\\uDFFF\\uD800"]}', '{"\\udc00": 1}'),
        b'\xef\xbb\xbf{"a": 1}',
    ],
)
def test_what_is_no_json_object_is_invalid(body: bytes | str) -> None:
    """C6, K17"""
    with pytest.raises(InvalidResponse):
        read_json_object(json_response(body))


def test_a_giant_number_is_kept_as_it_is() -> None:
    """K17: what it means is for its reader to say."""
    assert read_json_object(json_response('{"a": ' + "9" * 400 + "}")) == {"a": 10**400 - 1}


@given(st.binary() | st.text().map(str.encode))
@example(b'{"a": "\\uD800\\uDBFF"}')
def test_whatever_the_body_is_only_invalid_response_is_raised(body: bytes) -> None:
    """C6, K17"""
    with contextlib.suppress(InvalidResponse):
        json.dumps(read_json_object(json_response(body)), allow_nan=False).encode("ascii")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, DEFAULT_RETRY_AFTER),
        ("", DEFAULT_RETRY_AFTER),
        ("0", 0),
        (" 17 ", 17),
        ("999999999", MAX_RETRY_AFTER),
        ("9999999999", DEFAULT_RETRY_AFTER),
        ("-1", DEFAULT_RETRY_AFTER),
        ("soon", DEFAULT_RETRY_AFTER),
        ("\u0661", DEFAULT_RETRY_AFTER),
        (formatdate(NOW + 120, usegmt=True), 120),
        ("Fri, 15 Jan 2027 08:02:00", 120),
        (formatdate(NOW - 120, usegmt=True), 0),
        ("Mon, 01 Jan 9999 00:00:00 GMT", MAX_RETRY_AFTER),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", DEFAULT_RETRY_AFTER),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999999999", DEFAULT_RETRY_AFTER),
        ("Mon, 01 Jan 2024 00:00:00 +9999", DEFAULT_RETRY_AFTER),
        ("Fri, 31 Dec 9999 23:59:59 -2359", MAX_RETRY_AFTER),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: int) -> None:
    """C9, K17"""
    assert retry_after(value, now=NOW) == seconds


DATE_PARTS = st.sampled_from(
    ["Mon,", "01", "Jan", "2024", "0001", "9" * 25, "00:00:00", "24:61", "GMT", "+0000", "-9999"]
)


@given(st.text(max_size=40) | st.lists(DATE_PARTS | st.text(max_size=4), max_size=8).map(" ".join))
@example("0 -0 0 0:0:0")
def test_whatever_retry_after_says_is_a_bounded_number_of_seconds(value: str) -> None:
    """C9, K17"""
    assert 0 <= retry_after(value, now=NOW) <= MAX_RETRY_AFTER


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 599, 999])
def test_an_unavailable_omnifund_says_when_to_come_back(status: int) -> None:
    """C9"""
    with pytest.raises(OmniFundUnavailable) as caught:
        raise_if_unavailable(Response(status, {"Retry-After": "77"}, b""), now=NOW)
    assert (caught.value.retry_after, caught.value.sent) == (77, True)


@pytest.mark.parametrize("status", [200, 204, 302, 400, 401, 428, 499])
def test_every_other_status_is_for_the_caller(status: int) -> None:
    raise_if_unavailable(Response(status, {"Retry-After": "77"}, b""), now=NOW)


def test_a_body_has_no_repr() -> None:
    """D2"""
    assert "canary" not in repr(json_response("canary"))
