#!/usr/bin/env bash
# Makes the environment that the Makefile works in: pinned dependencies and this package, editable.
#
#   requirements/environment.sh VENV       (PYTHON=... names the interpreter to try first)
#
# An environment whose making was interrupted, or whose interpreter no longer runs, is made again.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: environment.sh VENV}
unfinished=$venv/.unfinished
exec </dev/null

right_version='import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'

if [ -e "$venv" ]; then
  if [ -e "$unfinished" ]; then
    echo "The environment $venv was never finished: making it again."
    rm -rf "$venv"
  elif ! "$venv/bin/python" -c "$right_version" 2>/dev/null; then
    echo "The environment $venv has no Python 3.11 or 3.12 that runs: making it again."
    rm -rf "$venv"
  fi
fi

uv=
# A shim may stand on the PATH and yet not run, so each candidate is run.
if uv --version >/dev/null 2>&1; then uv=uv; fi

if [ ! -e "$venv" ]; then
  python=
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3 python; do
    if "$candidate" -c "$right_version" 2>/dev/null; then
      python=$("$candidate" -c 'import sys; print(sys.executable)')
      break
    fi
  done
  if [ -z "$python" ]; then
    echo "Python 3.11 or 3.12 is required and none was found; name one: make PYTHON=/path/to/python3.11" >&2
    exit 1
  fi
  echo "Making $venv with $python ($("$python" -V 2>&1))"
  mkdir -p "$venv"
  touch "$unfinished"
  if [ -n "$uv" ]; then
    "$uv" venv -q --allow-existing --python "$python" "$venv"
  elif ! "$python" -m venv "$venv"; then
    echo "'$python -m venv' failed; install the venv module of this Python, or uv, and try again." >&2
    exit 1
  fi
fi
touch "$unfinished"

if [ -z "$uv" ]; then
  if [ -x "$venv/bin/uv" ] || "$venv/bin/python" -m pip install -q --disable-pip-version-check uv; then
    uv=$venv/bin/uv
  fi
fi
if [ -n "$uv" ]; then
  install=("$uv" pip install --python "$venv/bin/python")
else
  install=("$venv/bin/python" -m pip install --disable-pip-version-check)
fi

# The lock is complete; --no-deps keeps the resolver from adding the CUDA build of TensorFlow to it.
echo "Installing the pinned dependencies"
"${install[@]}" -q --no-deps -r requirements/dev.txt
"${install[@]}" -q --no-deps --no-build-isolation -e .
"$venv/bin/python" -c 'import keras, pandas, tensorflow, tfmeta' 2>/dev/null || {
  echo "The environment $venv does not import TensorFlow and tfmeta; run 'make distclean' and try again." >&2
  exit 1
}
rm -f "$unfinished"
