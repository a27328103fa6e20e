"""The failure lab's cards: what can go wrong, when it happens, and what should follow.

``faults`` are the names of Local OmniFund's faults. ``proof`` is the test that covers every
variation; each card itself is tested in a browser.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Way(Enum):
    """How a failure is caused."""

    SIGN_IN = "start a sign-in that fails at OmniFund"
    PAGE = "open a page whose request fails at OmniFund"
    FORGED = "return with a state that no sign-in has"
    REPLAYED = "return with a callback that has been used"
    TABS = "open five pages simultaneously while the token expires"
    STORE = "stop Redis for a few seconds"


class Card(NamedTuple):
    """One failure.

    ``stands_for`` says when it happens in the real world; ``naive`` and ``ours`` complete the
    sentences that begin with "A naive client" and "This app".
    """

    id: str
    title: str
    stands_for: str
    naive: str
    ours: str
    proof: str
    way: Way
    faults: tuple[str, ...] = ()

    @property
    def needs_session(self) -> bool:
        """Whether the visitor has to be signed in first."""
        return self.way in _SIGNED_IN

    @property
    def is_recorded(self) -> bool:
        """Whether the page that follows has one recording."""
        return self.way not in _WITHOUT_ONE_RECORDING


class Group(NamedTuple):
    """Cards that belong together."""

    title: str
    introduction: str
    cards: tuple[Card, ...]

    @property
    def needs_session(self) -> bool:
        """Whether every card needs a visitor who is signed in."""
        return all(card.needs_session for card in self.cards)


# Without Redis OmniFund is sent nothing; the five tabs have a recording each.
_WITHOUT_ONE_RECORDING: Final = frozenset({Way.STORE, Way.TABS})
_SIGNED_IN: Final = frozenset({Way.PAGE, Way.TABS, Way.REPLAYED, Way.STORE})


GROUPS: Final = (
    Group(
        "Returning from OmniFund",
        "The response arrives through the browser, so it may be a denial, a forgery, or a replay.",
        (
            Card(
                "deny",
                "The merchant chooses Deny",
                "A merchant reads the consent page and declines.",
                "returns 500, because there is no code to exchange.",
                "explains it, keeps any earlier session, and offers another try.",
                "tests/flow/test_sign_in.py::test_a_denial_is_explained_and_changes_nothing_else",
                Way.SIGN_IN,
                ("deny",),
            ),
            Card(
                "state_tampered",
                "The state is forged",
                "An attacker sends you to the callback with the attacker's code, so that you work "
                "in the attacker's account.",
                "exchanges the code and signs you in as the attacker.",
                "rejects it before reading anything else and sends OmniFund nothing.",
                "tests/flow/test_sign_in.py::test_another_browser_cannot_use_a_callback",
                Way.FORGED,
            ),
        ),
    ),
    Group(
        "Exchanging the code",
        "You choose Allow, the app requests tokens, and something goes wrong.",
        (
            Card(
                "code_expired",
                "The code has expired",
                "The redirect took longer than the code's 30-second lifetime.",
                "returns 500 or retries the same code.",
                "asks you to start again; nothing else is lost.",
                "tests/faults/test_gateway.py::test_each_error_code_means_one_thing",
                Way.SIGN_IN,
                ("code_expired",),
            ),
            Card(
                "code_used",
                "The code was already used",
                "A proxy or an impatient client already sent it.",
                "shows the merchant OmniFund's raw error.",
                "sends each code only once; here it asks you to start again.",
                "tests/faults/test_sign_in.py::"
                "test_twenty_identical_callbacks_at_once_are_one_token_request_and_one_session",
                Way.SIGN_IN,
                ("code_used",),
            ),
            Card(
                "redirect_uri_mismatch",
                "The redirect URI doesn't match",
                "The redirect URI in the portal was changed or has an extra slash.",
                "blames the merchant.",
                "reports its own configuration error and logs it for its operators.",
                "tests/faults/test_gateway.py::test_each_error_code_means_one_thing",
                Way.SIGN_IN,
                ("redirect_uri_mismatch",),
            ),
            Card(
                "invalid_client",
                "The client secret is wrong",
                "The secret was rotated in the portal but not in the deployment.",
                "signs everyone out, or loops between login and callback.",
                "reports its own configuration error and keeps every session.",
                "tests/faults/test_sign_in.py::"
                "test_a_failed_exchange_is_one_clear_page_and_keeps_the_session_before",
                Way.SIGN_IN,
                ("invalid_client",),
            ),
            Card(
                "token_500",
                "OmniFund returns 500",
                "An internal error at OmniFund.",
                "retries immediately, with a code that may be spent.",
                "doesn't retry automatically; it says OmniFund is unavailable.",
                "tests/faults/test_gateway.py::test_429_and_5xx_are_not_tried_again",
                Way.SIGN_IN,
                ("token_500",),
            ),
            Card(
                "token_503",
                "OmniFund is down for maintenance",
                "Planned downtime, announced with Retry-After.",
                "ignores it and keeps retrying.",
                "passes Retry-After on to the browser.",
                "tests/faults/test_gateway.py::test_retry_after_is_honoured",
                Way.SIGN_IN,
                ("token_503",),
            ),
            Card(
                "token_timeout",
                "OmniFund doesn't respond",
                "The connection is open, but no response arrives.",
                "waits forever, until every worker is blocked.",
                "stops at the read timeout and doesn't resend the code, because OmniFund may have "
                "used it.",
                "tests/faults/test_gateway.py::"
                "test_a_time_out_after_sending_is_ambiguous_and_never_sent_again",
                Way.SIGN_IN,
                ("token_timeout",),
            ),
            Card(
                "token_drip",
                "OmniFund responds one byte at a time",
                "A broken proxy, or an attack meant to tie up every worker.",
                "never times out: each byte resets its timer.",
                "also enforces a 15-second deadline for the whole exchange.",
                "tests/faults/test_transport.py::test_dripping_bytes_are_cut_at_the_total_deadline",
                Way.SIGN_IN,
                ("token_drip",),
            ),
            Card(
                "token_html",
                "HTML instead of JSON",
                "A load balancer's error page with status 200.",
                "returns 500 with a JSON parser traceback.",
                "checks status, content type, and structure before using anything.",
                "tests/faults/test_gateway.py::"
                "test_no_misbehaviour_is_taken_for_a_token_and_each_is_asked_for_once",
                Way.SIGN_IN,
                ("token_html",),
            ),
            Card(
                "token_without_type",
                "A token without a type",
                "The response omits token_type, which RFC 6749 requires.",
                "stores it and fails later, elsewhere.",
                "rejects the token on receipt.",
                "tests/faults/test_gateway.py::"
                "test_a_token_that_cannot_be_used_is_refused_on_receipt",
                Way.SIGN_IN,
                ("token_without_type",),
            ),
            Card(
                "token_redirect",
                "The token endpoint redirects",
                "A hijacked or misconfigured URL.",
                "follows it and sends the code and client secret to another host.",
                "doesn't follow redirects; the other host gets nothing.",
                "tests/faults/test_transport.py::"
                "test_redirects_are_not_followed_and_the_other_host_gets_nothing",
                Way.SIGN_IN,
                ("token_redirect",),
            ),
        ),
    ),
    Group(
        "While you're signed in",
        "You have tokens, and then something goes wrong.",
        (
            Card(
                "access_token_expired",
                "The access token has expired",
                "An hour has passed, or OmniFund revoked the token.",
                "shows an error or signs you out.",
                "refreshes once, repeats the request, and shows your customers.",
                "tests/flow/test_refresh.py::"
                "test_a_refused_access_token_is_refreshed_once_and_the_request_repeated",
                Way.PAGE,
                ("access_token_expired",),
            ),
            Card(
                "five_tabs",
                "Five tabs as the token expires",
                "A browser that restores its tabs in the morning.",
                "refreshes five times; the first refresh makes the other four fail, and you are "
                "signed out.",
                "refreshes once: one request does it, the others wait, and all five succeed.",
                "tests/faults/test_refresh.py::"
                "test_a_refused_access_token_is_replaced_once_for_everybody",
                Way.TABS,
                ("access_token_expired", "refresh_slow"),
            ),
            Card(
                "refresh_slow",
                "A refresh takes three seconds",
                "OmniFund under load.",
                "releases its lock too early and refreshes twice.",
                "holds its lock longer than the slowest response. You wait once.",
                "tests/faults/test_refresh.py::test_a_slow_provider_is_still_asked_once",
                Way.PAGE,
                ("access_token_expired", "refresh_slow"),
            ),
            Card(
                "refresh_revoked",
                "The refresh token is revoked",
                "OmniFund ended the connection while you were away.",
                "loops between refresh and error, or returns 500.",
                "deletes the leftover tokens, asks you to sign in once, and returns you to the "
                "page you wanted.",
                "tests/flow/test_refresh.py::"
                "test_a_revoked_connection_ends_in_one_sign_in_that_returns_to_the_same_page",
                Way.PAGE,
                ("access_token_expired", "refresh_revoked"),
            ),
            Card(
                "callback_replayed",
                "The callback is replayed",
                "Reload, Back, a double click, or a restored tab.",
                "resends the used code and shows an error or, worse, gets the tokens revoked.",
                "recognizes the completed sign-in and takes you to your dashboard.",
                "tests/flow/test_sign_in.py::"
                "test_reloading_the_callback_leads_to_the_dashboard_and_redeems_nothing",
                Way.REPLAYED,
            ),
        ),
    ),
    Group(
        "Reading data",
        "The token is valid, but OmniFund's API doesn't return data.",
        (
            Card(
                "api_401",
                "The API returns 401",
                "The token was rejected before it expired.",
                "signs you out or refreshes in a loop.",
                "refreshes once and retries once.",
                "tests/faults/test_refresh.py::test_a_second_401_is_shown_and_not_refreshed_again",
                Way.PAGE,
                ("api_401",),
            ),
            Card(
                "api_403",
                "The API returns 403",
                "Your OmniFund user isn't allowed to view customers.",
                "refreshes the token, which changes nothing.",
                "says so and doesn't refresh.",
                "tests/faults/test_refresh.py::"
                "test_other_answers_are_shown_and_nothing_is_refreshed",
                Way.PAGE,
                ("api_403",),
            ),
            Card(
                "api_500",
                "The API returns 500",
                "An internal error at OmniFund.",
                "returns 500 too, as if the fault were its own.",
                "says the problem is at OmniFund; you stay signed in.",
                "tests/faults/test_refresh.py::"
                "test_other_answers_are_shown_and_nothing_is_refreshed",
                Way.PAGE,
                ("api_500",),
            ),
            Card(
                "api_odd_json",
                "The API returns unexpected JSON",
                "A new OmniFund version, or a proxy responding in its place.",
                "shows a traceback, or an empty page as if there were no customers.",
                "doesn't guess; it says the response is invalid.",
                "tests/faults/test_refresh.py::"
                "test_other_answers_are_shown_and_nothing_is_refreshed",
                Way.PAGE,
                ("api_odd_json",),
            ),
        ),
    ),
    Group(
        "In this app",
        "Failures that aren't OmniFund's.",
        (
            Card(
                "redis_outage",
                "Redis doesn't respond",
                "A failover, a saturated network, or an admin on the wrong server.",
                "hangs for minutes, or mistakes silence for signed out and deletes your cookie.",
                "returns 503 within two seconds and keeps your cookie; when Redis is back, you're "
                "still signed in.",
                "tests/web/test_every_answer.py::"
                "test_a_silent_redis_means_503_soon_and_the_cookie_stays",
                Way.STORE,
            ),
        ),
    ),
)

CARDS: Final = {card.id: card for group in GROUPS for card in group.cards}
