"""What the documents say is so: links, commands, settings, versions, pictures."""

from __future__ import annotations

import ast
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import config
from config import Settings
from tests.support.servers import REPOSITORY

README = REPOSITORY / "README.md"
ADRS = sorted((REPOSITORY / "docs" / "adr").glob("0*.md"))
DOCUMENTS = [
    *sorted(REPOSITORY.glob("*.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    REPOSITORY / "benchmarks" / "README.md",
    REPOSITORY / "tests" / "faults" / "README.md",
]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
NAMES = [document.relative_to(REPOSITORY).as_posix() for document in DOCUMENTS]
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)


def fences(document: Path, language: str) -> list[str]:
    """The document's blocks of code in ``language``."""
    return [body for found, body in FENCE.findall(document.read_text()) if found == language]


def prose(document: Path) -> str:
    """The document without its blocks of code."""
    return FENCE.sub("", document.read_text())


def inline_code(document: Path) -> list[str]:
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(document))


# --- links and names -----------------------------------------------------------------------------


def anchors(document: Path) -> set[str]:
    """The headings, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), f"a link to {target}, which is not there"
        assert there.is_relative_to(REPOSITORY), target
        assert not anchor or anchor in anchors(there), f"a link to {target}: no such heading"


@each_document
def test_every_file_that_is_named_exists(document: Path) -> None:
    for name in inline_code(document):
        if re.fullmatch(r"[\w.-]+(?:/[\w.-]+)*(?:/|\.(?:css|js|md|py|toml|txt|yaml))", name):
            near = [REPOSITORY, document.parent, REPOSITORY / "omnifund"]
            assert any((folder / name).exists() for folder in near), f"there is no {name}"


def test_the_layout_in_readme_is_the_repositorys() -> None:
    (layout,) = fences(README, "")
    named = " ".join(line.partition("  ")[0] for line in layout.splitlines()).split()
    assert len(named) > 10
    for name in named:
        assert (REPOSITORY / name).exists(), name
    unnamed = {path.name for path in REPOSITORY.glob("*.py")} - set(named)
    assert unnamed == set(), "README.md, Layout: add the module"


def test_every_decision_is_listed_and_says_what_was_rejected() -> None:
    table = (REPOSITORY / "docs" / "adr" / "README.md").read_text()
    listed = re.findall(r"\]\((0\d+-[\w-]+\.md)\)", table)
    assert [path.name for path in ADRS] == listed, "docs/adr/README.md lists other decisions"
    for path in ADRS:
        text = path.read_text()
        title = text.splitlines()[0].partition(": ")[2]
        assert f"| {title} |" in table, f"docs/adr/README.md gives {path.name} another title"
        assert "**Rejected" in text, f"{path.name} does not say what was **Rejected**"


def test_every_document_can_be_reached_from_readme() -> None:
    reached, waiting = set[Path](), {README}
    while waiting:
        document = waiting.pop()
        reached.add(document)
        targets = re.findall(r"\]\(([^)#\s]+\.md)", prose(document))
        linked = {(document.parent / target).resolve() for target in targets}
        waiting |= {path for path in linked if path.exists()} - reached
    unreached = set((REPOSITORY / "docs").rglob("*.md")) - reached
    assert unreached == set(), "no document links to it"


# --- pictures ------------------------------------------------------------------------------------


def test_every_picture_is_one_and_is_shown() -> None:
    shown = {
        (document.parent / target).resolve()
        for document in DOCUMENTS
        for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", prose(document))
    }
    assert shown == set((REPOSITORY / "docs" / "screenshots").glob("*"))
    for picture in shown:
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n", picture.name


def drawn() -> set[tuple[str, str]]:
    """The solid arrows of README's picture, from the importing part to the imported one."""
    (picture,) = fences(README, "mermaid")
    arrows = re.findall(r"^ *(\w+)(?:\[.*?\])? --> (\w+)", picture, re.MULTILINE)
    assert len(arrows) > 15
    return set(arrows)


def left_out() -> set[str]:
    (sentence,) = re.findall(r"The diagram omits [^.]+\.", README.read_text())
    return set(re.findall(r"`(\w+)`", sentence))


def files_of(part: str) -> list[Path]:
    """The modules that a part of the picture stands for."""
    if part == "app":
        return [REPOSITORY / name for name in ("app.py", "cli.py", "doctor.py")]
    if part in ("demo", "web"):
        return sorted((REPOSITORY / part).rglob("*.py"))
    return [REPOSITORY / "omnifund" / f"{part}.py"]


