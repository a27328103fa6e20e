"""``flask omnifund doctor`` and ``flask omnifund token``, as an operator types them."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import doctor
from app import create_app as create_reference_app
from local_omnifund import create_app
from local_omnifund.settings import DEMO_CLIENT_SECRET
from local_omnifund.settings import Settings as LocalSettings
from tests.faults.certificates import Certificates
from tests.faults.provider import (
    HonestProvider,
    every_misbehavior,
    json_answer,
    odd_token_responses,
)
from tests.support.browsing import PASSWORD, USERNAME
from tests.support.processes import free_port
from tests.support.servers import REPOSITORY, serve
from tests.support.stack import app_settings
from tests.support.valkey import ValkeyServer


@dataclass
class Terminal:
    """Runs the commands with these variables and no others."""

    variables: dict[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()  # options of Flask's own
    folder: Path = REPOSITORY

    def type(
        self, *arguments: str, stdin: str = "", redirect: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``flask --app app omnifund …``. ``redirect``: as a shell writes it."""
        app = str(REPOSITORY / "app.py")
        flask = [sys.executable, "-m", "flask", "--app", app, *self.before, "omnifund"]
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.run(
            ["sh", "-c", f'exec "$@" {redirect}', "sh", *flask, *arguments],
            cwd=self.folder,
            env={**kept, "PYTHONUTF8": "1", **self.variables, **variables},
            input=stdin,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=60,
            check=False,
        )

    def checks(self, **variables: str) -> dict[str, dict[str, Any]]:
        """Run the doctor; return its checks by id."""
        done = self.type("doctor", "--json", **variables)
        answer = json.loads(done.stdout)
        failed = [check for check in answer["checks"] if check["status"] == "failed"]
        assert answer["ok"] is (done.returncode == 0) is (not failed)
        return {check["id"]: check for check in answer["checks"]}


@pytest.fixture
def terminal(redis_url: str) -> Iterator[Terminal]:
    with serve(create_app(LocalSettings(redis_url))) as omnifund:
        yield Terminal(
            {
                "REDIS_URL": redis_url,
                "OMNIFUND_BASE_URL": omnifund.url,
                "SECRET_KEY": secrets.token_urlsafe(48),
            }
        )


# --- doctor --------------------------------------------------------------------------------------


def test_all_is_well(terminal: Terminal) -> None:
    done = terminal.type("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    signs = [line[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert set(signs) == {"✓", "–"}
    assert terminal.checks()["credentials"]["status"] == "ok"


def test_the_variables_of_a_service_are_checked_where_they_are(
    terminal: Terminal, tmp_path: Path
) -> None:
    """As a systemd unit has them, in a file of its own."""
    file = tmp_path / "omnifund-app.env"
    file.write_text("".join(f"{name}='{value}'\n" for name, value in terminal.variables.items()))
    service = Terminal()
    assert service.type("doctor").returncode == 1
    service.before = ("--env-file", str(file))
    done = service.type("doctor")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_line_of_the_services_file_that_cannot_be_parsed_is_a_problem(
    terminal: Terminal, tmp_path: Path
) -> None:
    """K37: Flask goes on without it."""
    file = tmp_path / "omnifund-app.env"
    file.write_text(
        "PKCE=on\n; a comment\nthis is bad\nOMNIFUND_READ_TIMEOUT 3\nAPP_PORT=${PORT}\n"
    )
    terminal.before = ("--env-file", str(file))
    done = terminal.type("doctor")
    assert done.returncode == 1
    for problem in (
        f"{file.name}, line 3 is not NAME=value.",
        f"{file.name}, line 4 is not NAME=value.",
        f"APP_PORT uses ${{…}} in {file.name}, which is not expanded.",
    ):
        assert f"✗ {problem}" in done.stdout
    done = terminal.type("token", stdin=f"{USERNAME}\n{PASSWORD}\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert "line 3: is not NAME=value" in done.stderr
    assert "line 2: is not" not in done.stderr
    terminal.before = ()
    assert terminal.checks(FLASK_ENV_FILE=str(file))["variables"]["status"] == "failed"


@pytest.mark.parametrize("name", [".env", ".flaskenv"])
def test_variables_that_the_server_does_not_read_are_pointed_out(
    terminal: Terminal, tmp_path: Path, name: str
) -> None:
    """Otherwise all is well here, and the server in the same folder does not start."""
    terminal.folder = tmp_path / "folder"
    terminal.folder.mkdir()
    file = (tmp_path if name == ".env" else terminal.folder) / name
    file.write_text("FLASK_APP=app\nREDIS_URL=" + terminal.variables.pop("REDIS_URL"))
    check = terminal.checks()["other_files"]
    assert check["status"] == "warning"
    assert check["what"] == f"This command has read REDIS_URL from {file}; the server does not."
    assert terminal.checks(PKCE="perhaps")["other_files"] == check
    skipped = terminal.checks(FLASK_SKIP_DOTENV="1")
    assert skipped["variables"]["status"] == "failed"
    assert "other_files" not in skipped


def test_the_env_file_of_the_folder_is_the_servers_too(terminal: Terminal, tmp_path: Path) -> None:
    terminal.folder = tmp_path
    redis_url = terminal.variables.pop("REDIS_URL")
    (tmp_path / ".env").write_text(f"REDIS_URL={redis_url}\n")
    # Of the same name in both, Flask takes that of .env.
    (tmp_path / ".flaskenv").write_text(f"FLASK_APP=app\nREDIS_URL={redis_url}\nPKCE=off\n")
    assert terminal.checks(PKCE="on")["variables"]["status"] == "ok"
    terminal.variables["PKCE"] = "on"
    assert "other_files" not in terminal.checks()


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("redis://[::1]/0", "ok"),
        ("redis://[::1]:6379", "ok"),
        ("redis://LOCALHOST?db=1", "ok"),
        ("redis://u:p@ss@127.0.0.1:6379/0", "ok"),
        ("redis+cluster://[::1],localhost:6380", "ok"),
        ("redis+sentinel://[::1]:26379,redis.example/service", "warning"),
        ("redis://[2001:db8::1]/0", "warning"),
        ("redis://redis.example?db=1", "warning"),
        ("rediss://redis.example", "ok"),
        ("unix:///run/redis.sock", "ok"),
    ],
)
def test_redis_without_tls_is_pointed_out_where_others_could_read(url: str, status: str) -> None:
    settings = app_settings(url)
    assert doctor._redis_tls(settings).status == status


