"""The files for deployment, as far as they can be tried without a container engine."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import resource
import secrets
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
from config import Settings
from local_omnifund.settings import Settings as LocalSettings
from local_omnifund.store import connect
from redis_url import connect as connect_app
from tests.support.processes import die_with_parent, free_port, wait_until
from tests.support.programs import clean_environment, program
from tests.support.rig import fleet
from tests.support.servers import REPOSITORY
from tests.support.valkey import ValkeyServer
from web.current import from_settings, store

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
LOCAL = REPOSITORY / "deploy" / "local.env"


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
        elif name == "RUN" and "/venv" in rest:
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
    assert ("USER", "10001:10001") in last_stage
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
    files = [path for path in (REPOSITORY / "deploy").rglob("*") if path.is_file()]
    for path in (REPOSITORY / "compose.yaml", *files):
        for line in path.read_text().splitlines():
            if "PASSWORD" in line and not line.lstrip().startswith("#") and path != LOCAL:
                assert "${VALKEY_PASSWORD" in line, shlex.quote(line)


# --- the whole, as far as no engine is needed (`make containers` runs it) ------------------------


def local_variables() -> dict[str, str]:
    lines = [line for line in LOCAL.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_one_command_has_all_that_a_sign_in_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: the app's settings, and the name by which app and browser both reach Local OmniFund."""
    monkeypatch.setenv("REDIS_URL", "redis://valkey")
    for name in config.Settings.model_fields:
        if name != "redis_url":
            monkeypatch.delenv(name.upper(), raising=False)
    settings = config.Settings.from_environment(LOCAL)
    assert settings.omnifund_environment == "local"
    assert settings.omnifund_redirect_uri == "https://localhost/callback"
    services, variables = compose()["services"], local_variables()
    (alias,) = services["local-omnifund"]["networks"]["default"]["aliases"]
    assert settings.omnifund_base_url == f"http://{alias}:9000"
    assert alias.endswith(".localhost"), "browsers take it for this machine"
    assert variables["APP_ENV_FILE"] == str(LOCAL.relative_to(REPOSITORY))
    (env_file,) = services["app"]["env_file"]
    assert env_file["path"] == "${APP_ENV_FILE:-.env}"
    needed = set(re.findall(r"\$\{(\w+):\?", (REPOSITORY / "compose.yaml").read_text()))
    assert needed <= set(variables)
    command = "docker compose --env-file deploy/local.env --profile local up --build"
    assert command in (REPOSITORY / "docs" / "deploying.md").read_text()


def test_both_applications_are_run_with_the_same_care() -> None:
    """P4, P11: a health check in the compose file, a read-only root, no capabilities."""
    for name in ("app", "local-omnifund"):
        service = compose()["services"][name]
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["read_only"] is True
        assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - in the container
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert compose()["services"]["local-omnifund"]["ports"] == ["127.0.0.1:9000:9000"]


def test_the_health_check_is_one(redis_url: str) -> None:
    """P4: its command, at an app that serves and at one that does not; the image has the same."""
    command = compose()["services"]["app"]["healthcheck"]["test"][1:]
    (in_the_image,) = [rest for name, rest in instructions(DOCKERFILE) if name == "HEALTHCHECK"]
    assert json.loads(in_the_image.partition("CMD ")[2]) == command
    assert "--timeout=10s" in in_the_image, "K51: a probe may wait for a thread"
    with fleet(redis_url, workers=1) as running:
        there = [part.replace("8000", running.url.rpartition(":")[2]) for part in command]
        there[0] = sys.executable
        assert subprocess.run(there).returncode == 0
    assert subprocess.run(there, stderr=subprocess.DEVNULL).returncode != 0


def test_every_log_is_bounded() -> None:
    """P6"""
    for service in compose()["services"].values():
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}


def test_the_ids_are_fixed_and_nothing_is_left_that_installs() -> None:
    """P10: in both images."""
    for path in (REPOSITORY / "Dockerfile", REPOSITORY / "deploy" / "local-omnifund.Dockerfile"):
        text = path.read_text()
        last_stage = text[text.rindex("\nFROM ") :]
        assert "groupadd --gid 10001 app" in last_stage
        assert "useradd --uid 10001 --gid 10001" in last_stage
        assert "--system" not in last_stage, "useradd warns: system IDs are below 1000"
        assert "rm -rf /usr/local/bin/pip*" in last_stage
        assert "uninstall --yes pip" in text


def test_caddy_takes_the_caddyfile_and_spreads_over_all_replicas() -> None:
    """P1, P5: by Caddy itself, which prints what it has understood."""
    caddyfile = str(REPOSITORY / "deploy" / "Caddyfile")
    command = [program("caddy"), "adapt", "--validate", "--config", caddyfile]
    environment = clean_environment(HOME=os.environ["HOME"])
    answer = subprocess.run(command, env=environment, capture_output=True, check=True)
    text = answer.stdout.decode()
    assert '"source":"a"' in text
    assert '"name":"app"' in text
    assert '"policy":"least_conn"' in text
    assert '"passive":{"fail_duration":10000000000}' in text
    assert '"path":["/metrics"]' in text


def no_file_takes_a_byte() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def test_without_a_folder_for_temporary_files_the_start_says_so(redis_url: str) -> None:
    """P7: as in a container that is read-only and has no ``--tmpfs /tmp``."""
    configuration = str(REPOSITORY / "gunicorn.conf.py")
    answer = subprocess.run(
        [program("gunicorn"), "--config", configuration, "app:create_app()"],
        env=clean_environment(
            REDIS_URL=redis_url, SECRET_KEY="only-for-this-test-0123456789abcdef"
        ),
        cwd="/",
        preexec_fn=no_file_takes_a_byte,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith("No folder for temporary files can be written to")


@pytest.mark.parametrize("password", ["p/#?@:%&= 'x", "%23", "$HOME", "ünï", "-x", "a" * 200])
def test_any_password_of_valkey_works(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: with the variables that compose.yaml gives both applications."""
    services = compose()["services"]
    with ValkeyServer(options=("--requirepass", password)) as valkey:
        for name in ("app", "local-omnifund"):
            given = services[name]["environment"]
            monkeypatch.setenv(
                "REDIS_PASSWORD", re.sub(r"\$\{.*", password, given["REDIS_PASSWORD"])
            )
            monkeypatch.setenv(
                "REDIS_URL", given["REDIS_URL"].replace("valkey:6379", f"127.0.0.1:{valkey.port}")
            )
            monkeypatch.setenv("SECRET_KEY", secrets.token_urlsafe(48))
            if name == "app":
                settings = Settings.from_environment(None)
                store(from_settings(settings)).execute(("PING",))
            else:
                client = LocalSettings.from_environment()
                connect(client.redis_url, client.redis_password).ping()


def test_a_password_stands_in_one_place() -> None:
    """P8"""
    with pytest.raises(ValueError, match="beside REDIS_PASSWORD"):
        connect_app("redis://:one@localhost", "another")
