"""The steps of the recipe, as sub-commands of `asteroid-ucr`.

Those that take the configuration take `--config FILE.yml`, and every option of that file as
`--section.option VALUE`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from asteroid_ucr.commands import command, option
from asteroid_ucr.config import (
    CacheKind,
    ModelConfig,
    RecipeConfig,
    fill_cache,
    load_model,
    open_cache,
)
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.yaml_files import read_yaml

RUN = option("--exp_dir", required=True, type=Path, help="Folder for weights and logs.")
EXPERIMENT = option("--exp_dir", required=True, type=Path, help="Folder of the experiment.")
RESUME = option(
    "--resume", default="auto", help="auto: go on from the last checkpoint; none; or a file."
)


@command(
    option("--out", required=True, help="Folder of the collection."),
    option("--songs", type=int, default=60, help="Number of songs in all splits."),
    option("--seconds", type=float, default=30.0, help="Length of a song."),
    option("--seed", type=int, default=0, help="Seed of the songs."),
    option("--midi_dir", help="Folder of multi-track MIDI files to render instead."),
    option("--soundfont", nargs="*", help=".sf2 or .sf3 files, folders of Hydrogen drum kits."),
    option("--varied", action="store_true", help="For training: more sounds and levels."),
    option("--workers", type=int, default=2, help="Processes that render."),
)
def minislakh(**options: Any) -> None:
    """Compose and render mini-Slakh, or render MIDI files in its form (stage 0)."""
    from asteroid_ucr.minislakh import build

    build(**options)


@command(
    option(
        "--shard",
        default="1/1",
        metavar="I/N",
        help="Fill the I-th of N parts, for processes that fill a cache together.",
    )
)
def cache(config: RecipeConfig, kind: str, shard: str) -> None:
    """Cache what a model is trained on: latents of the mixtures, or stems for a baseline.

    Stage 1. The model is `ucr`, the default, or the name of a baseline.
    """
    part = parse_shard(shard)
    _describe(config.data.root)
    failed = 0
    for split, what in _caches(config, kind):
        failed += len(fill_cache(config, split, what, part))
        if not _is_filled(config, split, what):
            print(
                f"The {split} split is complete when the other shards are, and no file is broken."
            )
    if failed:
        raise UserError(
            f"{failed} tracks were left out, and all others are cached: repair or remove them and "
            "run stage 1 again, or go on with stage 2."
        )


def parse_shard(text: str) -> tuple[int, int]:
    """The part and the number of parts that "2/3" stands for.

    Raises:
        UserError: If the text is not of this form, or the part is out of range.
    """
    numbers = re.fullmatch(r"(\d+)/(\d+)", text)
    part, parts = map(int, numbers.groups()) if numbers else (0, 0)
    if not 1 <= part <= parts:
        raise UserError(f"--shard {text}: give a part and their number, from 1/N to N/N.")
    return part, parts


def _is_filled(config: RecipeConfig, split: str, kind: CacheKind) -> bool:
    """Whether `open_cache` can open a cache."""
    try:
        return bool(open_cache(config, split, kind).tracks)
    except UserError:
        return False


def _describe(root: str) -> None:
    """Prints what a folder of audio holds, and what is left out of it."""
    from asteroid_ucr.data.datasets import describe

    for line in describe(root):
        print(line)


def _caches(config: RecipeConfig, kind: str) -> Iterator[tuple[str, CacheKind]]:
    """Splits and kinds of the caches that the training of a model reads."""
    for split in ("train", "validation"):
        if isinstance(config.model, ModelConfig):  # also the supervised twin
            yield split, "latents"
        if kind != "ucr":
            yield split, "stems"


@command(
    option(
        "--instruments", nargs="+", default=["drums", "bass", "piano"], help="Families to look for."
    ),
    option("--teacher", help="Model that was trained on solos found without it."),
    option("--from_stems", action="store_true", help="Take the true stems instead, for a ceiling."),
)
def solos(
    config: RecipeConfig, instruments: list[str], teacher: str | None, from_stems: bool
) -> None:
    """Find passages in which one instrument plays alone, and write them as audio.

    Caches the latents of the mixtures of all pairs of the instruments, and compares them.
    """
    from asteroid_ucr.data.datasets import load_tracks
    from asteroid_ucr.solos.find import find_solos
    from asteroid_ucr.solos.library import write_solos, write_stems

    data = config.data
    if from_stems:
        write_stems(data.solos, instruments, data.root, data.mix, data.allow_shared_midi)
        return
    if not all(t.instruments or t.stems for t in load_tracks(data.root, "train")):
        raise UserError(
            f"The instruments in the songs of {data.root} are not known: put these into folders "
            "such as drums+bass, or list them with a column instruments."
        )
    caches = {}
    for kind in combinations(instruments, 2):
        pair = replace(config, data=replace(data, sources=list(kind)))
        fill_cache(pair, "train")
        caches[kind] = open_cache(pair, "train")
    model = load_model(teacher, "cpu") if teacher else None
    found = find_solos(caches, config.codec.build(), config.training.seed, model)
    for instrument, windows in found.items():
        tracks = {window.track for window in windows}
        print(f"{instrument}: {len(windows)} windows in {len(tracks)} tracks")
    record = {"dataset": data.root, "seed": config.training.seed, "teacher": teacher}
    write_solos(data.solos, found, data.root, data.mix, data.allow_shared_midi, record)
    print(f"wrote {data.solos}")


@command(option("--teacher", required=True, help="Model that separates the mixtures."))
def estimates(config: RecipeConfig, teacher: str) -> None:
    """Separate the training mixtures with a model, for the next model to learn from.

    Writes the folder `data.estimates`.
    """
    from asteroid_ucr.solos.remix import write_estimates

    data, model = config.data, load_model(teacher, "cpu")
    if not data.estimates:
        raise UserError("Name the folder to write with --data.estimates.")
    write_estimates(data.estimates, model, teacher, data.root, data.mix, data.allow_shared_midi)
    print(f"wrote {data.estimates}")


@command(RUN, RESUME)
def train(config: RecipeConfig, kind: str, exp_dir: Path, resume: str) -> None:
    """Train the decomposition, or a baseline to compare it with.

    Stage 2, and stage 1 if there is no cache yet. The model is `ucr`, the default, or the name of a
    baseline.
    """
    if missing := [what for what in _caches(config, kind) if not _is_filled(config, *what)]:
        _describe(config.data.root)
        for what in missing:
            fill_cache(config, *what)
    from asteroid_ucr.training.baselines import train_baseline
    from asteroid_ucr.training.decomposition import train as train_ucr

    run = train_ucr if kind == "ucr" else partial(train_baseline, kind)
    print(f"wrote {run(config, exp_dir, resume)}")


@command(
    option("--exp_dir", required=True, type=Path, help="Folder that holds the runs."),
    option("--runs", nargs="+", required=True, help="Seeds of the runs."),
    option(
        "--compare",
        nargs="*",
        default=["auto"],
        help="Models to score on the same clips: auto for all that were trained with the same tag "
        "(default), names of baselines, bundled models or files.",
    ),
    option("--pretrained", help="Published Demucs weights to score, such as htdemucs."),
    option("--stems", type=Path, help="Of songs without stems: folder for the stems of all songs."),
)
def evaluate_runs(
    config: RecipeConfig,
    exp_dir: Path,
    runs: list[str],
    compare: list[str],
    pretrained: str | None,
    stems: Path | None,
) -> None:
    """Assign components to sources, score all runs of an experiment, and choose the best.

    Stage 3. Writes the run that is best on the validation split as `best_model.pth`. Of songs
    without stems, it describes the masks instead, and separates all songs where --stems is given.
    """
    from asteroid_ucr.data.datasets import load_tracks
    from asteroid_ucr.evaluation.diagnostics import diagnose_runs
    from asteroid_ucr.evaluation.model_rows import demucs_row, trained_rows
    from asteroid_ucr.evaluation.separation import assign_runs, evaluate, open_clips
    from asteroid_ucr.reports.score_tables import print_results
    from asteroid_ucr.store import find_model_file

    data, settings = config.data, config.evaluation
    # What is missing is named before any audio is read.
    others = _models_to_compare(exp_dir, compare, data.sources)
    names = [f"seed{run}" for run in runs]
    for name in names:
        find_model_file(exp_dir / name)
    local = {"codec_dir": config.codec.dir} if config.codec.dir else {}
    test = load_tracks(data.root, "test", data.allow_shared_midi, data.sources)
    if not any(track.stems for track in test):
        unknown = open_clips(config, settings, "test", stems=False)
        print(diagnose_runs(exp_dir, names, unknown, settings.examples, **local))
        if stems is not None:
            _separate_songs(data.root, exp_dir, stems, config.codec.dir)
        return
    validation = list(open_clips(config, settings, "validation"))
    models = assign_runs(exp_dir, names, validation, **local)
    extra = trained_rows(others, data.sources, validation)
    if pretrained:
        extra.append(demucs_row(pretrained, data.sources))
    results = evaluate(
        models,
        open_clips(config, settings, "test"),
        validation,
        exp_dir,
        settings.steps,
        settings.seeds,
        settings.bss_eval,
        settings.examples,
        extra_rows=extra,
    )
    print_results(results)


def _separate_songs(root: str, exp_dir: Path, out: Path, codec_dir: str | None) -> None:
    """Separates all songs of a folder of audio with an experiment's best model, into FLAC files.

    Raises:
        UserError: If some cannot be separated; the others are.
    """
    from asteroid_ucr import batch
    from asteroid_ucr.data.folder import survey

    tracks = [track for split in survey(root).tracks.values() for track in split]
    mixtures = [track.mixture for track in tracks if track.mixture is not None]
    # A folder's songs are named by their paths below it, those of a list by their files.
    found = batch.find_songs([root] if Path(root).is_dir() else list(map(str, mixtures)))
    usable = set(mixtures)
    songs = {path: name for path, name in found.items() if path in usable}
    model = load_model(exp_dir, codec_dir=codec_dir)
    mark = batch.model_mark(model, str(exp_dir))
    chosen = batch.choose_stems(model.sources, None, False)
    jobs = batch.plan_jobs(songs, chosen, out, "{track}/{stem}.{ext}", "flac", mark)
    if failed := batch.separate_all(model, jobs, mark, "replace"):
        raise UserError(f"{failed} of {len(jobs)} songs could not be separated.")
    print(f"wrote {', '.join(model.sources)} of {len(jobs)} songs to {out}")


def _models_to_compare(
    exp_dir: Path, names: Sequence[str], sources: Sequence[str]
) -> list[str | Path]:
    """Models to score beside the experiment train_ucr_TAG.

    Args:
        exp_dir: Folder of the experiment.
        names: NAME for what was trained as train_NAME_TAG, or any model; "auto" for all that were
            trained with the same tag, and the bundled model of the sources.
        sources: Sources of the experiment.

    Raises:
        UserError: If there is no such model.
    """
    from asteroid_ucr.store import bundled_models

    found: list[str | Path] = []
    for name in names:
        folder = exp_dir.name.replace("train_ucr_", f"train_{'*' if name == 'auto' else name}_", 1)
        models = sorted(exp_dir.parent.glob(f"{folder}/seed*/best_model.pth"))
        found += [model for model in models if model.parents[1] != exp_dir]
        if name == "auto":
            found += [bundled for bundled in bundled_models() if bundled == "-".join(sources)]
        elif name in bundled_models() or Path(name).exists():
            found.append(name)
        elif not models:
            raise UserError(
                f"--compare {name}: there is no {exp_dir.parent / folder}/seed*/best_model.pth; "
                "train it first, or name a model."
            )
    return found


@command(RUN, RESUME)
def train_renderer(config: RecipeConfig, exp_dir: Path, resume: str) -> None:
    """Train the renderer of an experiment's best model, on solos and estimates.

    Its latents hold the pitch of a source, and the prior draws them. It is stored in
    `best_model.pth`.
    """
    from asteroid_ucr.training.renderer import train_renderer as run

    print(f"wrote {run(config, exp_dir, resume)}")


@command(RUN, RESUME)
def train_prior(config: RecipeConfig, exp_dir: Path, resume: str) -> None:
    """Train the masking prior over the component latents of an experiment's best model.

    Stage 4. The prior is stored in `best_model.pth`.
    """
    from asteroid_ucr.training.prior import train_prior as run

    print(f"wrote {run(config, exp_dir, resume)}")


@command(EXPERIMENT)
def evaluate_generation(config: RecipeConfig, exp_dir: Path) -> None:
    """Generate with an experiment's prior, and score it beside floors and ceilings (stage 5)."""
    from asteroid_ucr.evaluation.generation import evaluate_experiment
    from asteroid_ucr.reports.generation_tables import draw_generation, generation_text

    results = evaluate_experiment(config, exp_dir)
    draw_generation(results, exp_dir)
    print(generation_text(results))


