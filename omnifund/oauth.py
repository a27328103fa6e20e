"""OmniFund's OAuth endpoints, through Authlib; the only module that imports Authlib.

Authlib builds the authorization URL and the token requests, authenticates the client, and reads
error responses. ``HTTPClient`` sends them, and each response is validated before Authlib reads it,
because Authlib takes ``{}`` or ``{"message": …}`` for a token. None of its exceptions leaves here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlencode

from authlib.common.errors import AuthlibBaseError
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.client import OAuth2Client

from omnifund import errors
from omnifund.authorization import AuthorizationCode, AuthorizationRequest
from omnifund.events import Event, OnEvent, ignore
from omnifund.http import HTTPClient, Response, raise_if_unavailable, read_json_object
from omnifund.token import Token

AUTHORIZE_PATH: Final = "/oauth/v2/auth"
TOKEN_PATH: Final = "/oauth/v2/token"
MAX_TOKEN_RESPONSE_BYTES: Final = 64 * 1024

_MISCONFIGURED: Final = frozenset(
    {
        *("invalid_client", "unauthorized_client", "unsupported_grant_type"),
        *("invalid_request", "invalid_scope", "redirect_uri_mismatch"),
    }
)


@dataclass(eq=False)
class OAuthClient:
    """One registered client of OmniFund's authorization server.

    ``redirect_uri`` is sent exactly as given; ``clock`` returns Unix seconds.
    """

    http: HTTPClient
    _: KW_ONLY
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    clock: Callable[[], float]
    on_event: OnEvent = ignore

    def authorization_url(self, request: AuthorizationRequest) -> str:
        """Return where to send the merchant (manual, step 2; RFC 6749 §4.1.1; RFC 7636 §4.3)."""
        url, _ = self._client().create_authorization_url(
            self.http.base_url + AUTHORIZE_PATH,
            state=request.state,
            code_verifier=request.code_verifier or None,
        )
        return str(url)

    def exchange_code(self, code: AuthorizationCode) -> Token:
        """The redirect URI is sent again, exactly as in the first request (RFC 6749 §4.1.3).

        Exchanges a code for a token (manual, step 5). Call it once for each code: whatever it
        raises, the code must not be sent again.
        """
        parameters = {"code": code.value, "redirect_uri": self.redirect_uri}
        add_code_verifier(parameters, code.request)
        return self._request_token("authorization_code", parameters)

    def password(self, username: str, password: str) -> Token:
        """Request a token with the merchant's own credentials (manual, password; RFC 6749 §4.3)."""
        return self._request_token("password", {"username": username, "password": password})

    def refresh(self, token: Token) -> Token:
        """Request the next token (manual, "Refreshing an Access Token"; RFC 6749 §6)."""
        # Not Authlib's refresh_token(): it uses a token that the client object remembers.
        return self._request_token("refresh_token", {"refresh_token": token.refresh_token}, token)

    def _request_token(
        self, grant_type: str, parameters: Mapping[str, Any], previous: Token | None = None
    ) -> Token:
        """Send one token request. Raises this package's errors, and nothing else."""
        started, outcome = time.monotonic(), "granted"
        try:
            payload = self._client().fetch_token(
                self.http.base_url + TOKEN_PATH, grant_type=grant_type, **parameters
            )
            token = Token.from_response(payload, now=self.clock(), previous=previous)
            sent = [self.client_secret, *parameters.values()]
            require_no_secret(token, sent if previous is None else [*sent, previous.access_token])
            return token
        except (AuthlibBaseError, TypeError, ValueError, ArithmeticError):
            outcome = errors.InvalidResponse.__name__
            # `from None`: the library's texts may quote the request, secrets included.
            raise errors.InvalidResponse("the token response cannot be interpreted") from None
        except errors.OmniFundError as error:
            outcome = type(error).__name__
            if isinstance(error, errors.OmniFundTimeout) or getattr(error, "sent", False):
                self.on_event(Event.TOKEN_AMBIGUOUS, grant=grant_type)
            raise
        finally:
            seconds = round(time.monotonic() - started, 4)
            self.on_event(Event.TOKEN_REQUEST, grant=grant_type, outcome=outcome, seconds=seconds)

    def _client(self) -> OAuth2Client:
        # One for each request: Authlib keeps the token in it, and two merchants sharing one could
        # receive each other's token.
        return OAuth2Client(
            self,
            client_id=self.client_id,
            client_secret=self.client_secret,
            # The manual shows the credentials in the body; Authlib's default is HTTP Basic.
            token_endpoint_auth_method="client_secret_post",
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
        )

    def post(
        self, _url: str, *, data: dict[str, str], headers: Mapping[str, str], auth: ClientAuth
    ) -> SimpleNamespace:
        """Be Authlib's HTTP session: send a token request, return what Authlib reads of a success.

        An error response is raised here, because Authlib rejects descriptions in other languages.
        """
        body = add_credentials(data, auth)
        response = self.http.send(
            "POST", TOKEN_PATH, headers=headers, body=body, max_bytes=MAX_TOKEN_RESPONSE_BYTES
        )
        raise_if_unavailable(response, now=self.clock())
        payload = require_consistent_status(response)
        if "error" in payload:
            raise _error_response(payload["error"])
        return SimpleNamespace(status_code=200, json=lambda: payload)


def add_code_verifier(parameters: dict[str, str], request: AuthorizationRequest) -> None:
    """The code verifier is sent (RFC 7636 §4.5)."""
    if request.code_verifier:
        parameters["code_verifier"] = request.code_verifier


def add_credentials(body: Mapping[str, str], auth: ClientAuth) -> str:
    """The client ID and secret are in the request body only (RFC 6749 §2.3.1)."""
    _, _, credentials = auth.prepare("POST", "", {}, "")
    return f"{urlencode(body)}&{credentials}"


def require_consistent_status(response: Response) -> Mapping[str, Any]:
    """The status code matches the body (RFC 6749 §5.1, §5.2).

    A token response is either a success with status 200, or a 4xx with a string ``error``. Returns
    its JSON object; raises ``OmniFundUnavailable`` or ``InvalidResponse``.
    """
    payload = read_json_object(response)
    granted = response.status == 200 and "error" not in payload
    refused = 400 <= response.status < 500 and isinstance(payload.get("error"), str)
    if granted or refused:
        return payload
    raise errors.InvalidResponse("the token response is neither a valid token nor a valid error")


def require_no_secret(token: Token, sent: Iterable[str | None]) -> None:
    """No secret is repeated in the scope, which pages show (RFC 9700 §4.3)."""
    secrets = [token.access_token, token.refresh_token, *sent]
    if token.scope and any(each and len(each) >= 8 and each in token.scope for each in secrets):
        raise errors.InvalidResponse("the token response repeats a secret in its scope")


def _error_response(error: object) -> errors.OmniFundError:
    """Map an error response of the token endpoint (RFC 6749 §5.2)."""
    code = errors.shown_code(error)
    if code == "invalid_grant":
        return errors.InvalidGrant("OmniFund rejected this grant")
    if code in _MISCONFIGURED:
        return errors.ClientMisconfigured(code)
    if code in ("temporarily_unavailable", "server_error"):
        return errors.OmniFundUnavailable("OmniFund reports that it cannot respond now")
    return errors.InvalidResponse("OmniFund returned an error that this app does not know")
