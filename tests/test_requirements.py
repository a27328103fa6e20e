"""The security requirements, the tests that name them, and the two documents that list both."""

from __future__ import annotations

import pytest

from tools import security_table
from tools.security_table import document, identifiers, named

REQUIRED = {"A": 8, "B": 14, "C": 12, "D": 6, "E": 13, "F": 8, "G": 7, "H": 4}
REQUIRED |= {"K": 58, "M": 15, "P": 12}


def numbered(groups: dict[str, int]) -> list[str]:
    return [f"{group}{number}" for group, count in groups.items() for number in range(1, count + 1)]


@pytest.mark.parametrize("identifier", numbered(REQUIRED))
def test_a_requirement_has_a_test(identifier: str) -> None:
    assert named().get(identifier), "name it in the docstring of the test that proves it"


def test_every_requirement_is_stated_once_and_in_order() -> None:
    assert identifiers() == numbered(REQUIRED), "docs/security.md, or REQUIRED above"


def test_the_list_of_tests_is_up_to_date() -> None:
    is_current = security_table.DOCUMENT.read_text() == document(named())
    assert is_current, "run make security-table"


def test_no_test_names_a_requirement_that_does_not_exist() -> None:
    unknown = {each: named()[each] for each in set(named()) - set(identifiers())}
    assert unknown == {}, "docs/security.md does not state it"
