# Sourced by the scripts that make environments: a virtual environment with a fitting Python and a way to install.
#
# Needs: venv (directory), versions (the Pythons that do, such as "3.11 3.12"), candidates (array: interpreters to try in
# this order). Sets: install (array: the command that installs), unfinished (file to remove when all is installed: an
# environment that has it, or whose interpreter no longer runs, is made again).
unfinished=$venv/.unfinished
named=${versions// / or }
right_version="import sys; raise SystemExit('%d.%d' % sys.version_info[:2] not in '$versions'.split())"
exec </dev/null

if [ -e "$venv" ]; then
  if [ -e "$unfinished" ]; then
    echo "The environment $venv was never finished: making it again."
    rm -rf "$venv"
  elif ! "$venv/bin/python" -c "$right_version" 2>/dev/null; then
    echo "The environment $venv has no Python $named that runs: making it again."
    rm -rf "$venv"
  fi
fi

uv=
# A shim may stand on the PATH and yet not run, so each candidate is run; the project's own environment may have one.
for candidate in uv .venv/bin/uv; do
  if "$candidate" --version >/dev/null 2>&1; then uv=$candidate; break; fi
done

if [ ! -e "$venv" ]; then
  python=
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c "$right_version" 2>/dev/null; then
      python=$("$candidate" -c 'import sys; print(sys.executable)')
      break
    fi
  done
  if [ -z "$python" ]; then
    echo "Python $named is required and none was found; name one: make PYTHON=/path/to/python${versions%% *}" >&2
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
