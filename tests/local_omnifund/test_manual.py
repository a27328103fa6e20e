"""The HTTPie commands of OmniFund's manual, run by a shell as they are printed.

Only the host, the credentials and the codes are replaced.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local_omnifund.conftest import Site

PASSWORD_COMMAND = r"""
http POST https://secure.gotobilling.com/oauth/v2/token \
    grant_type=password \
    client_id=1_3bcbxd9e24g0gk4swg0kwgcwg4o8k8g4g888kwc44gcc0gwwk4 \
    client_secret=4ok2x70rlfokc8g0wws8c8kwcokw80k44sg48goc0ok4w0so0k \
    username=omnifund_user \
    password=omnifund_password
"""
CODE_COMMAND = r"""
http POST https://secure.gotobilling.com/oauth/v2/token \
    grant_type=authorization_code \
    client_id=3_63mzt9x8bgkksssosgk8wccskwk0g0o88s88swgwgcww4swkck \
    client_secret=4ok2x70rlfokc8g0wws8c8kwcokw80k44sw0so0k \
    code=YzFiMGQ3NzZkYmNlMzAyZGI3Y2IwZDkzMDhlOWFiYjAyYzNlOGRk3YzBkODliMmRhYmVlZjkxMmE2ZDdjMQ \
    redirect_uri=https://my.domain.com/redirect_url
"""
MANUALS_REFRESH_TOKEN = (
    "ZjYyOWY5Yzg3MTg0MDU4NWJhYzIwZWI4MDQzZTg4NWJjYzEyNzAwODUwYmQ4NjlhMDE3OGY4ZDk4N2U5OGU2Ng"
)

REFRESH_COMMAND = r"""
http POST https://secure.gotobilling.com/oauth/v2/token \
    grant_type=refresh_token\
    client_id=1_3bcbxd9e24g0gk4swg0kwgcwg4o8k8g4g888kwc44gcc0gwwk4 \
    client_secret=4ok2x70rlfokc8g0wws8c8kwcokw80k44sg48goc0ok4w0so0k \
    refresh_token=ZjYyOWY5Yzg3MTg0MDU4NWJhYzIwZWI4MDQzZTg4NWJjYzEyNzAwODUwYmQ4NjlhMDE3OGY4ZDk4N2U5OGU2Ng
"""
FIELDS = ["access_token", "expires_in", "refresh_token", "scope", "token_type"]


@pytest.fixture
def httpie(tmp_path: Path) -> dict[str, str]:
    """An environment in which `http` is this virtual environment's and prints what the manual does.

    Without a terminal HTTPie would read the body from standard input and print the body only.
    """
    program = Path(sys.executable).with_name("http")
    assert program.exists(), "HTTPie is missing from this virtual environment."
    options = {"default_options": ["--ignore-stdin", "--print=hb", "--pretty=format"]}
    (tmp_path / "config.json").write_text(json.dumps(options))
    return {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "HTTPIE_CONFIG_DIR": str(tmp_path),
    }


def run(
    command: str, replacements: dict[str, str], environment: dict[str, str]
) -> tuple[list[str], dict[str, object]]:
    """Run the command; returns the lines of the answer's head and its JSON."""
    for printed, ours in replacements.items():
        assert printed in command
        command = command.replace(printed, shlex.quote(ours))
    answer = subprocess.run(
        ["/bin/sh", "-c", command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    head, _, body = answer.stdout.replace("\r\n", "\n").partition("\n\n")
    return head.split("\n"), json.loads(body)


def assert_is_the_manuals_answer(head: list[str], body: dict[str, object]) -> None:
    assert head[0] == "HTTP/1.1 200 OK"
    assert "Cache-Control: no-store, private" in head
    assert "Content-Type: application/json" in head
    assert list(body) == FIELDS
    assert (body["expires_in"], body["scope"], body["token_type"]) == (3600, None, "bearer")


def test_the_commands_of_the_manual_work_as_printed(site: Site, httpie: dict[str, str]) -> None:
    host = {"https://secure.gotobilling.com": site.url}

    by_password = run(
        PASSWORD_COMMAND,
        host
        | {
            "1_3bcbxd9e24g0gk4swg0kwgcwg4o8k8g4g888kwc44gcc0gwwk4": site.client_id,
            "4ok2x70rlfokc8g0wws8c8kwcokw80k44sg48goc0ok4w0so0k": site.client_secret,
            "omnifund_user": "merchant",
            "omnifund_password": "local-omnifund-demo",
        },
        httpie,
    )
    assert_is_the_manuals_answer(*by_password)

    by_code = run(
        CODE_COMMAND,
        host
        | {
            "3_63mzt9x8bgkksssosgk8wccskwk0g0o88s88swgwgcww4swkck": site.client_id,
            "4ok2x70rlfokc8g0wws8c8kwcokw80k44sw0so0k": site.client_secret,
            "YzFiMGQ3NzZkYmNlMzAyZGI3Y2IwZDkzMDhlOWFiYjAyYzNlOGRk3YzBkODliMmRhYmVlZjkxMmE2ZDdjMQ": (
                site.code()
            ),
            "https://my.domain.com/redirect_url": site.redirect_uri,
        },
        httpie,
    )
    assert_is_the_manuals_answer(*by_code)

    by_refresh_token = run(
        REFRESH_COMMAND,
        host
        | {
            "1_3bcbxd9e24g0gk4swg0kwgcwg4o8k8g4g888kwc44gcc0gwwk4": site.client_id,
            "4ok2x70rlfokc8g0wws8c8kwcokw80k44sg48goc0ok4w0so0k": site.client_secret,
            MANUALS_REFRESH_TOKEN: str(by_code[1]["refresh_token"]),
        },
        httpie,
    )
    assert_is_the_manuals_answer(*by_refresh_token)
