"""The records of Local OmniFund in Redis, under one prefix.

    client:<client ID>        hash: an OAuth client
    clients:<username>        sorted set: the client IDs of a merchant, oldest first
    client-number             counter: the number before the underscore of a client ID
    code:<sha256>             an authorization code
    access:<sha256>           an access token
    refresh:<sha256>          a refresh token
    session:<sha256>          a portal session

Codes and tokens expire by the store's clock. Redis deletes them only `KEPT_AFTER_EXPIRY` seconds
later, so that an expired record can be told from an unknown one.
"""

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from local_omnifund.models import AuthorizationCode, Client, Token, digest

PREFIX = "local_omnifund:"
CODE_SECONDS = 30
ACCESS_TOKEN_SECONDS = 3600
REFRESH_TOKEN_SECONDS = 14 * 24 * 3600
KEPT_AFTER_EXPIRY = 3600
SESSION_IDLE_SECONDS = 1800

# One script, so that of any number of parallel exchanges exactly one succeeds, and so that a code
# is consumed if and only if its tokens are stored.
ISSUE = """
if KEYS[1] ~= '' and redis.call('DEL', KEYS[1]) == 0 then
  return 0
end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[4])
return 1
"""

# A base conversion that loses precision makes OmniFund's IDs and secrets: after the first
# characters only these nine occur.
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_TAIL = "048cgkosw"


@dataclass(frozen=True, slots=True)
class IssuedTokens:
    """A new pair of tokens, in clear, for the token response."""

    access_token: str
    refresh_token: str


def connect(redis_url: str, password: str = "") -> "Redis":
    """A Redis client for `redis_url` that fails within two seconds instead of hanging."""
    return Redis.from_url(
        redis_url,
        password=password or None,
        decode_responses=True,
        socket_connect_timeout=1,
        socket_timeout=2,
        # One retry replaces a connection that a restarted Redis closed. More would only delay the
        # response that Redis is unavailable.
        retry=Retry(NoBackoff(), 1),
    )


def new_oauth_secret() -> str:
    """A random value of over 150 bits in the form of OmniFund's client IDs and secrets."""
    head = "".join(secrets.choice(_BASE36) for _ in range(11))
    return head + "".join(secrets.choice(_TAIL) for _ in range(39))


