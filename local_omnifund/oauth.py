"""The OAuth 2.0 authorization server: Authlib's grants with OmniFund's responses.

Authlib provides the structure: the choice of the grant, the checks of client and redirect URI,
PKCE, and the steps of each grant. The subclasses here change what OmniFund does differently: the
order of the checks, the error codes and texts, status 400 for every error, and the responses.
"""

import base64
import json
import logging
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AccessDeniedError, OAuth2Request, grants
from authlib.oauth2.rfc6749.errors import (
    InvalidGrantError,
    InvalidRequestError,
    UnsupportedGrantTypeError,
)
from authlib.oauth2.rfc6749.hooks import hooked
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7636 import CodeChallenge
from flask import Response

from local_omnifund.demo import Clients
from local_omnifund.faults import ALL, AT_CODE, AT_PASSWORD, AT_REFRESH, Fault, Faults, grant_scope
from local_omnifund.merchants import Merchant, Merchants
from local_omnifund.misbehavior import instead_of_tokens, with_fault
from local_omnifund.models import AuthorizationCode, Client, Token
from local_omnifund.redirect_uris import with_query
from local_omnifund.store import ACCESS_TOKEN_SECONDS, IssuedTokens, Store

log = logging.getLogger(__name__)
# Authlib writes issued tokens to its log at DEBUG.
logging.getLogger("authlib").setLevel(logging.INFO)

JSON_HEADERS = [
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-store, private"),
    ("Pragma", "no-cache"),
]
KNOWN_GRANT_TYPE = re.compile(
    r"authorization_code|token|password|client_credentials|refresh_token|https?://.+|urn:.+"
)
ALREADY_USED_CODE = "Code doesn't exist or is invalid for the client"
EXPIRED_CODE = "The authorization code has expired"
INVALID_CLIENT = "The client credentials are invalid"
INVALID_REFRESH_TOKEN = "Invalid refresh token"
REDIRECT_URI_MISMATCH = "The redirect URI is missing or do not match"

# Faults that are error responses, in the words of the real ones.
ERRORS = {
    Fault.CODE_EXPIRED: ("invalid_grant", EXPIRED_CODE),
    Fault.CODE_USED: ("invalid_grant", ALREADY_USED_CODE),
    Fault.REDIRECT_URI_MISMATCH: ("redirect_uri_mismatch", REDIRECT_URI_MISMATCH),
    Fault.INVALID_CLIENT: ("invalid_client", INVALID_CLIENT),
    Fault.REFRESH_REVOKED: ("invalid_grant", INVALID_REFRESH_TOKEN),
}


class OmniFundError(OAuth2Error):
    """An error with OmniFund's own code and text; sent to `redirect_uri` if it is given.

    Authlib rejects texts with double quotes, which RFC 6749 §5.2 does not allow. OmniFund sends
    some, so the text is set after Authlib's check.
    """

    def __init__(
        self, error: str, description: str | None, *, redirect_uri: str | None = None
    ) -> None:
        super().__init__(error=error, redirect_uri=redirect_uri)
        self.description = description


class OmniFundRequest(OAuth2Request):
    """An authorize or token request, reduced to its parameters and HTTP Basic credentials."""

    def __init__(
        self,
        method: str,
        parameters: Mapping[str, str],
        basic_credentials: tuple[str, str] | None = None,
    ) -> None:
        # Authlib rejects plain http for every host but loopback. This server also runs under
        # container names, so Authlib does not get the URL of the request.
        super().__init__(method, "https://local-omnifund/")
        self.payload = BasicOAuth2Payload(dict(parameters))
        self.basic_credentials = basic_credentials
        self.scopes: Sequence[str] = ()
        self.fault: Fault | None = None

    @property
    def form(self) -> Mapping[str, str]:
        parameters: Mapping[str, str] = self.payload.data
        return parameters

    def parameter(self, name: str) -> str | None:
        """The parameter, or None if it is missing or empty: OmniFund treats both the same."""
        return self.form.get(name) or None


