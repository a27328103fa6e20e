"""Every line of the security requirements is named by a test, in its docstring."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

LINES = {"A": 8, "B": 14, "C": 12, "D": 6, "E": 13, "F": 8, "G": 7, "H": 4}
IDS = [f"{group}{number}" for group, count in LINES.items() for number in range(1, count + 1)]


@functools.cache
def named() -> dict[str, set[str]]:
    """Requirement ids, and the tests and test classes whose docstrings name them."""
    found: dict[str, set[str]] = {}
    for path in Path(__file__).parent.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            if not node.name.lower().startswith("test"):
                continue
            for identifier in re.findall(r"\b[A-H][0-9]{1,2}\b", ast.get_docstring(node) or ""):
                found.setdefault(identifier, set()).add(f"{path.name}::{node.name}")
    return found


@pytest.mark.parametrize("identifier", IDS)
def test_a_requirement_has_a_test(identifier: str) -> None:
    assert named().get(identifier)


def test_no_test_names_a_requirement_that_does_not_exist() -> None:
    assert set(named()) <= set(IDS)
