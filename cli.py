"""``flask omnifund doctor`` and ``flask omnifund token``.

Neither needs a browser or a merchant at hand; neither takes a secret as an argument, where the
whole machine could read it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from flask import Flask
from flask.cli import AppGroup, NoAppException, ScriptInfo

import config
import doctor as checks
from config import ConfigurationError, Settings
from doctor import Status, in_words
from omnifund.errors import OmniFundError
from omnifund.token import Token
from web import current

MASKED: Final = "••••••••"
_SIGNS: Final[dict[Status, str]] = {"ok": "✓", "warning": "!", "failed": "✗", "skipped": "–"}


def init_app(app: Flask, settings: Settings) -> None:
    """Add the commands to ``app``."""
    app.cli.add_command(_commands(lambda: settings))


def env_file() -> Path | None:
    """Return the file of ``flask --env-file``: Flask drops the lines that it cannot parse."""
    context = click.get_current_context(silent=True)
    if context is None or not context.find_object(ScriptInfo):
        return None
    # Flask's own option keeps its value to itself.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-e", "--env-file", type=Path, default=config.flask_env_file())
    path: Path | None = parser.parse_known_args()[0].env_file
    return path


def explain_only(problem: ConfigurationError) -> Flask | None:
    """Return an app that can do nothing but explain why the real one cannot be made.

    ``None`` unless one of these commands is being run: a server must not start like this, not even
    as ``gunicorn -n omnifund``. For other commands of Flask's, raises ``NoAppException``, which
    they show.
    """
    context = click.get_current_context(silent=True)
    if context is None or not context.find_object(ScriptInfo):
        return None
    if "omnifund" not in sys.argv[1:]:
        raise NoAppException(str(problem))

    def no_settings() -> Settings:
        raise problem

    app = Flask(__name__)
    app.cli.add_command(_commands(no_settings))
    return app


def _commands(settings: Callable[[], Settings]) -> click.Group:
    group = AppGroup("omnifund", help="Check this integration, or use it from a terminal.")

    @group.command("doctor")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    def doctor(as_json: bool) -> None:
        """Check the configuration against Redis and OmniFund, without a merchant."""
        found = list(checks.examine(settings))
        healthy = not any(check.status == "failed" for check in found)
        if as_json:
            _print_json({"ok": healthy, "checks": [check._asdict() for check in found]})
        else:
            for check in found:
                _print(f"{_SIGNS[check.status]} {check.what}")
                if check.advice:
                    _print(f"    {check.advice}")
        sys.exit(0 if healthy else 1)

    @group.command("token")
    @click.option("--refresh", is_flag=True, help="Prompt for a refresh token instead.")
    @click.option("--show", is_flag=True, help="Print the tokens unmasked.")
    def token(refresh: bool, show: bool) -> None:
        """Get tokens with a merchant's password, or refresh them (manual: password, refresh).

        Prompts for each value; without a terminal, reads them from standard input, one per line.
        """
        try:
            fresh = _get_token(settings(), refresh=refresh)
        except ConfigurationError as problem:
            raise click.ClickException(str(problem)) from None
        except OmniFundError as problem:
            raise click.ClickException(in_words(problem)) from None
        _print_json(_token_as_json(fresh, show=show))

    return group


def _print_json(answer: dict[str, Any]) -> None:
    _print(json.dumps(answer, indent=2, ensure_ascii=False))


def _print(text: str) -> None:
    if sys.stdout is None:
        raise click.ClickException("Standard output cannot be written: it is closed.")
    try:
        click.echo(text)
    except OSError as error:
        sys.stdout = None  # or Python tries again when it exits
        problem = f"Standard output cannot be written: {error.strerror}."
        raise click.ClickException(problem) from None


# --- token ---------------------------------------------------------------------------------------


def _get_token(settings: Settings, *, refresh: bool) -> Token:
    oauth = current.from_settings(settings).oauth
    if refresh:
        old = Token("unknown", _ask("Refresh token"), obtained_at=0, expires_at=0)
        return oauth.refresh(old)
    if not settings.password_grant:
        raise click.ClickException("The password grant is off. Set PASSWORD_GRANT=on to enable it.")
    username = _ask("Username", hidden=False)
    return oauth.password(username, _ask("Password"))


def _ask(what: str, *, hidden: bool = True) -> str:
    try:
        if sys.stdin is None:
            line = ""
        elif sys.stdin.isatty():
            # On standard error, so that standard output holds the answer and nothing else.
            line = str(click.prompt(what, hide_input=hidden, err=True))
        else:
            line = sys.stdin.readline().rstrip("\r\n")
        line.encode()  # Python may have read other bytes as lone surrogates.
    except UnicodeError:
        raise click.ClickException(f"{what} is not UTF-8 text.") from None
    if not line:
        raise click.ClickException(f"{what} is missing on standard input.")
    return line


def _token_as_json(token: Token, *, show: bool) -> dict[str, Any]:
    def shown(secret: str | None) -> str | None:
        return secret if show or secret is None else MASKED

    return {
        "access_token": shown(token.access_token),
        "token_type": token.token_type,
        "expires_at": token.expires_at,
        "scope": token.scope,
        "refresh_token": shown(token.refresh_token),
    }
