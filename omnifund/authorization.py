"""The authorization request and its callback (RFC 6749 §4.1.1 and §4.1.2, RFC 7636, RFC 9207).

What the callback has to know travels in an encrypted cookie, one for each pending authorization
request, so that two tabs never overwrite each other's and starting a sign-in stores nothing on the
server. The store only remembers which requests and which codes have been used: a callback claims
both, atomically, before the code goes to the token endpoint (RFC 6749 §10.5, §10.12).

The functions from ``safe_next`` to ``require_code`` are the rules, in the order of their use;
here and in the other modules, a rule's first sentence is what the inspector shows.
"""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from omnifund import errors
from omnifund.encryption import Cipher, Unreadable, fingerprint
from omnifund.token_store import Swap, TokenStore

PENDING_SECONDS: Final = 600  # how long a merchant may take on OmniFund's pages
# How many authorization requests one browser may have open; older ones are dropped.
PENDING_PER_BROWSER: Final = 7
CLOCK_SKEW_SECONDS: Final = 60  # how far the clock of another server of the same app may be ahead
# How long after a claim a second callback waits for the result of the first.
WAIT_SECONDS: Final = 5
MAX_CODE_LENGTH: Final = 2048
MAX_NEXT_LENGTH: Final = 400  # characters; the path travels in a cookie of limited size
MAX_OWNER_LENGTH: Final = 255  # characters; it does too
_MAX_COOKIE_LENGTH: Final = 3072
_CLAIM_SECONDS: Final = PENDING_SECONDS + CLOCK_SKEW_SECONDS
_POLL_SECONDS: Final = 0.05
_FAILED: Final = b"failed"

_STATE: Final = re.compile(r"[A-Za-z0-9_-]{20,128}")
_CODE: Final = re.compile(r"[\x21-\x7e]+")  # RFC 6749 appendix A.11, without the space
# An allow list: one leading slash, then nothing that a URL parser reads as the start of a host, as
# an escaped one, or as a control character. Browsers drop tabs and newlines, and read "\" as "/".
_SEGMENT: Final = r"[A-Za-z0-9_~%-][A-Za-z0-9._~%@:+,=&;!$'()*-]*"
_NEXT: Final = re.compile(
    rf"/(?:(?!%){_SEGMENT}(?:/{_SEGMENT})*/?)?(?:\?[A-Za-z0-9._~%@:+,=&;!$'()*/?\[\]-]*)?"
)


class AuthorizationRequest(msgspec.Struct, frozen=True, array_like=True):
    """A pending authorization request.

    ``code_verifier`` is empty without PKCE; ``started_at``: Unix seconds; ``owner``: the ID of the
    host application's own user who started it, or empty.
    """

    state: str
    code_verifier: str
    next: str
    started_at: float
    owner: str = ""

    def __repr__(self) -> str:
        return f"AuthorizationRequest(next={self.next!r})"


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """A code from a validated callback, to be sent once. Only ``require_code`` creates one."""

    value: str = field(repr=False)
    request: AuthorizationRequest


Parameters = Sequence[tuple[str, str]]
"""A query's parameters in order, decoded, repeated ones included."""


def parse_query(query_string: str | bytes) -> Parameters:
    """Return a callback's parameters. Bytes that are not UTF-8 become text that no rule accepts."""
    text = query_string.decode("latin-1") if isinstance(query_string, bytes) else query_string
    return parse_qsl(text, keep_blank_values=True, errors="surrogateescape")


def usable_owner(owner: str | None) -> str:
    """Return ``owner``, or ``""`` for ``None``; raise ``ValueError`` if it cannot be a key."""
    if owner is None:
        return ""
    # A user's ID is often a number; an empty one is no user's, and would bind nothing.
    is_text = isinstance(owner, str) and 0 < len(owner) <= MAX_OWNER_LENGTH
    if not is_text or not owner.isprintable():
        raise ValueError(f"an owner is text of 1 to {MAX_OWNER_LENGTH} printable characters")
    return owner


def safe_next(value: str | None, *, never: Collection[str] = ()) -> str | None:
    """The page to return to belongs to this app (RFC 9700 §4.11).

    Returns ``value`` if every URL parser reads it as a path of this app, else ``None``. ``never``:
    paths, with everything below them, that would start or end a sign-in again.
    """
    if value is None or len(value) > MAX_NEXT_LENGTH or _NEXT.fullmatch(value) is None:
        return None
    # A server decodes the path before it looks for the page, perhaps more than once.
    path = value.partition("?")[0]
    while (decoded := unquote(path, errors="surrogateescape")) != path:
        path = decoded
    segments = path.split("/")[1:]
    if not path.isprintable() or "\\" in path or {".", ".."} & set(segments) or "" in segments[:-1]:
        return None
    page = path.partition("?")[0].partition("#")[0]  # an escaped "?" may have become a real one
    return None if any(f"{page}/".startswith(f"{each}/") for each in never) else value