def test_bad_variables_are_listed_and_nothing_is_tried(terminal: Terminal) -> None:
    """H1"""
    broken = {"REDIS_URL": "", "SECRET_KEY": "short-but-secret", "PKCE": "perhaps"}
    broken |= {"KEEP_ALIVE": "long", "OMNIFUND_ENVIROMENT": "sandbox"}
    done = terminal.type("doctor", **broken)
    assert done.returncode == 1
    for name in broken:
        assert f"✗ {name} " in done.stdout
    assert "did you mean OMNIFUND_ENVIRONMENT?\n" in done.stdout
    assert "Traceback" not in done.stderr
    assert "short-but-secret" not in done.stdout + done.stderr
    assert terminal.checks(**broken)["rest"]["status"] == "skipped"


def test_a_server_does_not_start_like_that(terminal: Terminal) -> None:
    """H1"""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "routes"],
        cwd=REPOSITORY,
        env={**kept, **terminal.variables, "REDIS_URL": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "REDIS_URL" in done.stderr


def test_a_wrong_secret_is_told_from_a_right_one(terminal: Terminal) -> None:
    check = terminal.checks(OMNIFUND_CLIENT_SECRET="not-the-secret-not-at-all")["credentials"]
    assert check["status"] == "failed"
    assert "invalid_client" in check["what"]
    assert "portal" in check["advice"]


def test_no_omnifund_at_all(terminal: Terminal) -> None:
    checks = terminal.checks(OMNIFUND_BASE_URL=f"http://localhost:{free_port()}")
    assert checks["credentials"]["status"] == "failed"
    assert checks["clock"]["status"] == "skipped"


def test_a_redis_that_is_away(terminal: Terminal) -> None:
    """F8"""
    checks = terminal.checks(REDIS_URL=f"redis://localhost:{free_port()}")
    assert checks["redis"]["status"] == "failed"
    assert "redis_eviction" not in checks
    assert checks["credentials"]["status"] == "ok"


def test_a_redis_that_drops_sessions(terminal: Terminal, valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            check = terminal.checks()["redis_eviction"]
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")
            full = terminal.checks()["redis"]
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "0")
    assert check["status"] == full["status"] == "failed"
    assert "noeviction" in check["advice"]
    assert "is full" in full["what"]
    assert "maxmemory" in full["advice"]


def test_the_certificate_of_omnifund(terminal: Terminal, tmp_path: Path) -> None:
    """C2"""
    certificates = Certificates.make(tmp_path)
    bundle = {"OMNIFUND_CA_BUNDLE": str(certificates.bundle)}
    with HonestProvider(tls=certificates.good) as provider:
        check = terminal.checks(OMNIFUND_BASE_URL=provider.url, **bundle)["tls"]
        assert check["status"] == "ok"
        assert "TLSv1.3" in check["what"]
    for bad in (certificates.expired, certificates.foreign, certificates.untrusted):
        with HonestProvider(tls=bad) as provider:
            check = terminal.checks(OMNIFUND_BASE_URL=provider.url, **bundle)["tls"]
            assert check["status"] == "failed"
    port = free_port()
    check = terminal.checks(OMNIFUND_BASE_URL=f"https://localhost:{port}", **bundle)["tls"]
    assert check["status"] == "failed"


@pytest.mark.parametrize(
    ("date", "status"),
    [("Tue, 24 Nov 2020 12:00:00 GMT", "failed"), ("nonsense", "skipped"), (None, "skipped")],
)
def test_the_clocks(terminal: Terminal, date: str | None, status: str) -> None:
    with HonestProvider() as provider:
        headers = {"Date": date} if date else {}
        provider.next_token_answer(json_answer({"error": "invalid_grant"}, 400, headers))
        assert terminal.checks(OMNIFUND_BASE_URL=provider.url)["clock"]["status"] == status


def test_production_on_localhost_is_pointed_out(terminal: Terminal) -> None:
    with HonestProvider() as provider:
        check = terminal.checks(
            OMNIFUND_ENVIRONMENT="production",
            OMNIFUND_BASE_URL=provider.url.replace("http:", "https:"),
            OMNIFUND_CLIENT_ID="1_x",
            OMNIFUND_CLIENT_SECRET="made-up",
            OMNIFUND_REDIRECT_URI="http://localhost:8000/callback",
        )["redirect_uri"]
    assert check["status"] == "warning"


@pytest.mark.parametrize(
    ("variable", "value"), [("RATE_LIMITS", "off"), ("METRICS", "public"), ("FLOW_INSPECTOR", "on")]
)
def test_what_production_should_not_offer_is_pointed_out(
    terminal: Terminal, variable: str, value: str
) -> None:
    production = {
        "OMNIFUND_ENVIRONMENT": "production",
        "OMNIFUND_BASE_URL": "https://localhost:1",
        "OMNIFUND_CLIENT_ID": "1_x",
        "OMNIFUND_CLIENT_SECRET": "made-up",
        "OMNIFUND_REDIRECT_URI": "https://app.example/callback",
    }
    check = terminal.checks(**production, **{variable: value})["exposure"]
    assert check["status"] == "warning"
    assert f"{variable}={value}" in check["what"]
    assert terminal.checks(**production)["exposure"]["status"] == "ok"
    assert terminal.checks(**{variable: value})["exposure"]["status"] == "ok"


# --- token ---------------------------------------------------------------------------------------


def test_a_token_for_a_password_is_masked_unless_asked_for(terminal: Terminal) -> None:
    """D2, G6"""
    masked = json.loads(terminal.type("token", stdin=f"{USERNAME}\n{PASSWORD}\n").stdout)
    assert masked["token_type"] == "Bearer"
    assert set(masked["access_token"]) == set(masked["refresh_token"]) == {"•"}
    done = terminal.type("token", "--show", stdin=f"{USERNAME}\n{PASSWORD}\n")
    shown = json.loads(done.stdout)
    assert len(shown["access_token"]) == 86
    assert PASSWORD not in done.stdout + done.stderr


def test_the_next_token_for_a_refresh_token(terminal: Terminal) -> None:
    first = json.loads(terminal.type("token", "--show", stdin=f"{USERNAME}\n{PASSWORD}\n").stdout)
    stdin = first["refresh_token"] + "\n"
    second = json.loads(terminal.type("token", "--refresh", "--show", stdin=stdin).stdout)
    assert second["refresh_token"] != first["refresh_token"]
    used = terminal.type("token", "--refresh", stdin=stdin)
    assert (used.returncode, used.stdout) == (1, "")
    assert "OmniFund rejected" in used.stderr
    assert first["refresh_token"] not in used.stderr


@pytest.mark.parametrize(
    ("stdin", "variables", "words"),
    [
        (f"{USERNAME}\nwrong-canary\n", {}, "rejected these credentials"),
        (f"{USERNAME}\n", {}, "Password is missing"),
        ("", {}, "Username is missing"),
        (f"{USERNAME}\nwrong-canary\udcff\n", {}, "Password is not UTF-8 text"),
        ("\udcff\nx\n", {"PYTHONIOENCODING": "utf-8:strict"}, "Username is not UTF-8 text"),
        (f"{USERNAME}\nx\n", {"PASSWORD_GRANT": "off"}, "PASSWORD_GRANT=on"),
        (f"{USERNAME}\nx\n", {"REDIS_URL": ""}, "REDIS_URL"),
        (f"{USERNAME}\nx\n", {"OMNIFUND_BASE_URL": "http://localhost:1"}, "is unavailable"),
    ],
)
def test_what_goes_wrong_is_one_plain_sentence(
    terminal: Terminal, stdin: str, variables: dict[str, str], words: str
) -> None:
    done = terminal.type("token", stdin=stdin, **variables)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "wrong-canary" not in done.stderr
    assert DEMO_CLIENT_SECRET not in done.stderr


@pytest.mark.parametrize("command", ["run", "routes", "shell", "--help"])
def test_other_commands_of_flasks_say_what_is_wrong_with_the_settings(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", command],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "PKCE": "perhaps", "FLASK_SKIP_DOTENV": "1"},
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == (0 if command == "--help" else 2)
    assert "PKCE: must be on or off" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("doctor",), ("doctor", "--json"), ("token", "--show")])
