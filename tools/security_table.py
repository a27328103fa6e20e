"""``make security-table``: write docs/security-tests.md, which lists the tests of each requirement.

The requirements are the tables of docs/security.md; a test names the ones that it verifies in its
docstring.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
REQUIREMENTS: Final = REPOSITORY / "docs" / "security.md"
DOCUMENT: Final = REPOSITORY / "docs" / "security-tests.md"
_ROW: Final = re.compile(r"^\| ([A-HKMP][0-9]{1,2}) \| .+ \|$", re.MULTILINE)
_IDENTIFIER: Final = re.compile(r"\b[A-HKMP][0-9]{1,2}\b")
_HEAD: Final = """\
# Security requirements and their tests

`make security-table` writes this file from the docstrings of the tests. Paths are relative to
`tests/`. [security.md](security.md) states what each ID requires.

| | tests |
| --- | --- |
"""


@functools.cache
def named() -> Mapping[str, set[str]]:
    """Return requirement IDs with the tests and test classes whose docstrings name them."""
    found: dict[str, set[str]] = {}
    tests = REPOSITORY / "tests"
    for path in tests.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if not node.name.lower().startswith("test"):
                continue
            for identifier in _IDENTIFIER.findall(ast.get_docstring(node) or ""):
                name = f"{path.relative_to(tests).as_posix()}::{node.name}"
                found.setdefault(identifier, set()).add(name)
    return found


def identifiers() -> list[str]:
    """Return the IDs of docs/security.md, in order."""
    return _ROW.findall(REQUIREMENTS.read_text())


def document(tests: Mapping[str, set[str]]) -> str:
    """Return the text of docs/security-tests.md for the tests of each ID."""
    return _HEAD + "".join(_row(each, tests.get(each, set())) for each in identifiers())


def _row(identifier: str, tests: set[str]) -> str:
    names = "<br>".join(f"`{name}`" for name in sorted(tests))
    return f"| {identifier} | {names} |\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(named()))