def imported_by(path: Path) -> set[str]:
    """The parts and libraries that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    parts = {name.removeprefix("omnifund.").partition(".")[0] for name in names} - {"omnifund"}
    return {"app" if part in ("cli", "doctor") else part for part in parts}


def below(part: str) -> set[str]:
    """Every part that arrows lead to from ``part``."""
    found: set[str] = set()
    waiting = {part}
    while waiting:
        reached = {lower for upper, lower in drawn() if upper in waiting}
        waiting = reached - found
        found |= reached
    return found


LIBRARIES = {"authlib", "redis", "sqlalchemy"}
PARTS = sorted({part for arrow in drawn() for part in arrow} - LIBRARIES)


def test_the_picture_shows_every_module_but_those_it_names() -> None:
    modules = {path.stem for path in (REPOSITORY / "omnifund").glob("*.py")} - {"__init__"}
    shown = set(PARTS) | (left_out() & modules)
    assert modules | {"app", "demo", "web"} == shown, "README.md, Layout: draw it, or omit it"
    assert not left_out() & set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_every_arrow_of_the_picture_is_an_import(part: str) -> None:
    imported = set().union(*map(imported_by, files_of(part)))
    assert {lower for upper, lower in drawn() if upper == part} <= imported


@pytest.mark.parametrize("part", PARTS)
def test_every_import_between_parts_goes_along_arrows(part: str) -> None:
    """Also those of the libraries, so the picture shows every module that has them."""
    imported = set().union(*map(imported_by, files_of(part)))
    direct = {lower for upper, lower in drawn() if upper == part}
    assert part not in below(part)
    assert (imported & set(PARTS)) - {part} <= below(part)
    assert imported & LIBRARIES == direct & LIBRARIES


# --- settings and versions -----------------------------------------------------------------------

CONFIGURATION = REPOSITORY / "docs" / "configuration.md"
VARIABLES = r"^ *\| (`[A-Z_]+`(?:, `[A-Z_]+`)*) \|"


def test_every_setting_is_described_and_in_the_example() -> None:
    described = CONFIGURATION.read_text()
    example = (REPOSITORY / ".env.example").read_text()
    in_example = set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE))
    settings = {field.upper() for field in config.Settings.model_fields}
    assert settings - in_example <= {"FLASK_DEBUG"}, "add the setting to .env.example"
    for name in settings | in_example:
        assert f"`{name}`" in described, f"docs/configuration.md does not describe {name}"


def test_every_variable_that_is_described_is_read_by_something() -> None:
    rows = re.findall(VARIABLES, CONFIGURATION.read_text(), re.MULTILINE)
    sources = [REPOSITORY / "gunicorn.conf.py", REPOSITORY / "local_omnifund" / "settings.py"]
    elsewhere = " ".join(source.read_text() for source in sources)
    listed = re.findall(r"[A-Z_]+", " ".join(rows))
    assert len(listed) > 30
    for name in listed:
        assert name.lower() in config.Settings.model_fields or name in elsewhere, name


def test_readme_lists_the_variables_without_which_the_app_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    monkeypatch.setenv("OMNIFUND_ENVIRONMENT", "production")
    with pytest.raises(config.ConfigurationError) as missing:
        Settings.from_environment(None)
    rows = re.findall(VARIABLES, README.read_text(), re.MULTILINE)
    listed = set(re.findall(r"[A-Z_]+", " ".join(rows)))
    assert listed == {"OMNIFUND_ENVIRONMENT", *missing.value.problems}


def pins() -> dict[str, str]:
    """Every version that is pinned, of Python's packages and of npm's."""
    found: dict[str, str] = {}
    for path in REPOSITORY.glob("requirements*.txt"):
        found |= dict(re.findall(r"^([\w.-]+)==(\S+)$", path.read_text(), re.MULTILINE))
    package = (REPOSITORY / "tests" / "interop" / "node" / "package.json").read_text()
    return found | dict(re.findall(r'"([\w-]+)": "(\d[\d.]+)"', package))


def test_the_versions_that_are_named_are_those_that_are_pinned() -> None:
    pinned = {name.lower(): version for name, version in pins().items()}
    named = [
        pair
        for name in ("interoperability.md", "take-it-with-you.md")
        for pair in re.findall(
            r"\b([A-Za-z][\w-]+)(?: |==)(\d+\.\d+\.\d+(?:\.post\d+)?)",
            (REPOSITORY / "docs" / name).read_text(),
        )
        if pair[0] != "Python"
    ]
    assert len(named) > 10
    for name, version in named:
        assert pinned[name.lower()] == version, name


def test_no_lock_file_names_a_registry() -> None:
    folders = ("benchmarks/node_passport", "tests/interop/node", "tools/node_lighthouse")
    for folder in (REPOSITORY / name for name in folders):
        lock = (folder / "package-lock.json").read_text()
        assert '"resolved"' not in lock
        assert lock.count('"integrity"') == lock.count('"node_modules/')


# --- code ----------------------------------------------------------------------------------------


def test_the_code_to_take_along_is_that_of_the_examples() -> None:
    def unindented(text: str) -> str:
        return "\n".join(line.strip() for line in text.strip().splitlines())

    examples = [unindented(path.read_text()) for path in (REPOSITORY / "examples").glob("*.py")]
    for name in ("take-it-with-you.md", "connect-your-users.md"):
        blocks = fences(REPOSITORY / "docs" / name, "python")
        assert len(blocks) > 5
        for block in blocks:
            assert any(unindented(block) in example for example in examples), block


# --- commands ------------------------------------------------------------------------------------


class Elsewhere(NamedTuple):
    """Another test runs it: ``words`` stand in the file."""

    path: str
    words: str


class NotRun(NamedTuple):
    """Here only its make target or its option is looked for; ``reason`` says why."""

    reason: str


def run(*command: str, folder: Path = REPOSITORY) -> str:
    """Run a command to its end; return what it has printed."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True, timeout=100
    )
    return done.stdout


