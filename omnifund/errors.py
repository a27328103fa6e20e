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
    ├── RefreshRejected               no refresh any more, but the access token still works
    ├── ClientMisconfigured           OmniFund rejects this client's credentials or settings
    ├── InvalidFilter                 the API rejects a filter or page number (400)
    ├── AccessForbidden               the token is valid, but not for this resource (API 403)
    ├── RecordNotFound                the API has no such record (404)
    ├── Unavailable                   try again later; ``retry_after`` says when
    │   ├── OmniFundUnavailable       OmniFund cannot be reached, or returned 429 or 5xx
    │   ├── OmniFundTimeout           OmniFund did not respond in time; what it did is unknown
    │   ├── RefreshInProgress         another request is refreshing this token and takes long
    │   └── StoreUnavailable          Redis failed, which says nothing about the session
    └── InvalidResponse               OmniFund's response cannot be interpreted
        └── AccessTokenRejected       the API rejects a token that OmniFund has just issued

Each class has a ``status``: the HTTP status of a page that explains it (RFC 9110 §15).

No message contains a secret or text from a server or a query string, except ``code``, which is
checked to be a short token first.
"""

from __future__ import annotations

from typing import ClassVar


class OmniFundError(Exception):
    """The root of all errors that this package raises."""

    status: ClassVar[int] = 500


class InvalidState(OmniFundError):
    """This callback completes no authorization request of this browser (RFC 6749 §10.12)."""

    status = 400


class OwnerMismatch(InvalidState):
    """Another user of the host application started this authorization request."""


class InvalidAuthorizationResponse(InvalidState):
    """A parameter is missing, repeated, contradictory, or malformed (RFC 6749 §4.1.2)."""


class AuthorizationErrorResponse(OmniFundError):
    """An authorization error response (RFC 6749 §4.1.2.1).

    ``code``: the error code, or ``None`` when it is not fit to be shown.
    """

    status = 400

    def __init__(self, code: str | None) -> None:
        self.code = code
        super().__init__(f"authorization error: {code or 'an unreadable error code'}")


class AccessDenied(AuthorizationErrorResponse):
    """``access_denied``: the merchant chose Deny."""

    status = 403


class InvalidGrant(OmniFundError):
    """``invalid_grant`` (RFC 6749 §5.2)."""

    status = 400


class ReauthorizationRequired(OmniFundError):
    """The merchant must sign in again; ``reason`` is one of this package's fixed texts."""

    status = 401

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class RefreshRejected(OmniFundError):
    """The tokens cannot be refreshed; the access token is valid until it expires."""

    status = 409


class ClientMisconfigured(OmniFundError):
    """``invalid_client`` and its relatives: only the operator can fix it (RFC 6749 §5.2)."""

    status = 502

    def __init__(self, code: str | None) -> None:
        self.code = code
        super().__init__(f"OmniFund rejected this client: {code or 'an unreadable error code'}")


class InvalidFilter(OmniFundError):
    """OmniFund's API returned 400: it does not understand a filter."""

    status = 400


class AccessForbidden(OmniFundError):
    """OmniFund's API returned 403."""

    status = 403


class RecordNotFound(OmniFundError):
    """OmniFund's API returned 404."""

    status = 404


class Unavailable(OmniFundError):
    """Not now. ``retry_after``: whole seconds after which another try makes sense."""

    status = 503

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class OmniFundUnavailable(Unavailable):
    """No connection, 429, or 5xx. ``sent``: whether OmniFund may have received the request."""

    def __init__(self, message: str, *, retry_after: int = 5, sent: bool = True) -> None:
        self.sent = sent
        super().__init__(message, retry_after=retry_after)


class OmniFundTimeout(Unavailable):
    """A timeout after the request was sent: OmniFund may or may not have processed it."""

    status = 504


class RefreshInProgress(Unavailable):
    """Another request's refresh takes longer than a request may wait."""


class StoreUnavailable(Unavailable):
    """Redis refuses, is silent, or has failed over: "the store failed", not "no session"."""


class InvalidResponse(OmniFundError):
    """A response with the wrong content type or structure, or cut short."""

    status = 502


class AccessTokenRejected(InvalidResponse):
    """OmniFund's API returned 401 again, to an access token that was issued a moment ago."""
