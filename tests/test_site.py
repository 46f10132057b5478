"""The documentation as a site: every page is built, and every link and anchor leads somewhere."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocstrings")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    home = (tmp_path / "index.html").read_text()
    assert 'href="guides/separate/"' in home and 'href="recipe/"' in home
    notebook = (tmp_path / "notebooks/train-and-generate/index.html").read_text()
    assert "fill_cache" in notebook and 'href="../train-and-generate.ipynb"' in notebook
    reference = (tmp_path / "api/use/index.html").read_text()
    for name in ("api.Separator.separate", "separator.UCRSeparator.generate"):
        assert f'id="asteroid_ucr.{name}"' in reference