def new_state() -> str:
    """The state is new: 256 random bits (RFC 6749 §10.10)."""
    return secrets.token_urlsafe(32)


def new_code_verifier() -> str:
    """The code verifier is new; only its S256 challenge is sent (RFC 7636 §4.1, §4.3)."""
    return secrets.token_urlsafe(32)


def require_state(parameters: Parameters) -> str:
    """The callback has exactly one well-formed state (RFC 6749 §4.1.2)."""
    states = _values(parameters, "state")
    if len(states) != 1 or _STATE.fullmatch(states[0]) is None:
        raise errors.InvalidState("the callback has no usable state")
    return states[0]


def require_own_request(sealed: str | None, state: str, cipher: Cipher) -> AuthorizationRequest:
    """The state was issued to this browser (RFC 6749 §10.12).

    ``sealed``: the value of the cookie that carries the request for ``state``, if there is one.
    """
    if sealed is None:
        raise errors.InvalidState("no authorization request of this browser has this state")
    try:
        if len(sealed) > _MAX_COOKIE_LENGTH:
            raise Unreadable
        # The key is derived from `state` too: a cookie can be decrypted for its own state only.
        packed = base64.b64decode(sealed, altchars=b"-_", validate=True)
        opened = cipher.open(packed, secret=state, name="attempt")
        return msgspec.msgpack.decode(opened, type=AuthorizationRequest)
    except (Unreadable, ValueError):
        raise errors.InvalidState("the authorization request cannot be read") from None


def require_recent(request: AuthorizationRequest, *, now: float) -> None:
    """The authorization request is at most ten minutes old (RFC 9700 §2.1)."""
    if not -CLOCK_SKEW_SECONDS <= now - request.started_at <= PENDING_SECONDS:
        raise errors.InvalidState("the authorization request has expired")


def require_owner(request: AuthorizationRequest, owner: str) -> None:
    """The user who started the request is the one who completes it (RFC 9700 §4.7)."""
    if request.owner != owner:
        raise errors.OwnerMismatch("another user started this authorization request")


def require_no_repetition(parameters: Parameters) -> None:
    """No parameter is repeated (RFC 6749 §3.1)."""
    if any(len(_values(parameters, name)) > 1 for name in ("code", "error", "iss")):
        raise errors.InvalidAuthorizationResponse("a parameter of the callback is repeated")


def require_issuer(parameters: Parameters, issuer: str) -> None:
    """The iss parameter, if present, matches this OmniFund (RFC 9207 §2.4)."""
    if any(value != issuer for value in _values(parameters, "iss")):
        raise errors.InvalidAuthorizationResponse("the callback's iss isn't this OmniFund")


def require_code(parameters: Parameters, request: AuthorizationRequest) -> AuthorizationCode:
    """OmniFund returned a code and no error (RFC 6749 §4.1.2).

    Raises ``InvalidAuthorizationResponse``, ``AccessDenied``, ``AuthorizationErrorResponse``, or,
    when OmniFund reports that it cannot respond now, ``OmniFundUnavailable``.
    """
    codes, refusals = _values(parameters, "code"), _values(parameters, "error")
    if codes and refusals:
        raise errors.InvalidAuthorizationResponse("the callback has both a code and an error")
    if _values(parameters, "access_token") or _values(parameters, "id_token"):
        # response_type is `code`, so no token was requested.
        raise errors.InvalidAuthorizationResponse("the callback has a token in its query")
    if refusals:
        raise _error_response(refusals[0])
    if not codes or len(codes[0]) > MAX_CODE_LENGTH or _CODE.fullmatch(codes[0]) is None:
        raise errors.InvalidAuthorizationResponse("the callback has no usable code")
    return AuthorizationCode(codes[0], request)


def read_authorization_response(
    parameters: Parameters, request: AuthorizationRequest, *, issuer: str
) -> AuthorizationCode:
    """Validate a callback whose state belongs to ``request``; for errors see ``require_code``."""
    require_no_repetition(parameters)
    require_issuer(parameters, issuer)
    return require_code(parameters, request)


def _error_response(error: str) -> errors.AuthorizationErrorResponse | errors.OmniFundUnavailable:
    if error == "access_denied":
        return errors.AccessDenied(error)
    if error in ("temporarily_unavailable", "server_error"):
        return errors.OmniFundUnavailable("OmniFund reports that it cannot respond now")
    return errors.AuthorizationErrorResponse(errors.shown_code(error))


def _values(parameters: Parameters, name: str) -> list[str]:
    return [value for key, value in parameters if key == name]