class OmniFundServer(AuthorizationServer):
    """The authorization and token endpoints without pages, for `authorize.py` and `token.py`."""

    def __init__(
        self, store: Store, clients: Clients, merchants: Merchants, faults: Faults, *, pace: float
    ) -> None:
        super().__init__(query_client=clients.find_active)
        self.store = store
        self.merchants = merchants
        self.faults = faults
        self._pace = pace
        self.register_token_generator("default", _generate_token)
        self.register_grant(AuthorizationCodeGrant, [Pkce(required=False)])
        self.register_grant(PasswordGrant)
        self.register_grant(RefreshTokenGrant)

    def decide(self, request: OmniFundRequest, merchant: Merchant | None) -> Response:
        """Respond to a submitted consent form: Allow if there is a merchant, otherwise Deny.

        The caller has checked that the client exists and that the redirect URI is registered.
        """
        try:
            grant = self.get_authorization_grant(request)
        except OAuth2Error as error:
            return self.handle_error_response(request, error)
        response: Response = self.create_authorization_response(request, merchant, grant)
        return response

    def create_token_response(self, request: OmniFundRequest) -> Response:
        """Respond to a token request, checked in OmniFund's order: grant type, client, grant."""
        try:
            if not KNOWN_GRANT_TYPE.fullmatch(request.parameter("grant_type") or ""):
                raise OmniFundError(
                    "invalid_request", "Invalid grant_type parameter or parameter missing"
                )
            request.client = self.authenticate_client(request)
            grant = self.get_token_grant(request)
            grant.validate_token_request()
            response = instead_of_tokens(request.fault, self._pace)
            if response is None:
                issued = self.handle_response(*grant.create_token_response())
                response = with_fault(request.fault, issued, self._pace)
            return response
        except OAuth2Error as error:
            return self.handle_error_response(request, error)

    def create_oauth2_request(self, request: OmniFundRequest) -> OmniFundRequest:
        """Return the request, which is in Authlib's form already."""
        return request

    def authenticate_client(
        self,
        request: OmniFundRequest,
        methods: list[str] | None = None,
        endpoint: str = "token",
    ) -> Client:
        """HTTP Basic if it names a client, otherwise `client_id` and `client_secret`."""
        if request.basic_credentials is not None:
            client_id, client_secret = request.basic_credentials
        else:
            client_id = request.parameter("client_id") or ""
            client_secret = request.parameter("client_secret") or ""
        if not client_id:
            raise OmniFundError("invalid_client", "Client id was not found in the headers or body")
        client: Client | None = self.query_client(client_id)
        if client is None or not client.check_client_secret(client_secret):
            raise OmniFundError("invalid_client", INVALID_CLIENT)
        return client

    def get_authorization_grant(self, request: OmniFundRequest) -> grants.BaseGrant:
        """Find the grant, or raise OmniFund's error for the response type."""
        response_type = request.parameter("response_type")
        redirect_uri = request.payload.redirect_uri
        if response_type is None:
            raise OmniFundError(
                "invalid_request", "Invalid response type.", redirect_uri=redirect_uri
            )
        if response_type != "code":
            raise OmniFundError("unsupported_response_type", None, redirect_uri=redirect_uri)
        return super().get_authorization_grant(request)

    def get_token_grant(self, request: OmniFundRequest) -> grants.BaseGrant:
        """Find the grant that the client may use."""
        if not request.client.check_grant_type(request.payload.grant_type):
            raise OmniFundError(
                "unauthorized_client", "The grant type is unauthorized for this client_id"
            )
        try:
            return super().get_token_grant(request)
        except UnsupportedGrantTypeError as error:
            raise OmniFundError("unsupported_grant_type", None) from error

    def validate_requested_scope(self, scope: str | None) -> None:
        """Reject every requested scope, because none is configured."""
        if scope:
            raise OmniFundError("invalid_scope", "An unsupported scope was requested.")

    def inject(
        self, request: OmniFundRequest, faults: Sequence[Fault], scopes: Iterable[str] = ()
    ) -> None:
        """Inject an enabled fault: raise its error now, or keep it for the response."""
        request.fault = self.faults.take(faults, [ALL, *scopes])
        if request.fault in ERRORS:
            raise OmniFundError(*ERRORS[request.fault])

    def issue(
        self,
        request: OmniFundRequest,
        token: Mapping[str, Any],
        consume: AuthorizationCode | Token | None,
    ) -> bool:
        """Store a new pair of tokens, and delete the code or refresh token that they replace."""
        return self.store.issue(
            IssuedTokens(token["access_token"], token["refresh_token"]),
            client_id=request.client.client_id,
            username=request.user.username,
            consume=consume,
        )

    def handle_response(
        self, status: int, payload: str | Mapping[str, Any], headers: list[tuple[str, str]]
    ) -> Response:
        """Compact JSON that keeps the order of the keys."""
        if isinstance(payload, str):
            return Response(payload, status, headers)
        body = json.dumps(payload, separators=(",", ":"))
        return Response(body, status, JSON_HEADERS)

    def handle_error_response(self, request: OmniFundRequest, error: OAuth2Error) -> Response:
        """Every error: a redirect if it has a redirect URI, otherwise status 400."""
        log.info("rejected: %s: %s", error.error, error.description)
        if error.redirect_uri:
            return _error_redirect(request, error)
        body = {"error": error.error, "error_description": error.description or None}
        return self.handle_response(400, body, JSON_HEADERS)


