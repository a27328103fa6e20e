"""The failure lab's cards: what can go wrong, what it stands for, and what should happen then.

``faults`` are the names of Local OmniFund's switches. ``proof`` is the test that shows it for every
variation; that each card does what it says is tested in a browser, card by card.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Way(Enum):
    """How a failure is brought about."""

    SIGN_IN = "start a sign-in that OmniFund spoils"
    PAGE = "open a page that OmniFund spoils"
    FORGED = "come back with a state that nobody was given"
    REPLAYED = "come back with a callback that has been used"
    TABS = "open five pages at once while the token expires"
    STORE = "stop Redis for a few seconds"


class Card(NamedTuple):
    """One failure.

    ``stands_for`` is a sentence for a person; ``careless`` and ``ours`` go on where "A careless
    client" and "This app" begin.
    """

    id: str
    title: str
    stands_for: str
    careless: str
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
        """Whether the page that follows belongs to a conversation that can be looked at."""
        return self.way not in _SAID_ELSEWHERE


class Group(NamedTuple):
    """Cards that belong together."""

    title: str
    introduction: str
    cards: tuple[Card, ...]

    @property
    def needs_session(self) -> bool:
        """Whether every card needs a visitor who is signed in."""
        return all(card.needs_session for card in self.cards)


# With Redis away nothing is said; the five tabs have a conversation each.
_SAID_ELSEWHERE: Final = frozenset({Way.STORE, Way.TABS})
_SIGNED_IN: Final = frozenset({Way.PAGE, Way.TABS, Way.REPLAYED, Way.STORE})


GROUPS: Final = (
    Group(
        "On the way back from OmniFund",
        "The answer comes through the browser, so it may be a no, a forgery or a repetition.",
        (
            Card(
                "deny",
                "The merchant presses Deny",
                "Somebody reads the consent page and decides against it.",
                "answers 500, because there is no code to exchange.",
                "says so, keeps what was there before and offers another try.",
                "tests/flow/test_sign_in.py::test_a_denial_is_explained_and_changes_nothing_else",
                Way.SIGN_IN,
                ("deny",),
            ),
            Card(
                "state_tampered",
                "The state is not ours",
                "Somebody lures you to a callback with their own code, to have you work in their "
                "account.",
                "exchanges the code, and you are signed in as somebody else.",
                "refuses before it looks at anything else, and asks OmniFund nothing.",
                "tests/flow/test_sign_in.py::test_another_browser_cannot_use_a_callback",
                Way.FORGED,
            ),
        ),
    ),
    Group(
        "While the code is exchanged",
        "You press Allow, then the app asks OmniFund for the tokens and something is wrong.",
        (
            Card(
                "code_expired",
                "The code is too old",
                "The way back took longer than the thirty seconds that a code lives.",
                "answers 500, or tries the same code again.",
                "says that the sign-in has to be started again. Nothing else is lost.",
                "tests/faults/test_gateway.py::test_each_error_code_means_one_thing",
                Way.SIGN_IN,
                ("code_expired",),
            ),
            Card(
                "code_used",
                "The code has been used",
                "A proxy or an impatient client has sent it before.",
                "shows the merchant OmniFund's raw error.",
                "sends a code once, ever; here it says to start again.",
                "tests/faults/test_sign_in.py::"
                "test_twenty_identical_callbacks_at_once_are_one_token_request_and_one_session",
                Way.SIGN_IN,
                ("code_used",),
            ),
            Card(
                "redirect_uri_mismatch",
                "The redirect URI does not match",
                "The address in OmniFund's portal was changed, or has a slash too many.",
                "blames the merchant.",
                "says that it is its own mistake, and logs an error for its operators.",
                "tests/faults/test_gateway.py::test_each_error_code_means_one_thing",
                Way.SIGN_IN,
                ("redirect_uri_mismatch",),
            ),
            Card(
                "invalid_client",
                "The client secret is wrong",
                "The secret was replaced in the portal and not in the deployment.",
                "signs everybody out, or loops between login and callback.",
                "names its own side and keeps every session.",
                "tests/faults/test_sign_in.py::"
                "test_a_failed_exchange_is_one_clear_page_and_keeps_the_session_before",
                Way.SIGN_IN,
                ("invalid_client",),
            ),
            Card(
                "token_500",
                "OmniFund has an error",
                "A fault inside OmniFund.",
                "tries again at once, with a code that may be spent.",
                "tries nothing again by itself and says that OmniFund cannot be reached.",
                "tests/faults/test_gateway.py::test_429_and_5xx_are_not_tried_again",
                Way.SIGN_IN,
                ("token_500",),
            ),
            Card(
                "token_503",
                "OmniFund is being maintained",
                "A planned stop, announced with Retry-After.",
                "ignores the announcement and hammers.",
                "passes Retry-After on to the browser.",
                "tests/faults/test_gateway.py::test_retry_after_is_honoured",
                Way.SIGN_IN,
                ("token_503",),
            ),
            Card(
                "token_timeout",
                "OmniFund says nothing",
                "A connection that stands while nobody answers.",
                "waits for ever, until every worker waits.",
                "gives up after the read time-out, and does not send the code again: what OmniFund "
                "did with it is unknown.",
                "tests/faults/test_gateway.py::"
                "test_a_time_out_after_sending_is_ambiguous_and_never_sent_again",
                Way.SIGN_IN,
                ("token_timeout",),
            ),
            Card(
                "token_drip",
                "OmniFund sends a byte now and then",
                "A broken proxy, or somebody who wants to hold every worker.",
                "never notices: each byte resets its time-out.",
                "has a deadline for the whole exchange too: fifteen seconds, whatever comes.",
                "tests/faults/test_transport.py::test_dripping_bytes_are_cut_at_the_total_deadline",
                Way.SIGN_IN,
                ("token_drip",),
            ),
            Card(
                "token_html",
                "HTML instead of JSON",
                "A load balancer's error page with status 200.",
                "answers 500 with a JSON parser's traceback.",
                "looks at status, content type and form before it believes anything.",
                "tests/faults/test_gateway.py::"
                "test_no_misbehaviour_is_taken_for_a_token_and_each_is_asked_for_once",
                Way.SIGN_IN,
                ("token_html",),
            ),
            Card(
                "token_without_type",
                "A token without a type",
                "A server that has left out what RFC 6749 requires.",
                "stores it, and fails later and elsewhere.",
                "refuses the token on receipt.",
                "tests/faults/test_gateway.py::"
                "test_a_token_that_cannot_be_used_is_refused_on_receipt",
                Way.SIGN_IN,
                ("token_without_type",),
            ),
            Card(
                "token_redirect",
                "The token endpoint redirects",
                "A hijacked or misconfigured address.",
                "follows, and hands code and client secret to another host.",
                "follows no redirect. The other host gets nothing.",
                "tests/faults/test_transport.py::"
                "test_redirects_are_not_followed_and_the_other_host_gets_nothing",
                Way.SIGN_IN,
                ("token_redirect",),
            ),
        ),
    ),
    Group(
        "While you are connected",
        "The tokens are there, and then something happens to them.",
        (
            Card(
                "access_token_expired",
                "The access token has expired",
                "An hour has passed, or OmniFund has withdrawn the token.",
                "shows an error, or signs you out.",
                "refreshes once, asks again, and you see your customers.",
                "tests/flow/test_refresh.py::"
                "test_a_refused_access_token_is_refreshed_once_and_the_request_repeated",
                Way.PAGE,
                ("access_token_expired",),
            ),
            Card(
                "five_tabs",
                "Five tabs as the token expires",
                "A browser that restores its tabs in the morning.",
                "refreshes five times; the first one makes the other four fail, and you are "
                "signed out.",
                "refreshes once: one request does it, the others wait, and all five are answered.",
                "tests/faults/test_refresh.py::"
                "test_a_refused_access_token_is_replaced_once_for_everybody",
                Way.TABS,
                ("access_token_expired", "refresh_slow"),
            ),
            Card(
                "refresh_slow",
                "A refresh takes three seconds",
                "OmniFund under load.",
                "gives up its lock too early, and refreshes twice.",
                "has a lock that outlives the slowest answer. You wait, once.",
                "tests/faults/test_refresh.py::test_a_slow_provider_is_still_asked_once",
                Way.PAGE,
                ("access_token_expired", "refresh_slow"),
            ),
            Card(
                "refresh_revoked",
                "The refresh token is revoked",
                "OmniFund has ended the connection while you were away.",
                "loops between refresh and error, or shows 500.",
                "deletes what is left and asks you to sign in, once; then you are back on the page "
                "that you wanted.",
                "tests/flow/test_refresh.py::"
                "test_a_revoked_connection_ends_in_one_sign_in_that_returns_to_the_same_page",
                Way.PAGE,
                ("access_token_expired", "refresh_revoked"),
            ),
            Card(
                "callback_replayed",
                "The callback comes a second time",
                "Reload, Back, a double click, or a restored tab.",
                "sends the used code again and shows an error, or worse, has it revoked.",
                "recognises the attempt as finished and takes you to your dashboard.",
                "tests/flow/test_sign_in.py::"
                "test_reloading_the_callback_leads_to_the_dashboard_and_redeems_nothing",
                Way.REPLAYED,
            ),
        ),
    ),
    Group(
        "While data is read",
        "The token is good, and OmniFund's API answers something else than data.",
        (
            Card(
                "api_401",
                "The API says 401",
                "The token was refused without having expired.",
                "signs you out, or refreshes in a circle.",
                "refreshes once and asks once more, never twice.",
                "tests/faults/test_refresh.py::test_a_second_401_is_shown_and_not_refreshed_again",
                Way.PAGE,
                ("api_401",),
            ),
            Card(
                "api_403",
                "The API says 403",
                "Your OmniFund user may not see customers.",
                "refreshes the token, which changes nothing.",
                "says so and refreshes nothing.",
                "tests/faults/test_refresh.py::"
                "test_other_answers_are_shown_and_nothing_is_refreshed",
                Way.PAGE,
                ("api_403",),
            ),
            Card(
                "api_500",
                "The API has an error",
                "A fault inside OmniFund.",
                "answers 500 too, as if it were its own fault.",
                "says whose side it is on; you stay signed in.",
                "tests/faults/test_refresh.py::"
                "test_other_answers_are_shown_and_nothing_is_refreshed",
                Way.PAGE,
                ("api_500",),
            ),
            Card(
                "api_odd_json",
                "The API sends odd JSON",
                "A new version of OmniFund, or a proxy that answers in its place.",
                "shows a traceback, or an empty page as if there were no customers.",
                "does not guess. It says that the answer could not be read.",
                "tests/faults/test_refresh.py::"
                "test_other_answers_are_shown_and_nothing_is_refreshed",
                Way.PAGE,
                ("api_odd_json",),
            ),
        ),
    ),
    Group(
        "In this app's own house",
        "Not OmniFund's fault at all.",
        (
            Card(
                "redis_outage",
                "Redis is silent",
                "A fail-over, a full network, somebody at the wrong server.",
                "hangs for minutes, or takes silence for signed out and deletes your cookie.",
                "answers 503 within two seconds and leaves your cookie alone; when Redis is back, "
                "so are you.",
                "tests/web/test_every_answer.py::"
                "test_a_silent_redis_means_503_soon_and_the_cookie_stays",
                Way.STORE,
            ),
        ),
    ),
)

CARDS: Final = {card.id: card for group in GROUPS for card in group.cards}
