#!/usr/bin/env bash
# Makes the environment of the TFX pipeline and its tests: TFX 1.21 and this package, editable.
#
#   requirements/tfx_environment.sh VENV [PYTHON]
#
# It needs Python 3.11: PYTHON if that is one, otherwise python3.11. An environment whose making was interrupted is made
# again. Everything is installed without resolving: see tfx.in.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: tfx_environment.sh VENV [PYTHON]}
unfinished=$venv/.unfinished
exec </dev/null

right_version='import sys; raise SystemExit(sys.version_info[:2] != (3, 11))'

if [ -e "$unfinished" ] || { [ -e "$venv" ] && ! "$venv/bin/python" -c "$right_version" 2>/dev/null; }; then
  echo "The environment $venv is unfinished or does not run: making it again."
  rm -rf "$venv"
fi

uv=
# A shim may stand on the PATH and yet not run, so each candidate is run; another environment may have one.
for candidate in uv ${2:+"$(dirname "$2")/uv"}; do
  if "$candidate" --version >/dev/null 2>&1; then uv=$candidate; break; fi
done

if [ ! -e "$venv" ]; then
  python=
  for candidate in ${2:+"$2"} python3.11 python3 python; do
    if "$candidate" -c "$right_version" 2>/dev/null; then
      python=$("$candidate" -c 'import sys; print(sys.executable)')
      break
    fi
  done
  if [ -z "$python" ]; then
    echo "TFX requires Python 3.11 and none was found; install it, so that python3.11 runs." >&2
    exit 1
  fi
  echo "Making $venv with $python"
  mkdir -p "$venv"
  touch "$unfinished"
  if [ -n "$uv" ]; then
    "$uv" venv -q --allow-existing --python "$python" "$venv"
  else
    "$python" -m venv "$venv"
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

echo "Installing TFX and the pinned dependencies"
"${install[@]}" -q --no-deps -r requirements/tfx.txt -r requirements/tfx_no_deps.txt
"${install[@]}" -q --no-deps --no-build-isolation -e .
rm -f "$unfinished"
