"""The conversation with OmniFund's OAuth endpoints, through Authlib. Nothing else imports Authlib.

Authlib builds the authorization URL and the token requests, authenticates the client and reads the
error answers; the HTTP below it is ``HTTPClient``'s, and what comes back is checked before Authlib
sees it, because Authlib takes ``{}`` or ``{"message": …}`` for a token. Nothing of Authlib,
httpcore2 or json escapes from here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from authlib.common.errors import AuthlibBaseError
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.client import OAuth2Client

from omnifund import trace
from omnifund.attempts import Attempt
from omnifund.callback import AuthorizationCode
from omnifund.errors import (
    ClientMisconfigured,
    GrantRejected,
    InvalidResponse,
    OmniFundError,
    OmniFundTimeout,
    OmniFundUnavailable,
)
from omnifund.events import Event, Observer, ignore
from omnifund.http import HTTPClient, Response, raise_if_unavailable, read_json_object
from omnifund.token import Token
from omnifund.trace import Check

TOKEN_PATH: Final = "/oauth/v2/token"
MAX_TOKEN_ANSWER_BYTES: Final = 64 * 1024
_SHORT_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_MISCONFIGURED: Final = frozenset(
    {
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_request",
        "invalid_scope",
        "redirect_uri_mismatch",
    }
)


class Gateway:
    """OmniFund's authorization server, as far as one client of it needs it."""

    def __init__(
        self,
        transport: HTTPClient,
        *,
        client_id: str,
        client_secret: str,
        redirect_uri: str,
        clock: Callable[[], float],
        observe: Observer = ignore,
    ) -> None:
        """``clock`` returns Unix seconds; ``redirect_uri`` is sent byte for byte as given."""
        self._client_id = client_id
        self._client_secret = client_secret
        self._redirect_uri = redirect_uri
        self._authorize_url = f"{transport.base_url}/oauth/v2/auth"
        self._token_url = transport.base_url + TOKEN_PATH
        self._clock = clock
        self._observe = observe
        self._session = _Session(transport, self._token_url, clock)
        # Building a URL changes nothing in a client of Authlib's, so one serves all threads.
        self._url_builder = self._client()

    @property
    def issuer(self) -> str:
        """The authorization server's identifier (RFC 9207)."""
        return self._authorize_url.removesuffix("/oauth/v2/auth")

    def authorization_url(self, attempt: Attempt) -> str:
        """Return where to send the merchant (manual, step 2; RFC 6749 §4.1.1; RFC 7636 §4.3)."""
        url, _ = self._url_builder.create_authorization_url(
            self._authorize_url,
            state=attempt.state,
            code_verifier=attempt.code_verifier or None,
        )
        return str(url)

    def redeem(self, code: AuthorizationCode) -> Token:
        """Exchange a code for a token (manual, step 5; RFC 6749 §4.1.3).

        Call it once for each code: whatever it raises, the code must not be sent again.
        """
        params = {"code": code.value, "redirect_uri": self._redirect_uri}
        trace.checked(Check.REDIRECT_URI_SENT, of_next=True)
        if code.attempt.code_verifier:
            params["code_verifier"] = code.attempt.code_verifier
            trace.checked(Check.VERIFIER_SENT, of_next=True)
        payload = self._request_token("authorization_code", **params)
        return Token.from_response(payload, now=self._clock())

    def password(self, username: str, password: str) -> Token:
        """Get a token with the merchant's own credentials (manual, password; RFC 6749 §4.3).

        Raises ``GrantRejected`` when OmniFund does not know this pair.
        """
        payload = self._request_token("password", username=username, password=password)
        return Token.from_response(payload, now=self._clock())

    def refresh(self, token: Token) -> Token:
        """Get the next token (manual, "Refreshing an Access Token"; RFC 6749 §6).

        Raises ``GrantRejected`` when OmniFund does not accept the refresh token any more.
        """
        # Not Authlib's refresh_token(): that one acts on a token that it keeps to itself.
        payload = self._request_token("refresh_token", refresh_token=token.refresh_token)
        fresh = Token.from_response(payload, now=self._clock(), previous=token)
        trace.changed(token.secrets, fresh.secrets)
        return fresh

    def _request_token(self, grant_type: str, **params: Any) -> Mapping[str, Any]:
        """Send one token request. Raises what the package's ``errors`` name, and nothing else."""
        started = time.monotonic()

        def note(outcome: str) -> None:
            seconds = round(time.monotonic() - started, 4)
            self._observe(Event.TOKEN_REQUEST, grant=grant_type, outcome=outcome, seconds=seconds)

        try:
            payload = self._fetch(grant_type, params)
        except OmniFundError as error:
            trace.failed(error)
            note(type(error).__name__)
            if isinstance(error, OmniFundTimeout) or getattr(error, "sent", False):
                self._observe(Event.TOKEN_AMBIGUOUS, grant=grant_type)
            raise
        note("granted")
        return payload

    def _fetch(self, grant_type: str, params: dict[str, Any]) -> Mapping[str, Any]:
        try:
            # A client of its own: Authlib keeps the answer in it, and two merchants sharing one
            # could be given each other's token.
            payload: Mapping[str, Any] = self._client().fetch_token(
                self._token_url, grant_type=grant_type, **params
            )
        except OAuth2Error as error:
            raise _refusal(error.error) from None
        except (AuthlibBaseError, TypeError, ValueError):
            # `from None`: texts of the library may quote the request, secrets included.
            raise InvalidResponse("OmniFund's token answer cannot be understood") from None
        return payload

    def _client(self) -> OAuth2Client:
        return OAuth2Client(
            self._session,
            client_id=self._client_id,
            client_secret=self._client_secret,
            # The manual shows the credentials in the body; Authlib's default is HTTP Basic.
            token_endpoint_auth_method="client_secret_post",
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
        )


