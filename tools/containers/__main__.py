"""``make containers``: build the images, run ``compose.yaml`` as it is, and break things.

It needs root on Debian. The engine is Debian's podman; the base images are made of Debian's
packages and kept in ``.containers``, so no image registry is needed. Everything runs in a network
of its own, which only this machine reaches and which is gone afterwards.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tools.containers import debian

# A PID namespace of its own: whatever is still running in it ends with it.
NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")


def main() -> int:
    """Return the exit status: 0 when every check has passed."""
    if "--inside" in sys.argv:
        from tools.containers.trial import Trial

        debian.enter()
        return Trial().run()
    if missing := debian.what_is_missing():
        print(f"make containers needs {missing}. With Docker, try it by hand: docs/deploying.md.")
        return 1
    debian.install()
    debian.make_base_images()
    debian.build()
    inside = [sys.executable, "-m", "tools.containers", "--inside"]
    command = [*NAMESPACES, "--propagation", "private", *inside]
    return subprocess.run(command, env={**os.environ, **debian.environment()}).returncode


if __name__ == "__main__":
    sys.exit(main())
