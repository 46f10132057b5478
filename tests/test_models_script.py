"""models.sh, from songs to cards, at reduced size.

It runs with `ASTEROID_UCR_SLOW=1 bash tests/run.sh tests/test_models_script.py` only.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asteroid_ucr import UCRSeparator
from asteroid_ucr.store import read_bundle

RECIPE = Path(__file__).resolve().parents[1] / "egs" / "slakh_ucr"
TINY = (
    "--training.steps 20 --training.epoch_steps 10 --training.warmup_steps 2 "
    "--training.validation_items 4 --model.encoder_widths [16] "
    "--model.denoiser_widths [8,16,24,32] "
    "--prior.steps 20 --prior.epoch_steps 10 --prior.warmup_steps 2 --prior.validation_items 4 "
    "--prior.widths [16,32,32] --prior.versions 1 "
    "--renderer.steps 20 --renderer.epoch_steps 10 --renderer.warmup_steps 2 "
    "--renderer.validation_items 4 --renderer.encoder_width 16 --renderer.decoder_width 16"
)


@pytest.mark.skipif("ASTEROID_UCR_SLOW" not in os.environ, reason="takes a quarter of an hour")
def test_from_songs_to_cards(tmp_path):
    folder = tmp_path / "repository" / "egs" / "slakh_ucr"
    shutil.copytree(RECIPE, folder, ignore=shutil.ignore_patterns("data", "exp", "__pycache__"))
    shutil.copy(RECIPE.parents[1] / "env.sh", folder.parents[1])
    settings = folder / "local" / "bundled.yml"
    settings.write_text(settings.read_text().replace("max_clips: 18", "max_clips: 2"))
    command = ["bash", str(folder / "models.sh"), "--python_path", sys.executable]
    command += ["--songs", "90", "--seconds", "20", "--first_steps", "20", "--rounds", "2"]
    command += ["--options", TINY]
    command += ["--commit", "0" * 40, "--out", str(tmp_path / "models")]
    environment = {**os.environ, "PYTHONPATH": str(RECIPE.parents[1])}
    subprocess.run(command, check=True, env=environment)
    for name in ("drums-bass", "drums-piano", "bass-piano", "drums-piano-bass"):
        model = UCRSeparator.from_pretrained(
            read_bundle(tmp_path / "models" / "bundled.safetensors", name)
        )
        assert "-".join(model.sources) == name
        assert model.generate(1.0).isfinite().all()
        assert "SI-SDR" in (tmp_path / "models" / f"{name}.md").read_text()
    # Again: everything that is done is kept.
    last = folder / "exp" / "bundled" / "round2" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    subprocess.run([*command, "--stop_stage", "4"], check=True, env=environment)
    assert last.read_bytes() == before
