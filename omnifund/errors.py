"""What can go wrong between a merchant, this app, and OmniFund, named as the merchant's state.

::

    OmniFundError
    ├── InvalidState                  the state is unknown, used, expired, or another browser's
    │   ├── OwnerMismatch             another user of the host application started this request
    │   └── InvalidAuthorizationResponse  the state is good; other parameters are invalid
    ├── AuthorizationErrorResponse    OmniFund returned an error instead of a code
    │   └── AccessDenied              the merchant chose Deny
    ├── InvalidGrant                  OmniFund rejects this code, password, or refresh token
    ├── ReauthorizationRequired       there is no usable token: the merchant must sign in again
    │   ├── ConnectionNotFound        nothing is stored for this connection
    │   ├── ConnectionUnreadable      what is stored cannot be decrypted with these secret keys
    │   └── ConnectionEnded           OmniFund has ended it; ``ended_at`` says when
    ├── RefreshRejected               no refresh any more, but the access token still works
    ├── ClientMisconfigured           OmniFund rejects this client's credentials or settings
    ├── InvalidFilter                 the API does not understand a filter (400)
    ├── AccessForbidden               the token is valid, but not for this resource (API 403)
    ├── RecordNotFound                the API has no such record (404)
    ├── Unavailable                   try again later; ``retry_after`` says when
    │   ├── OmniFundUnavailable       OmniFund cannot be reached, or returned 429 or 5xx
    │   ├── OmniFundTimeout           OmniFund did not respond in time; what it did is unknown
    │   ├── RefreshInProgress         another request's refresh takes longer than one may wait
    │   └── StoreUnavailable          Redis failed, which says nothing about the session
    └── InvalidResponse               OmniFund's response cannot be interpreted
        └── AccessTokenRejected       the API rejects a token that OmniFund has just issued

Each class has a ``status``: the HTTP status of a page that explains it (RFC 9110 §15). No message
contains a secret or text from a server or a query string, except ``code``, which is checked to be
a short token first.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

# Words in lower case, as all registered codes are: no token or secret has this form.
_SHOWN_CODE: Final = re.compile(r"(?=.{1,40}\Z)[a-z]+(?:_[a-z]+)*")


def shown_code(value: object) -> str | None:
    """Return an OAuth error code if it is fit to be shown and logged, else ``None``."""
    return value if isinstance(value, str) and _SHOWN_CODE.fullmatch(value) else None


class OmniFundError(Exception):
    """The root of all errors that this package raises."""

    status: ClassVar[int] = 500


class InvalidState(OmniFundError):
    """RFC 6749 §10.12."""

    status = 400


class OwnerMismatch(InvalidState):
    """RFC 9700 §4.7."""


class InvalidAuthorizationResponse(InvalidState):
    """RFC 6749 §4.1.2."""


class _WithCode(OmniFundError):
    """``code``: OmniFund's error code, or ``None`` when it is not fit to be shown."""

    def __init__(self, code: str | None) -> None:
        self.code = code
        super().__init__(f"OmniFund's error code: {code or 'unreadable'}")


class AuthorizationErrorResponse(_WithCode):
    """RFC 6749 §4.1.2.1."""

    status = 400


class AccessDenied(AuthorizationErrorResponse):
    """RFC 6749 §4.1.2.1, ``access_denied``."""

    status = 403


class InvalidGrant(OmniFundError):
    """RFC 6749 §5.2, ``invalid_grant``."""

    status = 400


class ReauthorizationRequired(OmniFundError):
    """``reason``: one of this package's fixed texts."""

    status = 401

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class ConnectionNotFound(ReauthorizationRequired):
    pass


class ConnectionUnreadable(ReauthorizationRequired):
    """A matter for the operator: the merchant's tokens are still valid at OmniFund."""


class ConnectionEnded(ReauthorizationRequired):
    """``ended_at``: Unix seconds of when that was noticed, or of the access token's expiry."""

    def __init__(self, reason: str, *, ended_at: int) -> None:
        self.ended_at = ended_at
        super().__init__(reason)


class RefreshRejected(OmniFundError):
    """The connection lasts until the access token expires."""

    status = 409


class ClientMisconfigured(_WithCode):
    """RFC 6749 §5.2, ``invalid_client`` and its relatives: only the operator can fix it."""

    status = 502


class InvalidFilter(OmniFundError):
    status = 400


class AccessForbidden(OmniFundError):
    status = 403


class RecordNotFound(OmniFundError):
    status = 404


class Unavailable(OmniFundError):
    """``retry_after``: whole seconds after which another try makes sense."""

    status = 503

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class OmniFundUnavailable(Unavailable):
    """``sent``: whether OmniFund may have received the request."""

    def __init__(self, message: str, *, retry_after: int = 5, sent: bool = True) -> None:
        self.sent = sent
        super().__init__(message, retry_after=retry_after)


class OmniFundTimeout(Unavailable):
    status = 504


class RefreshInProgress(Unavailable):
    pass


class StoreUnavailable(Unavailable):
    pass


class InvalidResponse(OmniFundError):
    status = 502


class AccessTokenRejected(InvalidResponse):
    pass
