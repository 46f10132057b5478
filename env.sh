#!/usr/bin/env bash
# Prints a Python that can import asteroid_ucr: the one given as the first argument, or `python3`, or
# that of .venv beside this file, which is made and filled when neither of them can.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$root/.venv
can_import() { command -v "$1" >/dev/null && (cd / && "$1" -c 'import asteroid_ucr, pytest' 2>/dev/null); }

if [ -n "${1:-}" ]; then
  can_import "$1" || { echo "error: $1 cannot import asteroid_ucr: name another Python." >&2; exit 2; }
  echo "$1"
  exit
fi
for python in python3 "$venv/bin/python"; do
  if can_import "$python"; then
    echo "$python"
    exit
  fi
done

echo "asteroid_ucr cannot be imported: installing it into $venv (a few minutes)" >&2
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  { echo "error: Python 3.10 or newer is needed, and python3 is $(python3 --version)." >&2; exit 2; }
# Debian's python3 has pip only as a package of its own, and venv without ensurepip.
python3 -m venv "$venv" 2>/dev/null >&2 ||
  { rm -rf "$venv" && python3 -m venv --without-pip "$venv" &&
    python3 -m pip --python "$venv/bin/python" install --quiet pip; } >&2
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "$root[dev,tensorboard]" >&2
echo "$venv/bin/python"
