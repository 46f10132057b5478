"""What a killed program leaves: a short run of `tests/soak/kill.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_lose_nothing_and_change_nothing():
    script = [sys.executable, str(ROOT / "tests" / "soak" / "kill.py"), "--kills", "2"]
    programs = ["caching", "training", "mini-Slakh", "separate"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*script, *programs], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == programs
    assert {tuple(row[3:]) for row in rows} == {("0",) * 4}
