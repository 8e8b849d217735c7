#!/bin/sh
# Run the conformance tests under every Python from 3.11 on that is on this machine, and write the table.
#
#   tests/conformance/every_python.sh [options of run.py]
#
# Each gets a virtual environment under .cache/conformance/ with this checkout installed. An interpreter is looked for
# on PATH (python3.11 …) and among pyenv's versions. Exit status 1 when one of the runs failed.
set -eu
cd "$(dirname "$0")/../.."
status=0
found=0
for minor in 11 12 13 14; do
    python=$(command -v "python3.$minor" || true)
    case "$python" in
    "" | */shims/*)
        python=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python 2>/dev/null | sort -V | tail -n 1)
        ;;
    esac
    if [ -z "$python" ]; then
        echo "Python 3.$minor: not on this machine, left out" >&2
        continue
    fi
    found=1
    venv=.cache/conformance/3.$minor
    echo "Python 3.$minor: $python" >&2
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps .
    "$venv/bin/python" tests/conformance/run.py --write "$@" || status=1
done
[ "$found" = 1 ] || { echo "no Python from 3.11 on was found" >&2; exit 2; }
exit $status
