"""Responses with a fault."""

import json
import time
from collections.abc import Iterator

from flask import Response

from local_omnifund.faults import Fault

RETRY_AFTER_SECONDS = 7
SILENT_SECONDS = 20.0
DRIP_SECONDS = 0.5
SLOW_SECONDS = 3.0

HTML = "text/html; charset=UTF-8"
ERROR_PAGE = "<!doctype html><title>Error</title><h1>Oops! An Error Occurred</h1>\n"
ELSEWHERE = "https://elsewhere.example/oauth/v2/token"


def instead_of_tokens(fault: Fault | None, pace: float) -> Response | None:
    """The response that `fault` sends in place of tokens, or None if tokens are to be issued.

    `pace` multiplies every wait.
    """
    if fault is Fault.TOKEN_TIMEOUT:
        # Longer than a client should wait: the response after it is for clients without a timeout.
        time.sleep(SILENT_SECONDS * pace)
        return Response(ERROR_PAGE, 504, content_type=HTML)
    if fault is Fault.TOKEN_500:
        return Response(ERROR_PAGE, 500, content_type=HTML)
    if fault is Fault.TOKEN_503:
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return Response(ERROR_PAGE, 503, headers, content_type=HTML)
    if fault is Fault.TOKEN_HTML:
        return Response("<!doctype html><title>Welcome</title>\n", 200, content_type=HTML)
    if fault is Fault.TOKEN_REDIRECT:
        return Response("", 307, {"Location": ELSEWHERE})
    return None


def with_fault(fault: Fault | None, response: Response, pace: float) -> Response:
    """The token response, changed or delayed by `fault`."""
    if fault is Fault.TOKEN_WITHOUT_TYPE:
        members = json.loads(response.get_data())
        del members["token_type"]
        response.set_data(json.dumps(members, separators=(",", ":")))
    if fault is Fault.TOKEN_DRIP:
        body = response.get_data()
        return Response(_drip(body, DRIP_SECONDS * pace), response.status_code, response.headers)
    if fault is Fault.REFRESH_SLOW:
        time.sleep(SLOW_SECONDS * pace)
    return response


def instead_of_data(fault: Fault) -> Response | None:
    """The response that `fault` sends in place of the API's data, if it sends one."""
    if fault is Fault.API_500:
        return Response(ERROR_PAGE, 500, content_type=HTML)
    if fault is Fault.API_ODD_JSON:
        return Response('["unexpected"]', 200, content_type="application/ld+json; charset=utf-8")
    return None


def _drip(body: bytes, pause: float) -> Iterator[bytes]:
    for index in range(len(body)):
        time.sleep(pause)
        yield body[index : index + 1]