@pytest.mark.parametrize("redirect", [">/dev/full", ">&-"], ids=["full", "closed"])
def test_an_output_that_takes_nothing_is_one_plain_sentence(
    terminal: Terminal, command: tuple[str, ...], redirect: str
) -> None:
    """K58: whoever keeps the token must know that it is lost."""
    done = terminal.type(*command, stdin=f"{USERNAME}\n{PASSWORD}\n", redirect=redirect)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Standard output cannot be written")
    assert done.stderr.count("\n") == 1


def test_an_input_that_is_closed_is_one_plain_sentence(terminal: Terminal) -> None:
    """K58"""
    done = terminal.type("token", redirect="<&-")
    assert done.returncode == 1
    assert done.stderr == "Error: Username is missing on standard input.\n"


def test_a_password_cannot_be_an_argument(terminal: Terminal) -> None:
    """G6"""
    assert terminal.type("token", "--password", PASSWORD).returncode == 2
    assert "--password" not in terminal.type("token", "--help").stdout


def test_whatever_omnifund_sends_is_one_plain_sentence(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K58: with any of the responses that the fault kit knows, and an exit status of 0 or 1."""
    problems, failed = {}, 0
    with HonestProvider() as provider:
        settings = app_settings(
            redis_url,
            app_port=free_port(),
            omnifund_base_url=provider.url,
            secret_key=secrets.token_urlsafe(48),
        )
        for name, value in (("REDIS_URL", redis_url), ("SECRET_KEY", settings.secret_keys[0])):
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OMNIFUND_BASE_URL", provider.url)
        runner = create_reference_app(settings).test_cli_runner()
        for name, answer in (*every_misbehavior("http://localhost:1/"), *odd_token_responses()):
            # Three each: the client asks again after a connection that was closed in silence.
            provider.next_token_answer(*[answer] * 3)
            token = runner.invoke(args=["omnifund", "token"], input=f"{USERNAME}\n{PASSWORD}\n")
            doctor = runner.invoke(args=["omnifund", "doctor", "--json"])
            provider._next["token"].clear()
            sentences = token.stderr.splitlines()
            is_plain = token.exit_code == 0 or (
                token.exit_code == 1 and sentences[-1].startswith("Error: ") and not token.stdout
            )
            checks = {each["id"]: each for each in json.loads(doctor.stdout)["checks"]}
            failed += token.exit_code
            if not is_plain or doctor.exit_code not in (0, 1) or "credentials" not in checks:
                problems[name] = (token.exit_code, token.output, token.exception, doctor.output)
    assert problems == {}
    assert failed > 30


@pytest.mark.parametrize("url", ["redis://localhost:1", "redis://no-such-host.invalid:6379"])
def test_a_redis_that_cannot_be_reached_is_one_plain_sentence(terminal: Terminal, url: str) -> None:
    """K58: the doctor says it; a token needs no Redis."""
    done = terminal.type("doctor", REDIS_URL=url)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    done = terminal.type("token", stdin=f"{USERNAME}\n{PASSWORD}\n", REDIS_URL=url)
    assert done.returncode == 0, done.stderr