class AuthorizationCodeGrant(grants.AuthorizationCodeGrant):
    """RFC 6749 §4.1. A code is exchanged once; a failed exchange does not consume it."""

    TOKEN_ENDPOINT_HTTP_METHODS = ("GET", "POST")
    server: OmniFundServer
    request: OmniFundRequest

    def create_authorization_response(
        self, redirect_uri: str, grant_user: Merchant | None
    ) -> tuple[int, str, list[tuple[str, str]]]:
        if grant_user is None:
            raise AccessDeniedError(
                "The user denied access to your application", redirect_uri=redirect_uri
            )
        self.request.user = grant_user
        code = new_token()
        self.save_authorization_code(code, self.request)
        # OmniFund puts the state first, and returns an empty one if there was none.
        parameters = [("state", self.request.payload.state or ""), ("code", code)]
        return 302, "", [("Location", with_query(redirect_uri, parameters))]

    def save_authorization_code(self, code: str, request: OmniFundRequest) -> None:
        self.server.store.save_code(
            code,
            client_id=request.client.client_id,
            username=request.user.username,
            redirect_uri=request.payload.redirect_uri,
            code_challenge=request.parameter("code_challenge"),
            code_challenge_method=request.parameter("code_challenge_method"),
            scopes=request.scopes,
        )

    # Hooked: Authlib's PKCE extension runs after it.
    @hooked  # type: ignore[untyped-decorator]  # Authlib has no types
    def validate_token_request(self) -> None:
        code = self.request.parameter("code")
        redirect_uri = self.request.parameter("redirect_uri")
        if code is None:
            raise OmniFundError("invalid_request", 'Missing parameter. "code" is required')
        if redirect_uri is None:
            raise OmniFundError("invalid_request", "The redirect URI parameter is required.")
        found = self.query_authorization_code(code, self.request.client)
        if found is None:
            raise OmniFundError("invalid_grant", ALREADY_USED_CODE)
        self.server.inject(self.request, AT_CODE, _scopes(found))
        if redirect_uri != found.redirect_uri:
            raise OmniFundError("redirect_uri_mismatch", REDIRECT_URI_MISMATCH)
        if self.server.store.now() > found.expires_at:
            raise OmniFundError("invalid_grant", EXPIRED_CODE)
        self.request.authorization_code = found

    def query_authorization_code(self, code: str, client: Client) -> AuthorizationCode | None:
        found = self.server.store.find_code(code)
        return found if found is not None and found.client_id == client.client_id else None

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        self.validate_requested_scope()
        code: AuthorizationCode = self.request.authorization_code
        self.request.user = self.authenticate_user(code)
        token = self.generate_token(user=self.request.user)
        if not self.server.issue(self.request, token, consume=code):
            raise OmniFundError("invalid_grant", ALREADY_USED_CODE)
        return 200, token, JSON_HEADERS

    def authenticate_user(self, authorization_code: AuthorizationCode) -> Merchant:
        return _owner(self.server, authorization_code.username)


class PasswordGrant(grants.ResourceOwnerPasswordCredentialsGrant):
    """RFC 6749 §4.3."""

    TOKEN_ENDPOINT_HTTP_METHODS = ("GET", "POST")
    server: OmniFundServer
    request: OmniFundRequest

    def validate_token_request(self) -> None:
        username = self.request.parameter("username")
        password = self.request.parameter("password")
        if username is None or password is None:
            raise OmniFundError(
                "invalid_request", 'Missing parameters. "username" and "password" required'
            )
        self.request.user = self.authenticate_user(username, password)
        if self.request.user is None:
            raise OmniFundError("invalid_grant", "Invalid username and password combination")
        self.server.inject(self.request, AT_PASSWORD)
        self.validate_requested_scope()

    def authenticate_user(self, username: str, password: str) -> Merchant | None:
        merchant = self.server.merchants.authenticate(username, password)
        return merchant if merchant is not None and not merchant.is_locked else None

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        token = self.generate_token(user=self.request.user)
        self.server.issue(self.request, token, consume=None)
        return 200, token, JSON_HEADERS