@dataclass(eq=False)
class PendingRequests:
    """Encrypts pending authorization requests for the browser; lets each be used once.

    ``cookie_prefix``: the beginning of the cookies' names.
    """

    cipher: Cipher
    store: TokenStore
    cookie_prefix: str

    def cookie(self, request: AuthorizationRequest) -> tuple[str, str]:
        """Return the name and the value of the cookie that carries ``request``.

        The name contains the time, so that the oldest cookie is known without decrypting any.
        """
        name = f"{self.cookie_prefix}{int(request.started_at * 1000):013d}_{_tag(request.state)}"
        packed = msgspec.msgpack.encode(request)
        sealed = self.cipher.seal(packed, secret=request.state, name="attempt")
        return name, base64.urlsafe_b64encode(sealed).decode()

    def surplus(self, cookies: Mapping[str, str], *, room_for: int) -> list[str]:
        """Return the names of the oldest cookies, beyond the limit less ``room_for``."""
        names = sorted(name for name in cookies if name.startswith(self.cookie_prefix))
        return names[: max(0, len(names) + room_for - PENDING_PER_BROWSER)]

    def find(
        self, parameters: Parameters, cookies: Mapping[str, str], *, now: float, owner: str | None
    ) -> AuthorizationRequest:
        """Return this browser's request for the callback's state. Raises ``InvalidState``."""
        user = usable_owner(owner)
        state = require_state(parameters)
        names = (name for name in cookies if name.startswith(self.cookie_prefix))
        mine = (cookies[name] for name in names if name.endswith(f"_{_tag(state)}"))
        request = require_own_request(next(mine, None), state, self.cipher)
        require_recent(request, now=now)
        require_owner(request, user)
        return request

    def claim(
        self, request: AuthorizationRequest, code: AuthorizationCode | errors.OmniFundError
    ) -> str | None:
        """The request and its code were unused and are now used (RFC 6749 §10.5).

        One round trip; returns ``None`` to exactly one caller. Other callers wait for its result,
        because of a double click the browser shows the last response: they get the connection ID
        that the sign-in led to. Raises ``InvalidState`` if it failed, or if the code came with
        another state before.
        """
        mine, names = secrets.token_bytes(8), [_name("attempt", request.state)]
        if isinstance(code, AuthorizationCode):
            names.append(_name("code", code.value))
        holders = self.store.claim(*names, value=mine, seconds=_CLAIM_SECONDS)
        if holders[0] != mine:
            return self._wait(request, names[0], holders[0])
        if any(holder != mine for holder in holders):
            self.fail(request)
            raise errors.InvalidState("the authorization code has been used")
        return None

    def _wait(self, request: AuthorizationRequest, name: str, holder: bytes | None) -> str:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            if completed := self.cipher.read(holder, secret=request.state, name=name):
                return completed.decode()
            holder, remaining = self.store.read_claim(name)
            # Counted from the claim: after a worker has died, not every reload waits again.
            if holder in (_FAILED, None) or _CLAIM_SECONDS - remaining >= WAIT_SECONDS:
                break
            time.sleep(_POLL_SECONDS)
        raise errors.InvalidState("the authorization request has been used")

    def swap(self, cookies: Mapping[str, str], connection_id: str) -> Swap:
        """Return what makes ``connection_id`` this browser's, and tells which was before.

        Two callbacks truly at once don't see each other's session cookie, but both send the
        browser's oldest pending request. The store alone learns neither its value nor the ID.
        """
        name, secret = self._browser(cookies)
        sealed = self.cipher.seal(connection_id.encode(), secret=secret, name=name)
        return Swap(name, sealed, _CLAIM_SECONDS)

    def swapped(self, cookies: Mapping[str, str], value: bytes | None) -> str | None:
        """Return the connection ID that ``swap`` has replaced, if any."""
        name, secret = self._browser(cookies)
        replaced = self.cipher.read(value, secret=secret, name=name)
        return replaced.decode() if replaced else None

    def _browser(self, cookies: Mapping[str, str]) -> tuple[str, str]:
        secret = cookies[min(name for name in cookies if name.startswith(self.cookie_prefix))]
        return _name("browser", secret), secret

    def fail(self, request: AuthorizationRequest) -> None:
        """Tell callbacks that wait for this request that its sign-in has failed."""
        with suppress(errors.StoreUnavailable):  # They wait until their limit instead.
            self.store.update_claim(_name("attempt", request.state), _FAILED)

    def completion(self, request: AuthorizationRequest, connection_id: str) -> dict[str, bytes]:
        """Return what remembers, in the claim, which connection the request led to.

        The browser may never see the response to the first callback: a double click or a reload
        drops it. When the same callback comes again, it gets the same connection.
        """
        name = _name("attempt", request.state)
        return {name: self.cipher.seal(connection_id.encode(), secret=request.state, name=name)}


def _tag(state: str) -> str:
    return fingerprint(state)[:11]


def _name(kind: str, secret: str) -> str:
    return f"omnifund:{kind}:{fingerprint(secret)}"