@command(EXPERIMENT)
def report(exp_dir: Path) -> None:
    """Write the page and the publishable package of an experiment (stage 6)."""
    from asteroid_ucr.reports.page import write_report
    from asteroid_ucr.reports.publish import write_package

    print(f"wrote {write_report(exp_dir)}")
    print(f"wrote {write_package(exp_dir)}")


@command(
    option("--exp_dir", required=True, type=Path, help="Folder that holds the models' folders."),
    option("--models", nargs="+", required=True, help="Names of these folders."),
    option("--trained", required=True, help="Folder of the model that was trained."),
    option("--test_dir", required=True, help="Slakh tree with songs new to the models."),
    option("--clips", help="Folder of CLIP/{mix,SOURCE}.wav to score as well."),
    option("--out", required=True, type=Path, help="Folder for models and cards."),
    option("--command", required=True, help="Command that trained the models."),
    option("--commit", help="Commit that trained the models (default: the current one)."),
)
def cards(
    config: RecipeConfig, exp_dir: Path, models: list[str], trained: str, **options: Any
) -> None:
    """Write trained models into one file, as the package bundles them, and a card for each.

    Writes bundled.safetensors with its index, and NAME.md with the scores of each model.
    """
    from asteroid_ucr.reports.cards import write_cards
    from asteroid_ucr.separator import UCRSeparator

    head = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(head, cwd=Path(__file__).parent, capture_output=True, text=True)
    settings = read_yaml(exp_dir / trained / "conf.yml", sections=True)
    written = write_cards(
        {name: UCRSeparator.from_pretrained(exp_dir / name) for name in models},
        {**settings, "evaluation": vars(config.evaluation)},
        options["out"],
        exp_dir / "scores",
        options["test_dir"],
        options["clips"],
        options["command"],
        options["commit"] or found.stdout.strip() or "unknown",
    )
    print("\n".join(f"wrote {card}" for card in written))
