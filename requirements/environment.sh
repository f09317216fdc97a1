#!/usr/bin/env bash
# Makes the environment that the Makefile works in: pinned dependencies and this package, editable.
#
#   requirements/environment.sh VENV       (PYTHON=... names the interpreter to try first)
#
# An environment whose making was interrupted, or whose interpreter no longer runs, is made again.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: environment.sh VENV}
versions="3.11 3.12"
candidates=(${PYTHON:+"$PYTHON"} python3.11 python3.12 python3 python)
. requirements/python_environment.sh

# The lock is complete; --no-deps keeps the resolver from adding the CUDA build of TensorFlow to it.
echo "Installing the pinned dependencies"
"${install[@]}" -q --no-deps -r requirements/dev.txt
"${install[@]}" -q --no-deps --no-build-isolation -e .
"$venv/bin/python" -c 'import keras, pandas, tensorflow, tfmeta' 2>/dev/null || {
  echo "The environment $venv does not import TensorFlow and tfmeta; run 'make distclean' and try again." >&2
  exit 1
}
rm -f "$unfinished"
