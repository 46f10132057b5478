#!/usr/bin/env bash
# Builds the wheel and the sdist, installs each into an empty environment of every Python, separates a
# short file there, and prints what installing took. Arguments are Pythons: versions, which uv finds or
# downloads, or paths; without any, 3.10 to 3.13.
#
#   bash tests/wheels.sh                   # 2.5 GB of downloads and 5 GB of disk at a time
#   bash tests/wheels.sh 3.12 /opt/python3.13/bin/python3
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- 3.10 3.11 3.12 3.13
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export UV_CACHE_DIR=${UV_CACHE_DIR:-$work/cache} UV_LINK_MODE=copy
python3 -m venv "$work/tools"
"$work/tools/bin/python" -m pip install --quiet --disable-pip-version-check uv build twine numpy soundfile
uv=$work/tools/bin/uv

"$work/tools/bin/python" -m build --outdir "$work/dist" . >"$work/build.log" 2>&1 ||
  { cat "$work/build.log" >&2; exit 1; }
"$work/tools/bin/twine" check --strict "$work"/dist/*
# The tests of the sdist have what they need: they are collected from its files alone.
mkdir "$work/sdist" && tar xf "$work"/dist/*.tar.gz -C "$work/sdist" --strip-components 1
for file in env.sh tests/run.sh tests/conftest.py egs/slakh_ucr/run.sh docs/method.md LICENSE; do
  [ -f "$work/sdist/$file" ] || { echo "error: the sdist lacks $file." >&2; exit 1; }
done
"$work/tools/bin/python" - "$work/song.wav" <<'END_SONG'
import sys
import numpy as np
import soundfile
time = np.arange(5 * 44_100) / 44_100
song = 0.2 * np.sign(np.sin(2 * np.pi * 110 * time)) * np.exp(-4 * (time % 0.5))
soundfile.write(sys.argv[1], np.stack([song, 0.5 * song], 1), 44_100)
END_SONG

failed=0
printf '%-24s %-6s %10s %8s %9s  %s\n' python from "install, s" "size, MB" packages result
for python in "$@"; do
  for package in "$work"/dist/*.whl "$work"/dist/*.tar.gz; do
    rm -rf "$work/venv" "$work/out"
    from=wheel result="separates"
    case $package in *.gz) from=sdist ;; esac
    "$uv" venv --quiet --python "$python" "$work/venv" || { failed=1; continue; }
    start=$SECONDS
    if ! "$uv" pip install --quiet --python "$work/venv" "$package" >"$work/log" 2>&1; then
      result="does not install: $(tail -n 1 "$work/log")"
    elif ! "$uv" pip check --python "$work/venv" >"$work/log" 2>&1; then
      result="pip check: $(tail -n 1 "$work/log")"
    fi
    took=$((SECONDS - start))
    if [ "$result" = separates ]; then
      (cd "$work" && venv/bin/asteroid-ucr separate song.wav -o out --model drums-bass) >"$work/log" 2>&1 &&
        [ -s "$work/out/song/drums.wav" ] && [ -s "$work/out/song/bass.wav" ] ||
        result="does not separate: $(tail -n 1 "$work/log")"
    fi
    [ "$result" = separates ] || failed=1
    name=$("$work/venv/bin/python" -c 'import platform; print(platform.python_version())')
    size=$(du -sm "$work/venv" | cut -f 1)
    count=$("$uv" pip list --quiet --format freeze --python "$work/venv" | wc -l)
    printf '%-24s %-6s %10s %8s %9s  %s\n' "$name" "$from" "$took" "$size" "$count" "$result"
  done
done
exit "$failed"