def the_tests_that_take_seconds() -> None:
    chosen = ("tests/unit", "tests/flow", "tests/test_recipes.py")
    listed = run(sys.executable, "-m", "pytest", "--collect-only", "-q", *chosen)
    assert "test_token.py" in listed


def what_the_app_needs() -> None:
    """The commands that ``make demo`` and the Dockerfile's steps run in other tests."""
    assert "tools/make_venv.sh .venv requirements.txt" in run("make", "--dry-run", "install")


def a_secret_key() -> None:
    made = run(sys.executable, "-c", "import secrets; print(secrets.token_urlsafe(48))")
    assert len(made.strip()) >= config.SECRET_KEY_MIN_LENGTH


def options_of_the_bench() -> None:
    listed = run(sys.executable, "-m", "benchmarks", "--help")
    assert {"--quick", "--inner", "--flat", "--crowd", "--kinds", "--python"} <= set(
        re.findall(r"--\w+", listed)
    )


CONVENTIONS = "tests/interop/test_conventions.py"
CONNECT = "tests/examples/test_connect.py"
BENCH = "tests/benchmarks/test_bench_runs.py"
LONG = "it takes minutes, and says so"
PROOFS: dict[str, Elsewhere | NotRun | Callable[[], None]] = {
    "make demo": Elsewhere("tests/demo/test_make_demo.py", '["make", "demo"]'),
    "APP_PORT=8001 LOCAL_OMNIFUND_PORT=9001 make demo": Elsewhere(
        "tests/demo/test_make_demo.py", "LOCAL_OMNIFUND_PORT"
    ),
    "make install": what_the_app_needs,
    "make test": NotRun("it runs this test"),
    "make lint": NotRun("`make test` runs it before this test"),
    ".venv/bin/pytest -q -n 2 tests/unit tests/flow tests/test_recipes.py": (
        the_tests_that_take_seconds
    ),
    "make format": NotRun("it would rewrite files under the other tests"),
    "make security-table": Elsewhere("tests/test_requirements.py", "document(named())"),
    "make portal-tour": NotRun("it rewrites pictures, of a demo that somebody has started"),
    "make screenshots": NotRun("the same"),
    ".venv/bin/python tools/screenshots.py FOLDER": NotRun("the same, in another folder"),
    "make lighthouse": Elsewhere("tests/browser/test_lighthouse.py", "lighthouse"),
    "docker compose --env-file deploy/local.env --profile local up --build": Elsewhere(
        "tools/containers/debian.py", '"--env-file", "deploy/local.env"'
    ),
    "make sbom": Elsewhere("tests/test_project.py", "cyclonedx-py"),
    "make licenses": Elsewhere("tests/test_project.py", "piplicenses"),
    ".venv/bin/python -m benchmarks --quick --peers app floor": options_of_the_bench,
    "make containers": NotRun("it takes minutes, and a container engine"),
    ".venv/bin/python -m tools.failover": NotRun(LONG),
    "make browsers": NotRun("it installs two browsers"),
    "make soak": NotRun(LONG),
    "make fuzz": NotRun(LONG),
    "make fuzz EXAMPLES=1000": NotRun(LONG),
    "MINUTES=10 make soak": NotRun(LONG),
    "make bench": Elsewhere(BENCH, '"benchmarks"'),
    "make bench ARGS=--quick": options_of_the_bench,
    "make bench ARGS=--inner": options_of_the_bench,
    "make bench ARGS=--flat": options_of_the_bench,
    "make bench ARGS=--crowd": options_of_the_bench,
    "make bench ARGS=--kinds": options_of_the_bench,
    'make bench ARGS="--python /usr/bin/python3.15"': options_of_the_bench,
    '.venv/bin/gunicorn "app:create_app()"': Elsewhere(CONVENTIONS, '"app:create_app()"'),
    '.venv/bin/gunicorn "local_omnifund:create_app()"': Elsewhere(
        CONVENTIONS, '"local_omnifund:create_app()"'
    ),
    ".venv/bin/pip install -r requirements-granian.txt": Elsewhere(
        "requirements-dev.txt", "-r requirements-granian.txt"
    ),
    ".venv/bin/python granian_server.py 127.0.0.1:8000": Elsewhere(
        "tests/support/servers.py", '"granian_server.py"'
    ),
    ".venv/bin/flask --app app run": Elsewhere(CONVENTIONS, '"flask", "--app", "app", "run"'),
    ".venv/bin/flask --app app omnifund doctor": Elsewhere(
        "tests/cli/test_commands.py", 'terminal.type("doctor")'
    ),
    ".venv/bin/flask --app app --env-file /etc/omnifund-app.env omnifund doctor": Elsewhere(
        "tests/cli/test_commands.py", '"--env-file"'
    ),
    ".venv/bin/flask --app app omnifund token": Elsewhere("tests/cli/test_commands.py", '"token"'),
    "flask routes": Elsewhere(CONVENTIONS, 'flask(variables, "routes")'),
    "flask omnifund …": Elsewhere(CONVENTIONS, '"omnifund", "--help"'),
    "waitress-serve --call app:create_app": Elsewhere(CONVENTIONS, '"waitress-serve"'),
    "uvicorn --interface wsgi --factory app:create_app": Elsewhere(
        CONVENTIONS, '"--interface", "wsgi", "--factory", "app:create_app"'
    ),
    "flask --app connect_app run --port 8000": Elsewhere(
        "tests/examples/test_examples.py", '"flask", "--app", "connect_app", "run", "--port"'
    ),
    "flask --app connect_app omnifund keep-alive": Elsewhere(CONNECT, 'care("keep-alive")'),
    "flask --app connect_app omnifund reseal": Elsewhere(CONNECT, 'care("reseal"'),
    "python nightly.py --days 1": Elsewhere(CONNECT, 'nightly("--days"'),
    "pip install …": Elsewhere("tests/examples/test_examples.py", "what_a_page_tells_to_install"),
    'python3 -c "import secrets; print(secrets.token_urlsafe(48))"': a_secret_key,
    "cp .env.example .env": Elsewhere("tests/test_documents.py", "the_example_of_a_configuration"),
    "VALKEY_PASSWORD=... docker compose up --build": Elsewhere(
        "tests/web/test_deployment.py", "the_dockerfiles_own_steps"
    ),
}
PROGRAMS = (
    r"make [a-z]|MINUTES=|APP_PORT=|\.venv/bin/|flask |uvicorn -|waitress-serve |python3 |pip "
)


