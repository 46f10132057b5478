#!/usr/bin/env bash
# Prints a Python that can import asteroid_ucr, what its recipe needs and pytest: the one given as the
# first argument, or `python3`, or that of .venv beside this file, which is made and filled when
# neither of them can.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$root/.venv
can_import() { command -v "$1" >/dev/null && (cd / && "$1" -c 'import asteroid_ucr, fast_bss_eval, pytest' 2>/dev/null); }
fail() { echo "error: $1" >&2; exit 2; }

if [ -n "${1:-}" ]; then
  can_import "$1" || fail "$1 cannot import asteroid_ucr with its extra 'dev': name another Python."
  echo "$1"
  exit
fi
for python in python3 "$venv/bin/python"; do
  if can_import "$python"; then
    echo "$python"
    exit
  fi
done

command -v python3 >/dev/null || fail "There is no python3: install Python 3.10 to 3.13."
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  fail "Python 3.10 or newer is needed, and python3 is $(python3 --version)."
echo "asteroid_ucr cannot be imported: installing it into $venv (a few minutes)" >&2
# Debian's python3 has pip only as a package of its own, and venv without ensurepip.
python3 -m venv "$venv" 2>/dev/null >&2 ||
  { rm -rf "$venv" && python3 -m venv --without-pip "$venv" &&
    python3 -m pip --python "$venv/bin/python" install --quiet pip; } >&2 ||
  fail "$venv cannot be made: install pip and venv (Debian: apt-get install python3-pip python3-venv)."
pip() { "$venv/bin/python" -m pip "$@" --quiet --disable-pip-version-check; }

# Asteroid needs pesq, which is published as source code only. Without a compiler, its installation
# fails after minutes of downloads, unless the package index that is used here has a binary of it.
missing=$("$venv/bin/python" - <<'END'
import os, shlex, shutil, sysconfig

compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
missing = [] if shutil.which(compiler) else [f"a C compiler ({compiler})"]
if not os.path.isfile(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    missing.append("the headers of Python (Python.h)")
print(" and ".join(missing))
END
)
[ -z "$missing" ] || pip install --no-deps --only-binary :all: pesq 2>/dev/null >&2 ||
  fail "Asteroid's dependency pesq has to be compiled, which needs $missing: install what is missing \
(Debian: apt-get install gcc python3-dev) and run this command again."
pip install -e "$root[dev,tensorboard]" >&2
echo "$venv/bin/python"
