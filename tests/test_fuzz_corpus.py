"""Readers give a valid result or one sentence, whatever a file holds: what a fuzzer has found.

`tests/soak/fuzz.py` finds the next ones.
"""

import sys
from pathlib import Path

import pytest

from asteroid_ucr import UserError

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "soak"))

from readers import READERS, read, seeds  # noqa: E402


@pytest.mark.parametrize("name", READERS)
def test_readers_fail_with_one_sentence(name, tmp_path):
    valid = seeds(name, tmp_path)
    if name not in ("record", "archive"):
        for data in valid:
            read(name, data, tmp_path)
    damaged = [path.read_bytes() for path in sorted((HERE / "corpus" / name).glob("*"))]
    for data in [*valid, *damaged, b"", b"\0" * 100, *(data[: len(data) // 2] for data in valid)]:
        try:
            read(name, data, tmp_path)
        except UserError as error:
            assert "\n" not in str(error)