class RefreshTokenGrant(grants.RefreshTokenGrant):
    """RFC 6749 §6. Both tokens are new; the old access token stays valid until it expires."""

    TOKEN_ENDPOINT_HTTP_METHODS = ("GET", "POST")
    server: OmniFundServer
    request: OmniFundRequest

    def validate_token_request(self) -> None:
        refresh_token = self.request.parameter("refresh_token")
        if refresh_token is None:
            raise OmniFundError("invalid_request", 'No "refresh_token" parameter found')
        found = self.authenticate_refresh_token(refresh_token)
        if found is None or not found.check_client(self.request.client):
            raise OmniFundError("invalid_grant", INVALID_REFRESH_TOKEN)
        self.server.inject(self.request, AT_REFRESH, _scopes(found))
        if self.server.store.now() > found.expires_at:
            raise OmniFundError("invalid_grant", "Refresh token has expired")
        self.validate_requested_scope()
        self.request.refresh_token = found

    def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
        return self.server.store.find_refresh_token(refresh_token)

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        old: Token = self.request.refresh_token
        self.request.user = self.authenticate_user(old)
        token = self.generate_token(user=self.request.user)
        if not self.server.issue(self.request, token, consume=old):
            raise OmniFundError("invalid_grant", INVALID_REFRESH_TOKEN)
        return 200, token, JSON_HEADERS

    def authenticate_user(self, refresh_token: Token) -> Merchant:
        return _owner(self.server, refresh_token.username)


class Pkce(CodeChallenge):
    """RFC 7636, for clients that send it, with S256 only. OmniFund ignores it."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant: AuthorizationCodeGrant, redirect_uri: str) -> None:
        super().validate_code_challenge(grant, redirect_uri)
        request = grant.request
        if request.parameter("code_challenge") and not request.parameter("code_challenge_method"):
            # RFC 7636 §4.3: a missing method means plain, which is not supported.
            raise InvalidRequestError("Unsupported 'code_challenge_method'")

    def validate_code_verifier(self, grant: AuthorizationCodeGrant, result: None) -> None:
        try:
            super().validate_code_verifier(grant, result)
        except InvalidRequestError as error:
            # RFC 7636 §4.6: a verifier that does not match the challenge is an invalid grant.
            raise InvalidGrantError(error.description) from error


def new_token() -> str:
    """A code or token in OmniFund's form: 64 hex characters in unpadded base64url, 86 long."""
    return base64.urlsafe_b64encode(secrets.token_hex(32).encode()).rstrip(b"=").decode()


def _generate_token(**_: object) -> dict[str, Any]:
    """The token response, with the keys in OmniFund's order."""
    return {
        "access_token": new_token(),
        "expires_in": ACCESS_TOKEN_SECONDS,
        "token_type": "bearer",
        "scope": None,
        "refresh_token": new_token(),
    }


def _scopes(record: AuthorizationCode | Token) -> tuple[str, ...]:
    """The scopes of a code or token, beside `all`."""
    return (*record.scopes, grant_scope(record.grant))


def _owner(server: OmniFundServer, username: str) -> Merchant:
    merchant = server.merchants.find(username)
    if merchant is None:
        raise OmniFundError("invalid_grant", "The merchant of this grant no longer exists")
    return merchant


def _error_redirect(request: OmniFundRequest, error: OAuth2Error) -> Response:
    """Tell the client through the browser (RFC 6749 §4.1.2.1). An empty state is omitted.

    The body repeats the parameters as JSON under text/html, with a null for a missing description.
    """
    fields = {"error": error.error, "error_description": error.description or None}
    if state := request.parameter("state"):
        fields["state"] = state
    # Escaped, so that a state can never be markup.
    body = json.dumps(fields, separators=(",", ":")).replace("<", "\\u003c")
    parameters = [(name, value) for name, value in fields.items() if value is not None]
    return Response(body, 302, [("Location", with_query(error.redirect_uri, parameters))])
