"""Without the demo the app is complete; with half of it, only that half is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.merchant import Merchant
from tests.support.programs import clean_environment
from tests.support.stack import running_stack

LISTS_PAGES = """
import sys

if "without the folder" in sys.argv:
    class NoDemo:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name.partition(".")[0] == "demo":
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, NoDemo)

from app import create_app

app = create_app()
client = app.test_client()
demo = ("/inspector", "/lab", "/lab/naive", "/static/demo/inspector.css")
for path in ("/", "/login", "/callback", *demo):
    print(path, client.get(path, base_url="https://app.example.com").status_code)
page = client.get("/", base_url="https://app.example.com").text
print("mentions the demo:", "/inspector" in page or "/lab" in page)
print("imported:", sorted(name for name in sys.modules if name.partition(".")[0] == "demo"))
print("rules:", sorted(rule.rule for rule in app.url_map.iter_rules() if "/lab" in rule.rule))
print("Authlib's Flask client:", "authlib.integrations.flask_client" in sys.modules)
"""


def run(tmp_path: Path, redis_url: str, *arguments: str, **variables: str) -> dict[str, str]:
    """Return what the program prints, in a process and a folder of its own."""
    given = {
        "OMNIFUND_ENVIRONMENT": "sandbox",
        "OMNIFUND_CLIENT_ID": "1_x",
        "OMNIFUND_CLIENT_SECRET": "made-up-secret-made-up",
        "OMNIFUND_REDIRECT_URI": "https://app.example.com/callback",
        "SECRET_KEY": "k3y-of-a-test-" * 4,
        "LOG_LEVEL": "CRITICAL",
        "REDIS_URL": redis_url,
        **variables,
    }
    environment = clean_environment(**given)
    done = subprocess.run(
        [sys.executable, "-c", LISTS_PAGES, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return dict(re.split(r" (?=\S+$|\[)", line, maxsplit=1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("arguments", [(), ("without the folder",)])
def test_outside_local_nothing_of_the_demo_is_imported(
    tmp_path: Path, redis_url: str, arguments: tuple[str, ...]
) -> None:
    assert run(tmp_path, redis_url, *arguments) == {
        "/": "200",
        "/login": "302",
        "/callback": "400",
        "/inspector": "404",
        "/lab": "404",
        "/lab/naive": "404",
        "/static/demo/inspector.css": "404",
        "mentions the demo:": "False",
        "imported:": "[]",
        "rules:": "[]",
        "Authlib's Flask client:": "False",
    }


def test_the_inspector_alone_can_be_switched_on(tmp_path: Path, redis_url: str) -> None:
    found = run(tmp_path, redis_url, FLOW_INSPECTOR="on")
    # It shows the callback that has just failed.
    assert (found["/inspector"], found["/lab"]) == ("200", "404")
    assert found["/static/demo/inspector.css"] == "200"


def test_the_lab_works_without_the_inspector(redis_url: str) -> None:
    with running_stack(redis_url, flow_inspector=False) as stack:
        merchant = Merchant(stack)
        merchant.sign_in()
        assert merchant.get("/inspector").status_code == 404
        page = merchant.get(merchant.press("/lab", "/lab/api_403").headers["Location"])
        assert page.status_code == 403
        assert "This app</strong> says so" in page.text
        assert "View the recording" not in page.text
        assert "Inspector" not in page.text
