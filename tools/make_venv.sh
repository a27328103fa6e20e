#!/bin/sh
# make_venv.sh DIRECTORY REQUIREMENTS: create a virtual environment and install the requirements.
# Finds Python 3.11 or newer; the variable PYTHON names another interpreter.
set -eu
venv=$1
requirements=$2

usable() {
    # Run it: version managers leave commands behind that do not work.
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    usable "$PYTHON" || { echo "PYTHON=$PYTHON is not Python 3.11 or newer." >&2; exit 1; }
    python=$PYTHON
else
    python=
    for name in python3 python3.15 python3.14 python3.13 python3.12 python3.11 python; do
        if usable "$name"; then python=$name; break; fi
    done
    if [ -z "$python" ]; then
        echo "Python 3.11 or newer is required. Install it, or set its path: PYTHON=/path/to/python3 make demo" >&2
        exit 1
    fi
fi

has_venv() {
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1
}

if ! has_venv && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing python3-venv ..."
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq python3-venv; } >/dev/null || true
fi
if ! has_venv; then
    echo "Python's venv module is missing. On Debian or Ubuntu, run: sudo apt-get install python3-venv" >&2
    exit 1
fi

if ! usable "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "Creating a virtual environment in $venv ..."
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
echo "Installing $requirements (about half a minute the first time) ..."
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
