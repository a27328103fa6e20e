"""A FastAPI app that signs merchants in, with nothing of this project but ``omnifund/``.

``uvicorn fastapi_app:app``; docs/take-it-with-you.md lists the variables. The endpoints are plain
functions: FastAPI runs these in threads, where they can wait for OmniFund and block no request.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Annotated

import redis
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.middleware.sessions import SessionMiddleware

from omnifund.client import SIGN_IN_SECONDS, OmniFund
from omnifund.errors import OmniFundError, ReauthorizationRequired, Unavailable
from omnifund.redis_client import OPTIONS
from omnifund.token_store import RedisTokenStore

omnifund = OmniFund(
    RedisTokenStore(redis.Redis.from_url(os.environ["REDIS_URL"], **OPTIONS)),
    base_url=os.environ["OMNIFUND_BASE_URL"],
    client_id=os.environ["OMNIFUND_CLIENT_ID"],
    client_secret=os.environ["OMNIFUND_CLIENT_SECRET"],
    redirect_uri=os.environ["OMNIFUND_REDIRECT_URI"],
    secret_keys=[os.environ["SECRET_KEY"]],
)


app = FastAPI()
app.add_middleware(
    SessionMiddleware,
    secret_key=os.environ["SECRET_KEY"],
    max_age=SIGN_IN_SECONDS,
    https_only=omnifund.secure_cookies,
)


@app.get("/login")
def login(request: Request) -> Response:
    """Send the merchant to OmniFund."""
    start = omnifund.create_authorization_request(request.cookies, request.query_params.get("next"))
    response = RedirectResponse(start.url, 302)
    for cookie in start.cookies:
        response.set_cookie(**cookie)
    return response


@app.get("/callback")
def callback(request: Request) -> Response:
    """Complete what ``/login`` started."""
    sign_in = omnifund.handle_callback(
        request.url.query, request.cookies, current=request.session.get("connection")
    )
    # The session's data belong to an earlier visitor.
    request.session.clear()
    request.session["connection"] = sign_in.connection_id
    return RedirectResponse(sign_in.next, 303)


@app.get("/")
def home(request: Request) -> dict[str, object]:
    """Return the names of the merchant's customers."""
    if "connection" not in request.session:
        return {"signed_in": False, "sign_in": "/login"}
    page = omnifund.api.customers(request.session["connection"])
    return {"signed_in": True, "customers": [customer.name for customer in page.items]}


def from_this_site(sec_fetch_site: Annotated[str | None, Header()] = None) -> None:
    """Reject a form that another site sends; in older browsers ``SameSite`` alone prevents that."""
    if sec_fetch_site not in (None, "same-origin", "none"):
        raise HTTPException(403)


@app.post("/logout", dependencies=[Depends(from_this_site)])
def logout(request: Request) -> Response:
    """Delete the tokens, and the session."""
    if "connection" in request.session:
        omnifund.disconnect(request.session["connection"])
    request.session.clear()
    return RedirectResponse("/", 303)


@app.exception_handler(OmniFundError)
def explain(request: Request, error: OmniFundError) -> Response:
    """Every failure has a name and a status. After 401 the caller opens ``/login``."""
    if isinstance(error, ReauthorizationRequired):
        request.session.clear()
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Unavailable) else {}
    return JSONResponse({"problem": type(error).__name__}, error.status, headers)


@app.middleware("http")
async def keep_nothing(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Let browsers and proxies store no copy of a merchant's data."""
    response = await call_next(request)
    response.headers["Cache-Control"] = "no-store"
    return response
