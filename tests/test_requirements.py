"""Every line of the security requirements is named by a test, in its docstring."""

from __future__ import annotations

import pytest

from tools import security_table
from tools.security_table import named

LINES = {"A": 8, "B": 14, "C": 12, "D": 6, "E": 13, "F": 8, "G": 7, "H": 4}
IDS = [f"{group}{number}" for group, count in LINES.items() for number in range(1, count + 1)]


@pytest.mark.parametrize("identifier", IDS)
def test_a_requirement_has_a_test(identifier: str) -> None:
    assert named().get(identifier)


def test_the_table_in_the_documents_is_up_to_date() -> None:
    """``make security-table`` writes it."""
    document = security_table.DOCUMENT.read_text()
    assert security_table.identifiers(document) == IDS
    assert document == security_table.with_tests(document)


def test_no_test_names_a_requirement_that_does_not_exist() -> None:
    assert set(named()) <= set(IDS)
