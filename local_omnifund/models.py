"""Records of the authorization server: clients, codes, and tokens.

The classes implement the interfaces that Authlib's grants need. Secrets, codes, and tokens are not
fields: a record is found by the hash of one.
"""

import hashlib
import hmac
from dataclasses import dataclass

from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, TokenMixin

STANDARD_GRANT_TYPES = ("authorization_code", "password", "refresh_token")


def digest(secret: str) -> str:
    """The SHA-256 of a secret as hex, which is enough for a random value."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Client(ClientMixin):
    """An OAuth client, as the portal's Profile > API Access page manages it."""

    client_id: str
    owner: str
    name: str
    secret_digest: str
    redirect_uris: tuple[str, ...] = ()
    grant_types: tuple[str, ...] = STANDARD_GRANT_TYPES
    active: bool = True
    created_at: int = 0

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> None:
        """None: the redirect URI is required in every request."""
        return

    def get_allowed_scope(self, scope: str | None) -> str:
        """Empty: no scope is configured, so none can be granted."""
        return ""

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Exact string comparison (RFC 9700 §2.1); OmniFund compares prefixes."""
        return redirect_uri in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return hmac.compare_digest(self.secret_digest, digest(client_secret))

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.grant_types


@dataclass(frozen=True, slots=True)
class AuthorizationCode(AuthorizationCodeMixin):
    """An authorization code. `key` is its key in Redis; `expires_at` is in Unix seconds.

    `grant` is the same for the code and all tokens of one consent; `scopes` are the scopes of
    faults that apply to them.
    """

    key: str
    client_id: str
    username: str
    redirect_uri: str
    expires_at: int
    code_challenge: str | None = None
    code_challenge_method: str | None = None
    grant: str = ""
    scopes: tuple[str, ...] = ()

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Token(TokenMixin):
    """An access token or a refresh token. The fields are those of `AuthorizationCode`."""

    key: str
    client_id: str
    username: str
    expires_at: int
    grant: str = ""
    scopes: tuple[str, ...] = ()

    def check_client(self, client: Client) -> bool:
        return self.client_id == client.client_id

    def get_scope(self) -> str:
        return ""
