"""What can go wrong between a merchant, this app and OmniFund, named as the merchant's state.

::

    OmniFundError
    ├── AttemptInvalid          this sign-in attempt is unknown, used, expired or another browser's
    │   └── CallbackMalformed   it is this browser's, but the callback's parameters make no sense
    ├── AuthorizationRefused    OmniFund sent the merchant back with an error instead of a code
    │   └── AccessDenied        the merchant pressed Deny
    ├── GrantRejected           OmniFund does not accept this code, password or refresh token
    ├── SignInRequired          there is no usable token any more: the merchant must sign in again
    ├── ClientMisconfigured     OmniFund does not accept this app's credentials or settings
    ├── AccessForbidden         the token is good, but not for what was asked (API 403)
    ├── RecordNotFound          the API knows no such record (API 404)
    ├── Unavailable             try later; ``retry_after`` says when
    │   ├── OmniFundUnavailable OmniFund cannot be reached or says that it cannot answer now
    │   ├── OmniFundTimeout     OmniFund did not answer in time; what it did is unknown
    │   ├── RefreshBusy         another request is refreshing this token and takes long
    │   └── StoreUnavailable    Redis cannot be reached, which says nothing about the session
    └── InvalidResponse        OmniFund's answer cannot be understood

Each has a ``status``: the HTTP status of a page that explains it (RFC 9110 §15).

No message holds a secret, and none holds a text that a server or a query string supplied, except
``code``, which is checked to be a short token before it gets here.
"""

from __future__ import annotations

from typing import ClassVar


class OmniFundError(Exception):
    """The root of everything that the package raises on purpose."""

    status: ClassVar[int] = 500


class AttemptInvalid(OmniFundError):
    """No sign-in can be finished with this callback (RFC 6749 §10.12)."""

    status = 400


class CallbackMalformed(AttemptInvalid):
    """A parameter is missing, repeated, contradictory or not of its form (RFC 6749 §4.1.2)."""


class AuthorizationRefused(OmniFundError):
    """OmniFund's authorization error response (RFC 6749 §4.1.2.1).

    ``code``: the error code, or ``None`` when it was not fit to be shown.
    """

    status = 400

    def __init__(self, code: str | None) -> None:
        self.code = code
        super().__init__(f"authorization refused: {code or 'an unreadable error code'}")


class AccessDenied(AuthorizationRefused):
    """``access_denied``: the merchant declined."""

    status = 403


class GrantRejected(OmniFundError):
    """``invalid_grant`` (RFC 6749 §5.2)."""

    status = 400


class SignInRequired(OmniFundError):
    """The merchant has to sign in again; ``reason`` says why: a fixed word of this package."""

    status = 401

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class ClientMisconfigured(OmniFundError):
    """``invalid_client`` and its relatives: only the operator can mend it (RFC 6749 §5.2)."""

    status = 502

    def __init__(self, code: str | None) -> None:
        self.code = code
        super().__init__(f"OmniFund refused this client: {code or 'an unreadable error code'}")


class AccessForbidden(OmniFundError):
    """OmniFund's API answered 403."""

    status = 403


class RecordNotFound(OmniFundError):
    """OmniFund's API answered 404."""

    status = 404


class Unavailable(OmniFundError):
    """Not now. ``retry_after``: whole seconds after which another try makes sense."""

    status = 503

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class OmniFundUnavailable(Unavailable):
    """No connection, 429 or 5xx. ``sent``: whether OmniFund may have got the request."""

    def __init__(self, message: str, *, retry_after: int = 5, sent: bool = True) -> None:
        self.sent = sent
        super().__init__(message, retry_after=retry_after)


class OmniFundTimeout(Unavailable):
    """A time-out after the request was sent: OmniFund may or may not have acted on it."""

    status = 504


class RefreshBusy(Unavailable):
    """Waiting for another request's refresh has taken longer than anybody should wait."""


class StoreUnavailable(Unavailable):
    """Redis refuses, is silent, or has failed over: "the store failed", not "no session"."""


class InvalidResponse(OmniFundError):
    """An answer that no OAuth server or API should give: wrong type, wrong shape, cut short."""

    status = 502
