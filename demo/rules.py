"""What the code checks in each step, told by the code itself.

A rule is a function whose docstring begins with the rule and its clause: "The state was issued to
this browser (RFC 6749 §10.12)." Here is only their order. When a step has succeeded, all its rules
have passed; when it failed, the error's traceback says in which function, and the rules after that
one were not reached. Text, clause, file, line, and source come from the functions.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import Any, Final, Literal, NamedTuple

import msgspec

from omnifund import api, authorization, http, oauth, token
from omnifund.authorization import PendingRequests
from omnifund.client import OmniFund
from omnifund.connections import Connections
from omnifund.oauth import OAuthClient
from omnifund.refresh import TokenRefresher
from web.sessions import MerchantSession

Function = Callable[..., Any]


class Without(msgspec.Struct, frozen=True):
    """What would happen without a check, and the card of the lab that shows it."""

    sentence: str
    card: str = ""


WITHOUT: Final = msgspec.toml.decode(
    Path(__file__).with_name("without.toml").read_bytes(), type=dict[str, Without]
)

Outcome = Literal["passed", "refused", "not reached"]

_CLAUSE: Final = re.compile(
    r"(?:RFC (?P<number>\d+) )?(?:§(?P<section>[\d.]+)|appendix (?P<appendix>[A-Z][\d.]*))"
)
_RULE: Final = re.compile(r"(?P<text>.+) \((?P<clause>RFC [^()]+)\)\.")

# No rules, but errors come from here: they say how far a step got.
_PLACES: Final[tuple[Function, ...]] = (
    OmniFund._exchange,
    Connections.save,
    OmniFund.sign_in_with_password,
    http.HTTPClient.send,
    TokenRefresher.replace_rejected,
    OAuthClient.post,
)

_COMPLETE: Final[tuple[Function, ...]] = (http.HTTPClient.send, http.receive_response)
_TOKEN_RESPONSE: Final[tuple[Function, ...]] = (
    oauth.add_credentials,
    *_COMPLETE,
    http.raise_if_unavailable,
    http.read_json_object,
    oauth.require_consistent_status,
    OAuthClient.post,
    token.require_bearer_type,
    token.require_access_token,
    token.read_refresh_token,
    token.read_lifetime,
    token.read_scope,
)
_OWN_STATE: Final[tuple[Function, ...]] = (
    authorization.require_state,
    authorization.require_own_request,
    authorization.require_recent,
    authorization.require_owner,
)

STEPS: Final[dict[str, tuple[Function, ...]]] = {
    "login": (
        authorization.safe_next,
        authorization.new_state,
        authorization.new_code_verifier,
    ),
    "callback": (
        *_OWN_STATE,
        authorization.require_no_repetition,
        authorization.require_issuer,
        authorization.require_code,
        PendingRequests.claim,
        OmniFund._exchange,
        Connections.save,
        MerchantSession.start,
    ),
    "repeated_callback": (*_OWN_STATE, OmniFund._repeated),
    "password": (
        authorization.safe_next,
        OmniFund.sign_in_with_password,
        Connections.save,
        MerchantSession.start,
    ),
    "authorization_code": (
        OAuthClient.exchange_code,
        oauth.add_code_verifier,
        *_TOKEN_RESPONSE,
    ),
    "password_grant": _TOKEN_RESPONSE,
    "refresh_token": (*_TOKEN_RESPONSE, Connections.replace),
    "api": (
        api.require_api_path,
        *_COMPLETE,
        TokenRefresher.replace_rejected,
        http.raise_if_unavailable,
        api.require_success,
        http.read_json_object,
    ),
}
"""The functions of each step, in the order in which they apply."""

# These are called in any case, and have something to check only with this parameter.
_ONLY_WITH: Final[dict[Function, str]] = {
    authorization.require_issuer: "iss",
    authorization.require_owner: "owner",
    authorization.new_code_verifier: "code_challenge",
    oauth.add_code_verifier: "code_verifier",
}

SUPERSEDED: Final = (Connections.replace.__code__,)
"""Where a refresh has stopped whose tokens were not stored."""


class Rule(NamedTuple):
    """A rule and the line that decides; ``file`` is relative to the root.

    ``without``: what would happen without it. ``card``: the lab's card about that, or nothing.
    """

    text: str
    clause: str
    file: str
    line: int
    function: str
    without: str
    card: str


@functools.cache
def describe(function: Function) -> Rule:
    """Return the rule that ``function`` states. Raises ``ValueError`` if it states none."""
    first_paragraph = " ".join(str(inspect.getdoc(function)).partition("\n\n")[0].split())
    found = _RULE.fullmatch(first_paragraph)
    if found is None:
        raise ValueError(f"the docstring of {function.__qualname__} is no rule with its clause")
    file = function.__module__.replace(".", "/") + ".py"
    without = WITHOUT[name_of(function).partition(".")[2]]
    return Rule(
        found["text"],
        found["clause"],
        file,
        deciding_line(function),
        function.__name__,
        without.sentence,
        without.card,
    )


_PARSING: Final = threading.Lock()


def parse(text: str) -> ast.Module:
    """Return the syntax tree of ``text``. In CPython 3.11 two threads may not parse at once."""
    with _PARSING:
        return ast.parse(text)


@functools.cache
def deciding_line(function: Function) -> int:
    """Return the line of the first condition under which ``function`` raises an error.

    If there is none, that of its first statement.
    """
    lines, first = inspect.getsourcelines(inspect.unwrap(function))
    (tree,) = parse(textwrap.dedent("".join(lines))).body
    conditions = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and any(isinstance(each, ast.Raise) for each in node.body)
    ]
    return first - 1 + min(conditions or [_first_statement(tree).lineno])


def _first_statement(function: ast.AST) -> ast.stmt:
    body: list[ast.stmt] = getattr(function, "body")  # noqa: B009 - the type is not known here
    has_docstring = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
    return body[1] if has_docstring and len(body) > 1 else body[0]


def references(clause: str) -> Iterator[tuple[str, str]]:
    """Yield each clause of a text such as "RFC 6749 §4.1.2, §10.12", and its address."""
    number = ""
    for part in clause.split(", "):
        found = _CLAUSE.fullmatch(part)
        number = (found and found["number"]) or number
        if found is None:
            raise ValueError(f"{part} is no clause of an RFC")
        kind = "appendix" if found["appendix"] else "section"
        section = found["appendix"] or found["section"]
        yield part, f"https://www.rfc-editor.org/rfc/rfc{number}#{kind}-{section}"


def name_of(function: Function) -> str:
    """Return the name by which a recording knows a rule."""
    return f"{function.__module__}.{function.__qualname__}"


RULES: Final = {
    name_of(function): function
    for functions in STEPS.values()
    for function in functions
    if function not in _PLACES
}
"""Every rule by its name."""


# --- how far a step got ----------------------------------------------------------------------


def functions_of(error: BaseException) -> tuple[CodeType, ...]:
    """Return the functions through which ``error`` was raised, the innermost last."""
    found = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    if found and found[-1] is OmniFund.handle_callback.__code__:
        # What it raises itself is that the claim was lost.
        found.append(PendingRequests.claim.__code__)
    return tuple(found)


def stopped_step(steps: Sequence[str], stopped_in: Sequence[CodeType]) -> int:
    """Return the index of the step that an error ended: the latest that its origin is part of."""
    for code in reversed(stopped_in):
        for index in reversed(range(len(steps))):
            if code in _codes(steps[index]):
                return index
    return len(steps) - 1


def outcomes(
    step: str, parameters: Collection[str], stopped_in: Sequence[CodeType], status: int | None
) -> dict[str, Outcome]:
    """Return what came of each rule of ``step``; ``parameters``: the names in its messages."""
    if step == "api" and status == 401 and not stopped_in:
        stopped_in = (TokenRefresher.replace_rejected.__code__,)
    order = _codes(step)
    # The innermost function says where it stopped.
    stop = next((order.index(code) for code in reversed(stopped_in) if code in order), len(order))
    found: dict[str, Outcome] = {}
    for index, function in enumerate(STEPS.get(step, ())):
        needed = _ONLY_WITH.get(function)
        if function in _PLACES or (needed and needed not in parameters and index != stop):
            continue
        passed = index < stop or _stands(function, stopped_in)
        outcome: Outcome = "passed" if passed else "not reached"
        found[name_of(function)] = "refused" if index == stop else outcome
    return found


def _stands(function: Function, stopped_in: Sequence[CodeType]) -> bool:
    # A callback without a code is claimed too, so that it cannot be used again.
    return function is PendingRequests.claim and OmniFund._exchange.__code__ in stopped_in


def _codes(step: str) -> list[CodeType]:
    return [function.__code__ for function in STEPS.get(step, ())]
