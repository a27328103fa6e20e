"""The documents are true: links lead somewhere, commands exist, settings are complete."""

from __future__ import annotations

import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import config
from tests.support.servers import REPOSITORY

DOCUMENTS = [
    *sorted(REPOSITORY.glob("*.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    REPOSITORY / "benchmarks" / "README.md",
    REPOSITORY / "tests" / "faults" / "README.md",
]


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def anchors_of(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_the_links_inside_the_repository_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        page = (document.parent / path).resolve() if path else document
        assert page.exists(), target
        assert page.is_relative_to(REPOSITORY), target
        if anchor:
            assert anchor in anchors_of(page), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_the_files_that_are_named_exist(document: Path) -> None:
    folders = "omnifund|web|local_omnifund|tests|tools|docs|benchmarks|templates|static|examples"
    for path in re.findall(rf"`((?:{folders})/[\w./]*)`", document.read_text()):
        assert (REPOSITORY / path).exists(), path


# --- commands ------------------------------------------------------------------------------------

# The commands that the documents show, by their beginnings, and which test runs them. What is run
# by hand alone writes files that are committed, or breaks things for a minute.
RUN_BY = {
    ".venv/bin/flask --app app omnifund": "tests/cli/test_commands.py",
    ".venv/bin/flask --app app run": "tests/interop/test_conventions.py",
    ".venv/bin/gunicorn": "tests/demo/test_operator_start.py",
    ".venv/bin/pytest": "this run",
    ".venv/bin/python tools/screenshots.py": "by hand",
    "cp .env.example .env": "tests/test_documents.py",
    "docker": "tests/web/test_deployment.py",  # the Dockerfile's steps; there is no engine here
    "flask": "tests/cli/test_commands.py",
    "gunicorn django_app": "tests/examples/test_examples.py",
    "make bench": "tests/benchmarks/test_bench_runs.py",
    "make demo": "tests/demo/test_make_demo.py",
    "make format": "by hand",
    "make lighthouse": "tests/browser/test_lighthouse.py",
    "make lint": "this run",
    "make portal-tour": "by hand",
    "make screenshots": "by hand",
    "make security-table": "tests/test_requirements.py",
    "make soak": "by hand",
    "make test": "this run",
    "python3 -c": "tests/test_documents.py",
}


def commands_in(document: Path) -> Iterator[str]:
    """What a reader might type: lines of code blocks for a shell, and words in backquotes."""
    text = document.read_text()
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        yield from (re.sub(r"\s+#.*", "", line) for line in block.splitlines() if line)
    beginnings = r"(?:[A-Z_]+=\S+ )*(?:make [a-z]|\.venv/bin/|flask -|docker |cp |python3 -c)"
    yield from re.findall(rf"`({beginnings}[^`]*)`", text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_command_is_run_by_a_test(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for command in commands_in(document):
        plain = re.sub(r"^(?:[A-Z_]+=\S* )+", "", command)
        by = [where for beginning, where in RUN_BY.items() if plain.startswith(beginning)]
        assert by, command
        assert by[-1] in ("this run", "by hand") or (REPOSITORY / by[-1]).exists(), by
        if plain.startswith("make "):
            assert plain.split()[1] in targets, command


def test_the_command_that_makes_a_secret_key_makes_one() -> None:
    commands = {
        command
        for document in DOCUMENTS
        for command in commands_in(document)
        if command.startswith("python3 -c")
    }
    assert commands
    for command in commands:
        _python, *arguments = shlex.split(command)
        done = subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        assert len(done.stdout.strip()) >= config.SECRET_KEY_MIN_LENGTH


def test_the_example_of_a_configuration_is_one_when_it_is_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    for line in (REPOSITORY / ".env.example").read_text().splitlines():
        is_empty = re.fullmatch(r"[A-Z_]+=", line)
        lines.append(line + secrets.token_urlsafe(48) if is_empty else line)
    (tmp_path / ".env").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    for field in config.Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    assert config.Settings.from_environment().omnifund_environment == "sandbox"


# --- settings, pictures --------------------------------------------------------------------------


def test_every_setting_is_described_in_the_readme_and_the_example() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    example = (REPOSITORY / ".env.example").read_text()
    for field in config.Settings.model_fields:
        assert f"`{field.upper()}`" in readme, field
        if field != "flask_debug":
            assert re.search(rf"^#?{field.upper()}=", example, re.MULTILINE), field


def test_the_example_of_a_configuration_names_no_setting_that_does_not_exist() -> None:
    example = (REPOSITORY / ".env.example").read_text()
    known = {field.upper() for field in config.Settings.model_fields}
    readme = set(re.findall(r"`([A-Z][A-Z_]+)`", (REPOSITORY / "README.md").read_text()))
    assert set(re.findall(r"^#?([A-Z][A-Z_]+)=", example, re.MULTILINE)) <= known | readme


def test_every_picture_is_shown_and_every_page_of_the_docs_is_linked() -> None:
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    for picture in (REPOSITORY / "docs" / "screenshots").iterdir():
        assert f"screenshots/{picture.name}" in text, picture.name
    for page in (REPOSITORY / "docs").glob("*.md"):
        assert f"docs/{page.name}" in (REPOSITORY / "README.md").read_text(), page.name
    listed = (REPOSITORY / "docs" / "adr" / "README.md").read_text()
    for page in (REPOSITORY / "docs" / "adr").glob("0*.md"):
        assert f"({page.name})" in listed, page.name
