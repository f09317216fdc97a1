#!/usr/bin/env bash
# Makes the environment of the TFX pipeline and its tests: TFX 1.21 and this package, editable.
#
#   requirements/tfx_environment.sh VENV       (PYTHON=... names the interpreter to try first)
#
# It needs Python 3.11. An environment whose making was interrupted is made again. Everything is installed without
# resolving: see tfx.in.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: tfx_environment.sh VENV}
versions="3.11"
candidates=(${PYTHON:+"$PYTHON"} .venv/bin/python python3.11 python3 python)
. requirements/python_environment.sh

echo "Installing TFX and the pinned dependencies"
"${install[@]}" -q --no-deps -r requirements/tfx.txt -r requirements/tfx_no_deps.txt
"${install[@]}" -q --no-deps --no-build-isolation -e .
rm -f "$unfinished"
