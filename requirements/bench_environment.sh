#!/usr/bin/env bash
# Makes the environment of the benchmark's peers: JAX, and PyTorch where its CPU build can be had.
#
#   requirements/bench_environment.sh VENV PYTHON
#
# PyTorch's usual build for Linux is several gigabytes of CUDA libraries, so it is installed only where pip resolves
# the pinned version to a build without them; otherwise the benchmarks leave its rows out.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: bench_environment.sh VENV PYTHON}
python=${2:?usage: bench_environment.sh VENV PYTHON}
torch=torch==2.13.0
exec </dev/null

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  echo "Making $venv"
  "$python" -m venv --clear "$venv"
fi
echo "Installing JAX"
"$venv/bin/python" -m pip install -q --disable-pip-version-check -r requirements/bench.txt
"$venv/bin/python" -c 'import jax, jax.numpy' || {
  echo "The environment $venv does not import JAX; remove it and try again." >&2
  exit 1
}

if "$venv/bin/python" -c 'import torch' 2>/dev/null; then exit 0; fi
report=$(mktemp)
trap 'rm -f "$report"' EXIT
if ! "$venv/bin/python" -m pip install -q --disable-pip-version-check --dry-run --no-deps --report "$report" "$torch" \
    >/dev/null 2>&1; then
  echo "PyTorch is not to be had here; its rows are left out."
elif ! grep -q '+cpu' "$report"; then
  echo "Only PyTorch's CUDA build is to be had here; its rows are left out. Install a CPU build into $venv to have them."
else
  echo "Installing PyTorch"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check "$torch" 2>/dev/null ||
    echo "PyTorch could not be installed; its rows are left out."
fi