class Store:
    """Reads and writes Local OmniFund's records. Any Redis failure surfaces as `RedisError`."""

    def __init__(self, redis: "Redis", clock: Callable[[], float]) -> None:
        self._redis = redis
        self._clock = clock
        self._issue = redis.register_script(ISSUE)

    def now(self) -> int:
        """The current time in whole Unix seconds."""
        return int(self._clock())

    def ping(self) -> None:
        """Raise `RedisError` unless Redis responds."""
        self._redis.ping()

    # --- OAuth clients -------------------------------------------------------------------

    def find_client(self, client_id: str) -> Client | None:
        """The client with this ID, active or not."""
        # IDs are parts of keys, so a string that cannot be an ID is not looked up.
        if not client_id.isascii() or not client_id.isprintable() or len(client_id) > 200:
            return None
        fields = cast("dict[str, str]", self._redis.hgetall(f"{PREFIX}client:{client_id}"))
        return _client(client_id, fields) if fields else None

    def clients_of(self, username: str) -> list[Client]:
        """All clients of a merchant, oldest first."""
        ids = cast("list[str]", self._redis.zrange(f"{PREFIX}clients:{username}", 0, -1))
        found = (self.find_client(client_id) for client_id in ids)
        return [client for client in found if client is not None]

    def create_client(self, owner: str, name: str) -> tuple[Client, str]:
        """Create a client without redirect URIs; return it and its secret, in clear."""
        # Number 1 is the demo client's, so the counter starts behind it.
        number = self._redis.incr(f"{PREFIX}client-number") + 1
        secret = new_oauth_secret()
        client = Client(
            client_id=f"{number}_{new_oauth_secret()}",
            owner=owner,
            name=name,
            secret_digest=digest(secret),
            created_at=self.now(),
        )
        self.save_client(client)
        return client, secret

    def save_client(self, client: Client) -> None:
        """Write every field of `client`."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(f"{PREFIX}client:{client.client_id}", mapping=_client_fields(client))
            pipe.zadd(f"{PREFIX}clients:{client.owner}", {client.client_id: client.created_at})
            pipe.execute()

    def edit_client(self, client_id: str, name: str, redirect_uris: tuple[str, ...]) -> None:
        """Change the Client Name and the Allowed Redirect URIs only."""
        self._redis.hset(
            f"{PREFIX}client:{client_id}",
            mapping={"name": name, "redirect_uris": json.dumps(redirect_uris)},
        )

    def set_client_active(self, client_id: str, *, active: bool) -> None:
        """Reactivate or deactivate a client."""
        self._redis.hset(f"{PREFIX}client:{client_id}", "active", int(active))

    # --- authorization codes and tokens ----------------------------------------------------

    def save_code(
        self,
        code: str,
        *,
        client_id: str,
        username: str,
        redirect_uri: str,
        code_challenge: str | None,
        code_challenge_method: str | None,
        scopes: Sequence[str],
    ) -> None:
        """Store an authorization code, valid for 30 seconds."""
        record = {
            "client_id": client_id,
            "username": username,
            "redirect_uri": redirect_uri,
            "expires_at": self.now() + CODE_SECONDS,
            "code_challenge": code_challenge,
            "code_challenge_method": code_challenge_method,
            "grant": secrets.token_hex(8),
            "scopes": scopes,
        }
        self._redis.set(_key("code", code), json.dumps(record), ex=CODE_SECONDS + KEPT_AFTER_EXPIRY)

    def find_code(self, code: str) -> AuthorizationCode | None:
        """The authorization code, expired or not, unless it was exchanged."""
        key = _key("code", code)
        record = self._read(key)
        return AuthorizationCode(key=key, **record) if record else None

    def find_access_token(self, access_token: str) -> Token | None:
        """The access token, expired or not."""
        return self._find_token(_key("access", access_token))

    def find_refresh_token(self, refresh_token: str) -> Token | None:
        """The refresh token, expired or not, unless it was replaced."""
        return self._find_token(_key("refresh", refresh_token))

    def issue(
        self,
        tokens: IssuedTokens,
        *,
        client_id: str,
        username: str,
        consume: AuthorizationCode | Token | None,
    ) -> bool:
        """Store a new pair of tokens and delete `consume`, the code or refresh token for it.

        Both happen or neither does. `consume` is None for the password grant. Return False if
        another request consumed the record first.
        """
        now = self.now()
        access = {
            "client_id": client_id,
            "username": username,
            "expires_at": now + ACCESS_TOKEN_SECONDS,
            "grant": consume.grant if consume else secrets.token_hex(8),
            "scopes": consume.scopes if consume else (),
        }
        refresh = access | {"expires_at": now + REFRESH_TOKEN_SECONDS}
        stored = self._issue(
            keys=[
                consume.key if consume else "",
                _key("access", tokens.access_token),
                _key("refresh", tokens.refresh_token),
            ],
            args=[
                json.dumps(access),
                ACCESS_TOKEN_SECONDS + KEPT_AFTER_EXPIRY,
                json.dumps(refresh),
                REFRESH_TOKEN_SECONDS + KEPT_AFTER_EXPIRY,
            ],
        )
        return bool(stored)

    def expire(self, token: Token) -> None:
        """Set the expiry of an access token to a second ago."""
        record = self._read(token.key)
        if record is not None:
            record["expires_at"] = self.now() - 1
            self._redis.set(token.key, json.dumps(record), xx=True, keepttl=True)

    def revoke(self, username: str = "") -> None:
        """Delete all access and refresh tokens of a merchant, or of all merchants."""
        for kind in ("access", "refresh"):
            for key in self._redis.scan_iter(f"{PREFIX}{kind}:*"):
                record = self._read(key)
                if record is not None and username in ("", record["username"]):
                    self._redis.delete(key)

    def _find_token(self, key: str) -> Token | None:
        record = self._read(key)
        return Token(key=key, **record) if record else None

    def _read(self, key: str) -> dict[str, Any] | None:
        value = cast("str | None", self._redis.get(key))
        return cast("dict[str, Any]", json.loads(value)) if value else None

    # --- portal sessions -------------------------------------------------------------------

    def load_session(self, session_id: str) -> dict[str, Any] | None:
        """The session's contents; this extends the session by half an hour."""
        value = cast(
            "str | None", self._redis.getex(_key("session", session_id), ex=SESSION_IDLE_SECONDS)
        )
        return cast("dict[str, Any]", json.loads(value)) if value else None

    def save_session(self, session_id: str, contents: dict[str, Any]) -> None:
        """Write the session's contents."""
        self._redis.set(_key("session", session_id), json.dumps(contents), ex=SESSION_IDLE_SECONDS)

    def delete_session(self, session_id: str) -> None:
        """Delete the session."""
        self._redis.delete(_key("session", session_id))


def _key(kind: str, secret: str) -> str:
    return f"{PREFIX}{kind}:{digest(secret)}"


def _client_fields(client: Client) -> dict[Any, str | int]:
    return {
        "owner": client.owner,
        "name": client.name,
        "secret_digest": client.secret_digest,
        "redirect_uris": json.dumps(client.redirect_uris),
        "grant_types": json.dumps(client.grant_types),
        "active": int(client.active),
        "created_at": client.created_at,
    }


def _client(client_id: str, fields: dict[str, str]) -> Client:
    return Client(
        client_id=client_id,
        owner=fields["owner"],
        name=fields["name"],
        secret_digest=fields["secret_digest"],
        redirect_uris=tuple(json.loads(fields["redirect_uris"])),
        grant_types=tuple(json.loads(fields["grant_types"])),
        active=fields["active"] == "1",
        created_at=int(fields["created_at"]),
    )
