"""Does a bundled model become better on sounds that it has never heard, without a single label?

Renders songs with a soundfont that was not used in training, writes their mixtures of drums and
bass as plain audio files, adapts the model `drums-bass` to some of these by commands of
`asteroid-ucr`, scores it on other songs with the true stems, and writes docs/results_adapt.md.

    python experiments/adapt.py --soundfont /usr/share/sounds/sf2/OPL-3_FM_128M.sf2

Songs and trainings that exist are kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from asteroid_ucr import __version__
from asteroid_ucr.cli import main as asteroid_ucr
from asteroid_ucr.commands import exit_code
from asteroid_ucr.data.clips import slakh_clips
from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.data.tracks import read_sources
from asteroid_ucr.evaluation.model_rows import model_rows
from asteroid_ucr.evaluation.rows import floor_rows
from asteroid_ucr.evaluation.separation import score_rows
from asteroid_ucr.evaluation.statistics import summarise
from asteroid_ucr.reports.tables import Cell, Table
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.training.adapt import SETTINGS
from asteroid_ucr.utils.atomic import atomic_path, make_folder
from asteroid_ucr.utils.audio import write_audio
from asteroid_ucr.utils.errors import UserError

MODEL, SOURCES, RATE = "drums-bass", ("drums", "bass"), 24_000
TEACHER, INSTRUMENTS = "drums-piano-bass", ("drums", "bass", "piano")
SONGS, SECONDS, SEED = 54, 30, 7  # 8 of these songs are for testing
# The last two are run with the most minutes only.
WAYS = {
    "estimates": "mixtures of drums and bass of the new sounds, and from sums of the model's own "
    "estimates of these, the cleaner half (`asteroid-ucr adapt`)",
    "solos": "mixtures of two of three instruments, from sums of the solos that `asteroid-ucr "
    f"solos --teacher {TEACHER}` finds in these, and from sums of that model's estimates",
    "mixtures": "mixtures of drums and bass alone, by the paper's loss",
}
DATA = Path("data/adapt")
VALIDATION = 4  # songs, for the curve of the loss only
TRAINING = (
    f"--config local/bundled.yml --data.cache {DATA / 'cache'} --data.workers 0 "
    "--data.sources [drums,bass] "
    + " ".join(f"--training.{name} {value}" for name, value in SETTINGS.items())
)
HEAD = """\
# Adapting without labels

<!-- Written by egs/slakh_ucr/experiments/adapt.py; do not edit. -->

Measured with version {version}.

SI-SDR in dB, mean over the sources and over test songs with its 95 % interval over songs; one
sampling step, masks on the mixture. *new sounds* are two clips of 7 s of each of {test} test songs,
rendered with `{soundfont}`, with which no training song of the model was rendered; *old sounds* are
one clip of each test song of mini-Slakh. *gain* is the difference from the model as it was, song by
song, with its own interval; *spread* is the standard deviation over training seeds ({seeds}).

Each adaptation takes {steps} steps of eight crops of 1.3 s, starts from the bundled model
`{model}`, and has a quarter of the learning rate of `local/bundled.yml`. No setting was chosen by
these scores.

{ways}

"""


def main() -> None:
    """Runs what is missing, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soundfont", required=True, help="that training did not use")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--minutes", type=int, nargs="+", default=[3, 6, 12])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--old", default="data/minislakh", help="tree of the old sounds")
    parser.add_argument("--exp", type=Path, default=Path("exp/adapt"))
    parser.add_argument("--document", type=Path, default=Path("../../docs/results_adapt.md"))
    options = parser.parse_args()
    songs = DATA / "songs"
    run(
        f"minislakh --out {songs} --songs {SONGS} --seconds {SECONDS} --seed {SEED} "
        f"--soundfont {options.soundfont}"
    )
    runs: dict[str, list[Path]] = {}
    most, *fewer = sorted(options.minutes, reverse=True)
    plans = [(kind, most) for kind in options.ways]
    for kind, minutes in [*plans, *(("estimates", m) for m in fewer)]:
        root = DATA / (f"three_{minutes}" if kind == "solos" else f"two_{minutes}")
        write_mixtures(songs, root, minutes, INSTRUMENTS if kind == "solos" else SOURCES)
        for seed in options.seeds:
            folder = options.exp / f"{kind}_{minutes}" / f"seed{seed}"
            adapt(kind, root, folder, seed, options.steps)
            runs.setdefault(f"{kind}, {minutes} min", []).append(folder)
    scores = {
        "new": score(runs, str(songs), 16, options.exp / "before" / "scores_new.csv"),
        "old": score(runs, options.old, 9, options.exp / "before" / "scores_old.csv"),
    }
    text = HEAD.format(
        version=__version__,
        soundfont=Path(options.soundfont).name,
        test=scores["new"]["track"].nunique(),
        steps=options.steps,
        seeds=len(options.seeds),
        model=MODEL,
        ways="\n".join(f"- *{way}* learn from {WAYS[way]}." for way in options.ways),
    )
    with atomic_path(options.document) as temporary:
        temporary.write_text(text + table(scores).markdown(), encoding="utf-8")
    print(f"wrote {options.document}")


