"""nginx and Caddy, as an operator runs them, in front of an app of the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import trustme

from tests.support.processes import answers, die_with_parent, wait_until
from tests.support.programs import clean_environment, program
from tests.support.servers import REPOSITORY

_NGINX = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {site}
}}
"""


def find_nginx() -> str | None:
    """Return nginx, which Debian installs where only root looks."""
    return shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def nginx_site(upstream: int, port: int, certificate: Path, *, path: str = "", strips: bool) -> str:
    """Return ``deploy/nginx.conf`` with the places of a test; with ``path``, below it."""
    text = (REPOSITORY / "deploy" / "nginx.conf").read_text()
    changes = {
        "127.0.0.1:8000": f"127.0.0.1:{upstream}",
        "listen 443": f"listen 127.0.0.1:{port}",
        "/var/log/nginx/access.log": "access.log",
        "/etc/ssl/shop.example.pem": str(certificate),
        "/etc/ssl/shop.example.key": str(certificate),
        "location / {": f"location {path}/ {{",
        "proxy_pass http://omnifund_app;": f"proxy_pass http://omnifund_app{'/' * strips};",
    }
    for old, new in changes.items():
        assert text.count(f" {old}") == 1, old
        text = text.replace(f" {old}", f" {new}")
    return text


def without_tls(site: str) -> str:
    """Return ``site`` as a proxy behind another one that terminates TLS has it."""
    lines = site.replace(" ssl http2", "").splitlines()
    kept = [line for line in lines if "ssl_certificate" not in line]
    return "\n".join(kept).replace("$scheme", "$http_x_forwarded_proto")


def caddyfile(upstream: int, port: int, certificate: Path, *, path: str, strips: bool) -> str:
    """Return ``deploy/Caddyfile`` with the places of a test, below ``path``."""
    text = (REPOSITORY / "deploy" / "Caddyfile").read_text()
    start, end = text.index("\t\tdynamic a {"), text.index("\t\t# A replica that does not")
    changes = {
        text[start:end]: f"\t\tto 127.0.0.1:{upstream}\n",
        "{\n\tservers": "{\n\tadmin off\n\tauto_https off\n\tservers",
        "{$SITE:localhost} {": f"https://localhost:{port} {{\n\ttls {certificate} {certificate}",
        "\treverse_proxy {": f"\thandle{'_path' * strips} {path}/* {{\n\treverse_proxy {{",
    }
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return f"{text.rstrip()[:-1]}\t}}\n}}\n"


@contextlib.contextmanager
def nginx(site: str, port: int) -> Iterator[Path]:
    """Run nginx with a site until the block ends; yield the folder of its logs."""
    found = find_nginx()
    assert found is not None, "no nginx; `make test` installs one"
    with tempfile.TemporaryDirectory(prefix="nginx-") as folder:
        Path(folder, "nginx.conf").write_text(_NGINX.format(site=site))
        command = [found, "-p", folder, "-c", f"{folder}/nginx.conf", "-e", "stderr"]
        with _running(command, port, folder):
            yield Path(folder)


@contextlib.contextmanager
def caddy(configuration: str, port: int) -> Iterator[Path]:
    """Run Caddy with a Caddyfile until the block ends; yield its folder."""
    with tempfile.TemporaryDirectory(prefix="caddy-") as folder:
        Path(folder, "Caddyfile").write_text(configuration)
        command = [program("caddy"), "run", "--adapter", "caddyfile", "--config"]
        with _running([*command, f"{folder}/Caddyfile"], port, folder):
            yield Path(folder)


@contextlib.contextmanager
def _running(command: list[str], port: int, folder: str) -> Iterator[None]:
    log = Path(folder, "log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=clean_environment(HOME=folder),
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
        )

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            return answers(port)

        try:
            wait_until(listens, seconds=30, what=command[0])
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)


def certificate_for_localhost(folder: Path) -> tuple[Path, Path]:
    """Return a file with a certificate and its key, and one with the authority to trust."""
    authority, both, trusted = trustme.CA(), folder / "localhost.pem", folder / "authority.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(both)
    authority.cert_pem.write_to_path(trusted)
    return both, trusted
