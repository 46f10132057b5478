#!/usr/bin/env bash
# Sets up whatever is missing and runs the tests; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(bash env.sh)
# One thread per process: two busy workers on few cores would otherwise wait for each other.
# nproc counts what OMP_NUM_THREADS allows, so it is asked first.
workers=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=1 MPLBACKEND=Agg
exec "$python" -m pytest -q -n "$workers" --dist loadfile "$@"