def read_token_answer(answer: Response, *, now: float) -> Mapping[str, Any]:
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


def short_code(value: object) -> str | None:
    """Return an error code if it is fit to be shown or logged, else ``None``."""
    return value if isinstance(value, str) and _SHORT_CODE.fullmatch(value) else None


def _refusal(error: object) -> OmniFundError:
    """Name an error answer of the token endpoint (RFC 6749 §5.2)."""
    code = short_code(error)
    if code == "invalid_grant":
        return GrantRejected("OmniFund does not accept this grant")
    if code in _MISCONFIGURED:
        return ClientMisconfigured(code)
    if code in ("temporarily_unavailable", "server_error"):
        return OmniFundUnavailable("OmniFund says that it cannot answer now")
    return InvalidResponse("OmniFund refused for a reason that this app does not know")


class _Session:
    """What Authlib takes for an HTTP session: it sends to the token endpoint, and to it alone."""

    def __init__(self, transport: HTTPClient, url: str, clock: Callable[[], float]) -> None:
        self._transport = transport
        self._url = url
        self._clock = clock
        self._credentials = ""

    def post(
        self, url: str, *, data: dict[str, str], headers: Mapping[str, str], auth: ClientAuth
    ) -> _Response:
        """Send a token request (RFC 6749 §4.1.3); return its answer, checked."""
        if url != self._url:
            raise ValueError("only the token endpoint itself is called")
        if not self._credentials:
            # The same in every request of this client, so Authlib is asked for them once.
            _, _, self._credentials = auth.prepare("POST", url, {}, "")
        trace.checked(Check.CREDENTIALS_IN_BODY, of_next=True)
        answer = self._transport.send(
            "POST",
            TOKEN_PATH,
            headers=headers,
            body=f"{urlencode(data)}&{self._credentials}",
            max_bytes=MAX_TOKEN_ANSWER_BYTES,
        )
        return _Response(answer.status, read_token_answer(answer, now=self._clock()))


@dataclass(frozen=True, slots=True)
class _Response:
    """As much of a response as Authlib looks at."""

    status_code: int
    payload: Mapping[str, Any]

    def json(self) -> Mapping[str, Any]:
        """Return the JSON object, which has been read and checked already."""
        return self.payload
