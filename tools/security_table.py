"""``make security-table``: write the tests' names into the table of docs/security.md.

The requirement's text stands in the table's second column and is kept; the third column is made of
the docstrings of the tests. ``--check`` only says whether the table is up to date.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
DOCUMENT: Final = REPOSITORY / "docs" / "security.md"
_ROW: Final = re.compile(r"^\| ([A-H][0-9]{1,2}) \| (.+?) \| .* \|$", re.MULTILINE)


@functools.cache
def named() -> dict[str, set[str]]:
    """Requirement ids, and the tests and test classes whose docstrings name them."""
    found: dict[str, set[str]] = {}
    for path in (REPOSITORY / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            if not node.name.lower().startswith("test"):
                continue
            for identifier in re.findall(r"\b[A-H][0-9]{1,2}\b", ast.get_docstring(node) or ""):
                found.setdefault(identifier, set()).add(f"{path.name}::{node.name}")
    return found


def with_tests(document: str) -> str:
    """Return ``document`` with the third column of its table made anew."""

    def row(match: re.Match[str]) -> str:
        tests = "<br>".join(f"`{name}`" for name in sorted(named().get(match[1], ())))
        return f"| {match[1]} | {match[2]} | {tests or '**none**'} |"

    return _ROW.sub(row, document)


def identifiers(document: str) -> list[str]:
    """Return the ids of the table's rows, in order."""
    return [match[1] for match in _ROW.finditer(document)]


def main() -> int:
    """Write the table, or check it; return the exit status."""
    document = DOCUMENT.read_text()
    wanted = with_tests(document)
    if "--check" in sys.argv[1:]:
        return 0 if document == wanted else 1
    DOCUMENT.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
