"""What an installation needs and brings."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

ROOT = Path(__file__).parents[1]
# What env.sh calls; no compiler is among these.
TOOLS = ("bash", "dirname", "rm", "cat")


def run_env(folder, path, *arguments, **environment):
    """Runs a copy of env.sh, whose .venv is its own, with `path` as the only place of commands."""
    shutil.copy(ROOT / "env.sh", folder)
    done = subprocess.run(
        ["bash", str(folder / "env.sh"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(path), "HOME": str(folder), "PIP_NO_INDEX": "1", **environment},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def bare_path(tmp_path):
    """A folder with a Python that lacks the package, and without a C compiler."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(shutil.which(name))

    base = Path(sys.base_prefix) / "bin" / "python3"
    (folder / "python3").write_text(f'#!/bin/sh\nexec {base} "$@"\n')
    (folder / "python3").chmod(0o755)
    return folder


def test_env_names_the_missing_compiler(tmp_path, bare_path):
    code, out, error = run_env(tmp_path, bare_path, CC="no-such-compiler")
    assert code == 2 and not out
    (line,) = [line for line in error.splitlines() if line.startswith("error:")]
    assert "a C compiler (no-such-compiler)" in line and "apt-get install gcc python3-dev" in line


def test_env_refuses_a_python_without_the_package(tmp_path, bare_path):
    code, _, error = run_env(tmp_path, bare_path, str(bare_path / "python3"))
    assert code == 2 and "cannot import asteroid_ucr" in error


def test_env_prints_a_python_that_has_the_package(tmp_path):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    code, out, _ = run_env(tmp_path, path, sys.executable, PYTHONPATH=str(ROOT))
    assert code == 0 and out.strip() == sys.executable


def test_encodec_is_imported_only_where_it_is_used():
    script = (
        "import sys; sys.modules['encodec'] = None\n"
        "import asteroid_ucr.cli\n"
        "from asteroid_ucr.codecs import build_codec\n"
        "from asteroid_ucr import UserError\n"
        "build_codec('mel'), build_codec('mdct')\n"
        "try: build_codec('encodec_24khz')\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "pip install encodec" in done.stdout


def test_separating_needs_the_core_only(tmp_path):
    """Without the packages of the extra "recipe", which other commands name."""
    listed = re.search(r"RECIPE = \[(.*?)\n\]", (ROOT / "setup.py").read_text(), re.DOTALL)[1]
    extra = {
        re.match(r"[\w-]+", name)[0].replace("-", "_") for name in re.findall('"(.+?)"', listed)
    }
    # Asteroid brings these itself, and torch brings jinja2.
    gone = {"sklearn", *extra} - {"scikit_learn", "pytorch_lightning", "pandas", "jinja2"}
    sf.write(tmp_path / "song.wav", np.random.default_rng(0).normal(0, 0.1, 24_000), 24_000)
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(gone)}))\n"
        "from asteroid_ucr.cli import main\n"
        f"assert main(['separate', {str(tmp_path / 'song.wav')!r}, '-o', {str(tmp_path)!r}, "
        "'--model', 'drums-bass']) == 0\n"
        f"assert main(['generate', 'drums-bass', '-o', {str(tmp_path / 'new')!r}, "
        "'--seconds', '1', '--steps', '1']) == 0\n"
        f"assert main(['minislakh', '--out', {str(tmp_path / 'songs')!r}]) == 2\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "song").iterdir()} >= {"drums.wav", "bass.wav"}
    assert "run `pip install 'asteroid-ucr[recipe]'`" in done.stderr.splitlines()[-1]


def test_links_of_the_long_description_lead_somewhere():
    command = [sys.executable, "setup.py", "--long-description"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "# asteroid-ucr" in done.stdout
    assert all(target.startswith("https://") for target in re.findall(r"\]\((.+?)\)", done.stdout))


def test_files_beside_the_code_are_packaged():
    listed = (ROOT / "setup.py").read_text()
    assert "py.typed" in listed and (ROOT / "asteroid_ucr/py.typed").is_file()


def python(script):
    """What a script prints, and the processor time that its process took, in seconds."""
    before = os.times()
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = os.times()
    used = after.children_user + after.children_system
    return done.stdout.strip(), used - before.children_user - before.children_system


def test_asteroid_knows_the_separator_after_the_import_of_the_package():
    script = "import asteroid_ucr\nfrom asteroid.models import get\n"
    out, _ = python(script + "print(get('UCRSeparator') is asteroid_ucr.UCRSeparator)")
    assert out == "True"


@pytest.mark.parametrize("arguments", ["--help", "--version", "separate --help", "train --help"])
def test_help_waits_for_no_heavy_import(arguments):
    out, seconds = python(
        "import contextlib, sys\nfrom asteroid_ucr.cli import main\n"
        f"with contextlib.suppress(SystemExit): main({arguments.split()})\n"
        "print({'torch', 'asteroid', 'numpy', 'scipy', 'pandas'} & set(sys.modules))"
    )
    assert out.endswith("set()") and seconds < 2
