"""The files for deployment, as far as they can be tried without a container engine."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from compose_spec import PyCompose

import config
from tests.support.processes import die_with_parent, free_port, wait_until
from tests.support.servers import REPOSITORY

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [(name, rest) for name, rest in pairs]


def test_the_dockerfiles_own_steps_make_an_app_that_starts(tmp_path: Path, redis_url: str) -> None:
    """Every COPY and every installing RUN in order, in a clean tree; then the CMD."""
    root, folder = tmp_path / "root", tmp_path / "root"
    root.mkdir()
    command: list[str] = []
    for name, rest in instructions(DOCKERFILE):
        if name == "WORKDIR":
            folder = root / rest.lstrip("/")
            folder.mkdir(parents=True)
        elif name == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            copy(sources, (folder / target) if target[0] != "/" else root / target.lstrip("/"))
        elif name == "RUN" and not rest.startswith("useradd"):
            steps = rest.replace("/venv", f"{root}/venv").replace("/build/", f"{root}/build/")
            steps = re.sub(r"^python ", f"{sys.executable} ", steps)
            subprocess.run(steps, shell=True, check=True, timeout=300)  # noqa: S602 - the repository's own file
        elif name == "CMD":
            command = json.loads(rest)
    port = free_port()
    command[0] = str(root / "venv" / "bin" / command[0])
    command[command.index("0.0.0.0:8000")] = f"127.0.0.1:{port}"
    environment = {
        "PATH": os.environ["PATH"],
        "REDIS_URL": redis_url,
        "SECRET_KEY": "only-for-this-test-0123456789abcdef",
        "TMPDIR": str(tmp_path),
    }
    process = subprocess.Popen(
        command, cwd=folder, env=environment, preexec_fn=die_with_parent, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: answers(port), seconds=30, what="the app")
        assert requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
        assert "Sign in with OmniFund" in requests.get(f"http://127.0.0.1:{port}/", timeout=5).text
    finally:
        process.terminate()
        assert process.wait(timeout=40) == 0


def copy(sources: list[str], target: Path) -> None:
    for source in sources:
        path = REPOSITORY / source
        assert_is_sent_to_the_builder(source)
        if path.is_dir():
            shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            destination = target / path.name if len(sources) > 1 or target.is_dir() else target
            if str(target).endswith(("build", "/")):
                destination = target / path.name
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, destination)


def assert_is_sent_to_the_builder(source: str) -> None:
    """What .dockerignore keeps back cannot be copied."""
    sent = [
        line[1:]
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    assert any(fnmatch.fnmatch(source, pattern) for pattern in sent), source


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=2).ok
    except requests.ConnectionError:
        return False


def test_the_image_runs_as_nobody_in_particular_and_holds_no_secret() -> None:
    steps = instructions(DOCKERFILE)
    last_stage = steps[max(i for i, (name, _) in enumerate(steps) if name == "FROM") :]
    assert ("USER", "10001") in last_stage
    assert not any(name == "ARG" for name, _ in steps)
    assert not re.search(r"SECRET|PASSWORD|TOKEN", DOCKERFILE)
    assert not any("pip install" in rest for name, rest in last_stage if name == "RUN")
    assert all(":" in rest and "latest" not in rest for name, rest in steps if name == "FROM")


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
    return loaded


def test_the_compose_file_is_one() -> None:
    """By a parser of the Compose specification that knows every key."""
    PyCompose.from_json(json.dumps(compose()))
    wrong = compose()
    wrong["services"]["app"]["cap_dropp"] = ["ALL"]
    with pytest.raises(ValueError, match="cap_dropp"):
        PyCompose.from_json(json.dumps(wrong))


def test_the_compose_file_holds_together() -> None:
    services, volumes = compose()["services"], compose()["volumes"]
    assert set(services) == {"proxy", "app", "valkey", "local-omnifund"}
    for service in services.values():
        assert ("image" in service) != ("build" in service)
        if "image" in service:
            assert re.search(r":[0-9]", service["image"]), "a pinned version"
        for other in service.get("depends_on", {}):
            assert "healthcheck" in services[other] or "build" in services[other]
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in volumes or (REPOSITORY / source).exists()
        build = service.get("build")
        if isinstance(build, dict):
            assert (REPOSITORY / build["dockerfile"]).exists()


def test_the_compose_file_is_careful() -> None:
    services = compose()["services"]
    app = services["app"]
    assert app["read_only"] is True
    assert app["cap_drop"] == ["ALL"]
    assert "ports" not in app, "only the proxy is reached from outside"
    assert "container_name" not in app, "so that it can be scaled"
    assert "noeviction" in services["valkey"]["command"]
    assert "--requirepass" in services["valkey"]["command"]
    assert services["local-omnifund"]["profiles"] == ["local"]
    # Longer than gunicorn takes: the announcement and the requests that are under way.
    assert int(app["stop_grace_period"].rstrip("s")) > 30
    for name in app["environment"]:
        assert name.lower() in config.Settings.model_fields


def test_nothing_in_the_deployment_files_is_a_secret() -> None:
    for path in (REPOSITORY / "compose.yaml", *(REPOSITORY / "deploy").iterdir()):
        for line in path.read_text().splitlines():
            if "PASSWORD" in line and not line.lstrip().startswith("#"):
                assert "${VALKEY_PASSWORD" in line, shlex.quote(line)
