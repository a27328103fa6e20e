"""Rules of the house that import contracts cannot say."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import config
from local_omnifund import settings as local_settings

REPOSITORY = Path(__file__).parents[1]
APP = [
    REPOSITORY / "app.py",
    REPOSITORY / "cli.py",
    REPOSITORY / "config.py",
    REPOSITORY / "doctor.py",
    *sorted((REPOSITORY / "omnifund").rglob("*.py")),
    *sorted((REPOSITORY / "web").rglob("*.py")),
    *sorted((REPOSITORY / "demo").rglob("*.py")),
    *sorted((REPOSITORY / "local_omnifund").rglob("*.py")),
]
PARTS_WITH_PAGES = (REPOSITORY, REPOSITORY / "demo", REPOSITORY / "local_omnifund")
EVERYTHING = [
    *APP,
    REPOSITORY / "gunicorn.conf.py",
    REPOSITORY / "granian_server.py",
    *sorted((REPOSITORY / "benchmarks").rglob("*.py")),
    *sorted((REPOSITORY / "examples").rglob("*.py")),
    *sorted((REPOSITORY / "tools").rglob("*.py")),
    *sorted((REPOSITORY / "tests").rglob("*.py")),
]


def names_used(path: Path) -> Iterator[str]:
    """Every imported or attribute name in a file, dotted, for example ``os.environ``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def users_of(*names: str) -> set[str]:
    return {
        path.relative_to(REPOSITORY).as_posix()
        for path in APP
        if any(name in names for name in names_used(path))
    }


def test_the_environment_is_read_in_one_place_of_each_application() -> None:
    assert users_of("os.environ", "os.getenv") <= {
        "config.py",
        "local_omnifund/settings.py",
        # What gunicorn.conf.py tells its workers is no setting.
        "web/metrics.py",
    }


def test_no_module_imports_the_application_factory() -> None:
    assert {path for path in users_of("app", "app.create_app") if path != "app.py"} == set()


def test_the_apps_own_templates_know_nothing_of_the_demo() -> None:
    for template in (REPOSITORY / "templates").rglob("*.html"):
        names = re.findall(r"inspector|\blab\b|lab_|recording|demo", template.read_text())
        assert names == [], template


def test_the_settings_know_nothing_of_the_rest() -> None:
    own = ("omnifund", "web", "app", "demo", "local_omnifund")
    used = set(names_used(REPOSITORY / "config.py"))
    assert {name for name in used if name.split(".")[0] in own} == set()


def test_flasks_session_is_touched_in_one_module() -> None:
    # The naive client is an app of its own, with a session of its own.
    assert users_of("flask.session") == {"web/auth.py", "demo/naive_client.py"}


def test_nothing_is_pickled() -> None:
    assert users_of("pickle", "pickle.loads", "pickle.load", "marshal", "shelve") == set()


def test_the_applications_log_and_do_not_print() -> None:
    printing = {
        path.name
        for path in APP
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    assert printing <= {"__main__.py"}


def test_the_app_never_waits_by_sleeping_but_where_the_pause_is_a_parameter() -> None:
    # Local OmniFund is slow on purpose where a fault says so, at a pace that is a setting.
    assert users_of("time.sleep") <= {
        "omnifund/authorization.py",
        "omnifund/refresh.py",
        "local_omnifund/misbehavior.py",
    }


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_exception_to_a_rule_carries_its_reason(path: Path) -> None:
    with path.open("rb") as file:
        comments = [
            token.string
            for token in tokenize.tokenize(file.readline)
            if token.type == tokenize.COMMENT
        ]
    for comment in comments:
        if comment.startswith("# noqa"):
            is_explained = re.match(r"# noqa: [A-Z0-9, ]+ - \S", comment)
            assert is_explained, f"{comment}: say why, as in `# noqa: X1 - the reason`"
        if comment.startswith("# type:"):
            is_explained = re.match(r"# type: ignore\[[a-z, -]+\]  # \S", comment)
            assert is_explained, f"{comment}: say why, as in `# type: ignore[x]  # the reason`"


def test_both_applications_mean_the_same_demo_client() -> None:
    assert config.DEMO_CLIENT_ID == local_settings.DEMO_CLIENT_ID
    assert config.DEMO_CLIENT_SECRET == local_settings.DEMO_CLIENT_SECRET


def test_the_pages_have_no_inline_code_and_nothing_from_another_host() -> None:
    templates = [folder / "templates" for folder in PARTS_WITH_PAGES]
    for template in (path for folder in templates for path in folder.rglob("*.html")):
        text = template.read_text()
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", text), template
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text)), template
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text), template
    for sheet in (path for folder in PARTS_WITH_PAGES for path in folder.glob("static/*.css")):
        assert not re.search(r"@import|url\(\"?(?:https?:)?//", sheet.read_text()), sheet


def test_no_function_of_what_people_copy_needs_scrolling() -> None:
    """A function of ``omnifund/`` or ``web/`` fits on a screen: 40 lines."""
    lengths = {
        f"{path.name}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in APP
        if path.is_relative_to(REPOSITORY / "omnifund") or path.is_relative_to(REPOSITORY / "web")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    }
    assert len(lengths) > 200
    assert {name: lines for name, lines in lengths.items() if lines > 40} == {}
