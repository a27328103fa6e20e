"""Fault injection: what Local OmniFund can be told to do wrong, in which scope, and how often.

A scope is `all`, one browser, one authorization request (by its `state`), one grant (the code and
all tokens of one consent), or one access token. A code and its tokens carry the scopes of their
authorization request, so a fault affects only the requests that it was enabled for.

    faults:<scope>            hash: fault -> how many times it is left, or -1 until it is cleared
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple, cast

from redis import Redis

from local_omnifund.models import Token, digest

PREFIX = "local_omnifund:faults:"
LIFE_SECONDS = 600
UNTIL_CLEARED = -1
ALL = "all"

# One script, so that a fault enabled once affects exactly one of any number of parallel requests.
TAKE = """
for _, scope in ipairs(KEYS) do
  for _, fault in ipairs(ARGV) do
    local left = redis.call('HGET', scope, fault)
    if left then
      if left ~= '-1' and redis.call('HINCRBY', scope, fault, -1) <= 0 then
        redis.call('HDEL', scope, fault)
      end
      return fault
    end
  end
end
"""


class Fault(Enum):
    """What can go wrong: where, and one sentence about it."""

    DENY = ("consent", "Allow is treated as Deny.")
    CODE_EXPIRED = ("code", "The authorization code has expired.")
    CODE_USED = ("code", "The authorization code has already been used.")
    REDIRECT_URI_MISMATCH = ("code", "The redirect URI differs from the authorization request's.")
    INVALID_CLIENT = ("token", "The client ID or secret is invalid.")
    TOKEN_500 = ("token", "The token endpoint returns 500.")
    TOKEN_503 = ("token", "The token endpoint returns 503 with Retry-After.")
    TOKEN_TIMEOUT = ("token", "The token endpoint doesn't respond for a long time.")
    TOKEN_DRIP = ("token", "The token endpoint sends one byte every half second.")
    TOKEN_HTML = ("token", "The token endpoint returns 200 with HTML.")
    TOKEN_WITHOUT_TYPE = ("token", "The token response has no token_type.")
    TOKEN_REDIRECT = ("token", "The token endpoint redirects to another host.")
    REFRESH_REVOKED = ("refresh", "The refresh token is no longer valid.")
    REFRESH_SLOW = ("refresh", "A refresh takes three seconds.")
    ACCESS_TOKEN_EXPIRED = ("api", "The next access token sent has expired permanently.")
    API_401 = ("api", "The API returns 401.")
    API_403 = ("api", "The API returns 403.")
    API_500 = ("api", "The API returns 500.")
    API_ODD_JSON = ("api", "The API returns 200 with JSON of an unexpected structure.")

    def __init__(self, where: str, description: str) -> None:
        self.where = where
        self.description = description

    @property
    def id(self) -> str:
        """The name over HTTP, for example `token_500`."""
        return self.name.lower()


AT_CONSENT = (Fault.DENY,)
AT_CODE = tuple(fault for fault in Fault if fault.where in {"code", "token"})
AT_PASSWORD = tuple(fault for fault in Fault if fault.where == "token")
AT_REFRESH = tuple(fault for fault in Fault if fault.where in {"refresh", "token"})
AT_API = tuple(fault for fault in Fault if fault.where == "api")


class Enabled(NamedTuple):
    """An enabled fault; `times` is how many times it is left, or -1 until it is cleared."""

    fault: Fault
    scope: str
    times: int


def browser_scope(cookie: str) -> str:
    """The scope of one browser, identified by the value of its cookie."""
    return f"browser:{digest(cookie)}"


def state_scope(state: str) -> str:
    """The scope of one authorization request."""
    return f"state:{digest(state)}"


def grant_scope(grant: str) -> str:
    """The scope of one grant: its code and all its tokens."""
    return f"grant:{grant}"


def token_scope(token: Token) -> str:
    """The scope of one access token."""
    return f"token:{token.key}"


class Faults:
    """Enabled faults in Redis. Any Redis failure surfaces as `RedisError`."""

    def __init__(self, redis: "Redis", *, on: bool) -> None:
        self.on = on
        self._redis = redis
        self._take = redis.register_script(TAKE)

    def enable(self, fault: Fault, scope: str, times: int) -> None:
        """Enable `fault` for `times` requests in `scope` within the next ten minutes."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(PREFIX + scope, fault.id, times)
            pipe.expire(PREFIX + scope, LIFE_SECONDS)
            pipe.execute()

    def replace(self, faults: Sequence[Fault], scope: str) -> None:
        """Enable each of `faults` once in `scope`, and disable every other fault there."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(PREFIX + scope)
            for fault in faults:
                pipe.hset(PREFIX + scope, fault.id, 1)
            pipe.expire(PREFIX + scope, LIFE_SECONDS)
            pipe.execute()

    def take(self, faults: Sequence[Fault], scopes: Sequence[str]) -> Fault | None:
        """Return the first of `faults` that is enabled in one of `scopes`, and count it down."""
        if not self.on:
            return None
        taken = self._take(
            keys=[PREFIX + scope for scope in scopes], args=[fault.id for fault in faults]
        )
        return Fault[taken.upper()] if taken else None

    def enabled_in(self, scopes: Iterable[str]) -> list[Fault]:
        """The faults that are enabled in one of `scopes`."""
        if not self.on:
            return []
        with self._redis.pipeline(transaction=False) as pipe:
            for scope in scopes:
                pipe.hkeys(PREFIX + scope)
            found = {name for names in pipe.execute() for name in names}
        return [fault for fault in Fault if fault.id in found]

    def enabled(self) -> list[Enabled]:
        """Every enabled fault, in the order of `Fault`."""
        found = []
        for key in self._keys():
            left = cast("dict[str, str]", self._redis.hgetall(key))
            scope = key.removeprefix(PREFIX).partition(":")[0]
            found += [Enabled(Fault[name.upper()], scope, int(left[name])) for name in left]
        order = list(Fault)
        return sorted(found, key=lambda each: (order.index(each.fault), each.scope))

    def clear(self, fault: Fault | None = None, scope: str | None = None) -> None:
        """Disable `fault`, or every fault, in `scope`, or in all scopes."""
        for key in self._keys() if scope is None else [PREFIX + scope]:
            if fault is None:
                self._redis.delete(key)
            else:
                self._redis.hdel(key, fault.id)

    def _keys(self) -> list[str]:
        return sorted(cast("Iterable[str]", self._redis.scan_iter(PREFIX + "*")))
