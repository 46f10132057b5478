"""The layers of the package: what may import what."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "asteroid_ucr"


def test_imports_run_downward_and_never_in_a_circle():
    """Runs the contracts of pyproject.toml, in a process because the linter configures logging."""
    script = "import sys, importlinter.cli as c; sys.exit(c.lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_are_short():
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert not {str(path): length for path, length in lengths.items() if length > 420}


def test_python_beside_the_recipe_is_only_in_experiments():
    places = {path.parent.name for path in (ROOT / "egs").rglob("*.py") if "exp" not in path.parts}
    assert places <= {"experiments", "local"}


def test_no_class_name_has_two_meanings():
    lines = [line for path in PACKAGE.rglob("*.py") for line in path.read_text().splitlines()]
    names = Counter(
        line.split()[1].split("(")[0].rstrip(":") for line in lines if line[:6] == "class "
    )
    assert not [name for name, count in names.items() if count > 1]


@pytest.mark.parametrize("first", ["asteroid.models", "asteroid_ucr.base"])
def test_the_separator_is_registered_whatever_is_imported_first(first):
    text = f"import asteroid_ucr, {first}, asteroid_ucr.separator; from asteroid import models; "
    text += "print(models.get('UCRSeparator').__name__)"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "UCRSeparator"