def commands() -> Iterator[str]:
    """Every command that a reader is shown; decisions and the changelog only tell of some."""
    for document in DOCUMENTS:
        if document in ADRS or document.name == "CHANGELOG.md":
            continue
        for block in fences(document, "sh"):
            for line in block.splitlines():
                yield line.partition(" #")[0].strip()
        yield from (code for code in inline_code(document) if re.match(PROGRAMS, code))


# Which packages is in another test.
SHOWN = sorted({re.sub(r"^(pip install) .*", r"\1 …", command) for command in commands()})


def test_no_proof_is_left_over() -> None:
    assert set(PROOFS) - set(SHOWN) == set(), "no document shows the command: remove its proof"


@pytest.mark.parametrize("command", SHOWN)
def test_every_command_is_run_by_a_test_or_is_real(command: str) -> None:
    assert command in PROOFS, "a document shows the command: say in PROOFS which test runs it"
    proof = PROOFS[command]
    if isinstance(proof, Elsewhere):
        assert proof.words in (REPOSITORY / proof.path).read_text()
    elif callable(proof):
        proof()
    if "make " in command:
        target = re.search(r"make ([a-z-]+)", command)
        assert target is not None
        assert f"\n{target[1]}:" in (REPOSITORY / "Makefile").read_text()


def test_every_make_target_is_listed_by_make_help() -> None:
    listed = set(re.findall(r"^  make (\S+)", run("make", "--no-print-directory", "help"), re.M))
    makefile = (REPOSITORY / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert listed == set(phony.split()), "list the target in .PHONY, and describe it after ##"


def test_the_example_of_a_configuration_needs_nothing_but_what_it_leaves_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``cp .env.example .env``, then fill in what is empty."""
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    copied = tmp_path / ".env"
    text = (REPOSITORY / ".env.example").read_text()
    empty = re.findall(r"^([A-Z_]+)=$", text, re.MULTILINE)
    assert empty == ["OMNIFUND_CLIENT_ID", "OMNIFUND_CLIENT_SECRET", "SECRET_KEY"]
    for name in empty:
        text = text.replace(f"\n{name}=\n", f"\n{name}={secrets.token_urlsafe(48)}\n")
    copied.write_text(text)
    assert Settings.from_environment(copied).omnifund_environment == "sandbox"
