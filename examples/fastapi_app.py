"""A FastAPI app that signs merchants in, with nothing of this project but ``omnifund/``.

``uvicorn fastapi_app:app``; docs/take-it-with-you.md lists the variables. The endpoints are plain
functions: FastAPI runs these in threads, where they may wait for OmniFund and hold nobody up.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.middleware.sessions import SessionMiddleware

from omnifund.client import SIGN_IN_SECONDS, OmniFund
from omnifund.errors import OmniFundError, ReauthorizationRequired, Unavailable
from omnifund.redis_client import connect

omnifund = OmniFund.build(
    connect(os.environ["REDIS_URL"]),
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
    start = omnifund.start(request.cookies)
    response = RedirectResponse(start.url, 302)
    for cookie in start.cookies:
        response.set_cookie(**cookie)
    return response


@app.get("/callback")
def callback(request: Request) -> Response:
    """Finish what ``/login`` began."""
    query = request.query_params.multi_items()
    current = request.session.get("handle")
    done = omnifund.finish(query, request.cookies, current=current)
    # Whatever the session held belongs to whoever was here before.
    request.session.clear()
    request.session["handle"] = done.handle
    return RedirectResponse(done.next_path, 303)


@app.get("/")
def home(request: Request) -> dict[str, object]:
    """Return the names of the merchant's customers."""
    if "handle" not in request.session:
        return {"signed_in": False, "sign_in": "/login"}
    page = omnifund.api.customers(request.session["handle"])
    return {"signed_in": True, "customers": [customer.name for customer in page.items]}


def from_this_site(sec_fetch_site: Annotated[str | None, Header()] = None) -> None:
    """Refuse a form that another site sends; older browsers stop that by ``SameSite`` alone."""
    if sec_fetch_site not in (None, "same-origin", "none"):
        raise HTTPException(403)


@app.post("/logout", dependencies=[Depends(from_this_site)])
def logout(request: Request) -> Response:
    """Forget the token, and the session."""
    if "handle" in request.session:
        omnifund.sign_out(request.session["handle"])
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
    """Have browsers and proxies keep no copy of what is a merchant's own."""
    response = await call_next(request)
    response.headers["Cache-Control"] = "no-store"
    return response