def run(command: str) -> None:
    """Runs a command of `asteroid-ucr`, and stops if it fails."""
    if code := asteroid_ucr(command.split()):
        raise UserError(f"`asteroid-ucr {command}` failed with code {code}.")


def write_mixtures(songs: Path, root: Path, minutes: int, instruments: Sequence[str]) -> None:
    """Writes mixtures of two instruments, without stems, as a user has them.

    Songs with more than two instruments give each kind of mixture in turn. Validation songs are of
    the model's sources.
    """
    kinds = [(a, b) for k, a in enumerate(instruments) for b in instruments[k + 1 :]]
    tracks = load_tracks(songs, "train", sources=instruments)[: round(minutes * 60 / SECONDS)]
    chosen = [("train", track, kinds[k % len(kinds)]) for k, track in enumerate(tracks)]
    held_out = load_tracks(songs, "validation", sources=SOURCES)[:VALIDATION]
    chosen += [("validation", track, SOURCES) for track in held_out]
    for split, track, kind in chosen:
        path = root / split / "+".join(kind) / f"{track.name}.flac"
        if not path.is_file():
            make_folder(path.parent)
            mixture = read_sources(track, kind, RATE).mixture
            write_audio(path, mixture / mixture.abs().max().clamp(min=1), RATE)


def adapt(kind: str, root: Path, folder: Path, seed: int, steps: int) -> None:
    """Adapts the model to a folder of mixtures, by one of the three ways."""
    if (folder / "best_model.pth").is_file():
        return
    print(f"== {folder}", flush=True)
    if kind == "estimates":
        run(f"adapt {MODEL} {root} -o {folder} --steps {steps} --seed {seed}")
        return
    data, sums = f"{TRAINING} --data.root {root}", "--training.solo_share 0"
    if kind == "solos":
        sums = f"--data.solos {root}_solos --data.estimates {root}_estimates"
        if not Path(f"{root}_solos").is_dir():
            run(f"solos {data} {sums} --teacher {TEACHER}")
        run(f"estimates {data} --data.estimates {root}_estimates --teacher {TEACHER}")
    length = f"--training.steps {steps} --training.epoch_steps {steps // 2}"
    run(
        f"train {data} {sums} {length} --training.init {MODEL} --training.seed {seed} "
        f"--exp_dir {folder}"
    )


def score(runs: dict[str, list[Path]], root: str, clips: int, before: Path) -> pd.DataFrame:
    """Scores of the model before and after, a line for each clip, source and training seed.

    What has been scored is kept, in a file of the name of `before` in each run's folder.
    """
    files = {before: MODEL, **{f / before.name: f for folders in runs.values() for f in folders}}
    rows = []
    for file, model in files.items():
        if not file.is_file():
            (row,) = model_rows(UCRSeparator.from_pretrained(model), steps=[1])
            rows.append(replace(row, name=str(file)))
    if rows:
        test, validation = (
            list(slakh_clips(root, split, SOURCES, max_clips=clips))
            for split in ("test", "validation")
        )
        floors = [] if before.is_file() else floor_rows(validation)
        for file, lines in score_rows([*floors, *rows], test, bss_eval=False).groupby("row"):
            # The floors stand beside the model as it was.
            path = (
                Path(str(file))
                if str(file).endswith(".csv")
                else before.with_name(f"{file}_{before.name}")
            )
            make_folder(path.parent)
            lines.to_csv(path, index=False)
    names = {"mixture": "Mixture", "static_eq": "Static EQ"}
    found = [(label, f / before.name) for label, folders in runs.items() for f in folders]
    found = [(f"{MODEL} as it was", before), *found]
    found = [
        *((label, before.with_name(f"{k}_{before.name}")) for k, label in names.items()),
        *found,
    ]
    lines = pd.concat(pd.read_csv(p).assign(row=r, run=p.parent.name) for r, p in found)
    reference = pd.read_csv(before).set_index(["clip", "source"])["si_sdr"]
    places = pd.MultiIndex.from_frame(lines[["clip", "source"]])
    return lines.assign(gain=lines["si_sdr"].to_numpy() - reference.reindex(places).to_numpy())


def table(scores: dict[str, pd.DataFrame]) -> Table:
    """SI-SDR and gain of each row, on both kinds of sounds."""
    cells: dict[str, dict[str, Cell]] = {}
    for sounds, lines in scores.items():
        for row, found in lines.groupby("row", sort=False):
            score, gain = (summarise(found, column) for column in ("si_sdr", "gain"))
            line = cells.setdefault(str(row), {})
            adapted = " min" in str(row)
            line[f"{sounds} sounds"] = Cell(score.mean, score.half_width)
            line[f"gain, {sounds}"] = (
                Cell(gain.mean, gain.half_width, digits=2) if adapted else Cell()
            )
            if sounds == "new":
                line["spread"] = Cell(score.seed_std, digits=2)
    return Table(pd.DataFrame.from_dict(cells, orient="index"))


if __name__ == "__main__":
    sys.exit(exit_code(main))
