"""The steps of the recipe that take its configuration; each is a sub-command of `asteroid-ucr`.

All of them take `--config FILE.yml` and every option of that file as `--section.option VALUE`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from asteroid_ucr.config import (
    ModelConfig,
    fill_cache,
    load_model,
    open_cache,
    parse_recipe,
    recipe_parser,
)
from asteroid_ucr.utils.errors import UserError

Step = Callable[[Sequence[str]], None]
STEPS: dict[str, Step] = {}


def step(function: Step) -> Step:
    """Makes a function the sub-command of its name, with hyphens."""
    STEPS[function.__name__.replace("_", "-")] = function
    return function


@step
def cache(arguments: Sequence[str]) -> None:
    """Cache what a model is trained on: latents of the mixtures, or stems for a baseline.

    Stage 1. The model is `ucr`, the default, or the name of a baseline.
    """
    kind, config, _ = _parse_trained("cache", arguments)
    for split in ("train", "validation"):
        if isinstance(config.model, ModelConfig):  # also the supervised twin
            _report(fill_cache(config, split))
        if kind != "ucr":
            _report(fill_cache(config, split, "stems"))


@step
def solos(arguments: Sequence[str]) -> None:
    """Find passages in which one instrument plays alone, and write them as audio.

    Caches the latents of the mixtures of all pairs of the instruments, and compares them.
    """
    from asteroid_ucr.solos.find import find_solos
    from asteroid_ucr.solos.library import write_solos, write_stems

    parser = _parser("solos")
    parser.add_argument(
        "--instruments", nargs="+", default=["drums", "bass", "piano"], help="Families to look for."
    )
    parser.add_argument("--teacher", help="Model that was trained on solos found without it.")
    parser.add_argument(
        "--from_stems", action="store_true", help="Take the true stems instead, for a ceiling."
    )
    config, options = parse_recipe(parser, arguments)
    data = config.data
    if options.from_stems:
        write_stems(data.solos, options.instruments, data.root, data.mix, data.allow_shared_midi)
        return
    caches = {}
    for kind in combinations(options.instruments, 2):
        pair = replace(config, data=replace(data, sources=list(kind)))
        _report(fill_cache(pair, "train"))
        caches[kind] = open_cache(pair, "train")
    model = load_model(options.teacher, "cpu") if options.teacher else None
    found = find_solos(caches, config.codec.build(), config.training.seed, model)
    for instrument, windows in found.items():
        tracks = {window.track for window in windows}
        print(f"{instrument}: {len(windows)} windows in {len(tracks)} tracks")
    record = {"dataset": data.root, "seed": config.training.seed, "teacher": options.teacher}
    write_solos(data.solos, found, data.root, data.mix, data.allow_shared_midi, record)
    print(f"wrote {data.solos}")


@step
def estimates(arguments: Sequence[str]) -> None:
    """Separate the training mixtures by a model, for the next model to learn from.

    Writes the folder `data.estimates`.
    """
    from asteroid_ucr.solos.remix import write_estimates

    parser = _parser("estimates")
    parser.add_argument("--teacher", required=True, help="Model that separates the mixtures.")
    config, options = parse_recipe(parser, arguments)
    data, model = config.data, load_model(options.teacher, "cpu")
    if not data.estimates:
        raise UserError("Name the folder to write with --data.estimates.")
    write_estimates(
        data.estimates, model, options.teacher, data.root, data.mix, data.allow_shared_midi
    )
    print(f"wrote {data.estimates}")


@step
def train(arguments: Sequence[str]) -> None:
    """Train the decomposition, or a baseline to compare it with.

    Stage 2. The model is `ucr`, the default, or the name of a baseline.
    """
    from asteroid_ucr.training.baselines import train_baseline
    from asteroid_ucr.training.decomposition import train as train_ucr

    kind, config, options = _parse_trained("train", arguments, experiment=True)
    if kind == "ucr":
        path = train_ucr(config, options.exp_dir, options.resume)
    else:
        path = train_baseline(kind, config, options.exp_dir, options.resume)
    print(f"wrote {path}")


@step
def evaluate_runs(arguments: Sequence[str]) -> None:
    """Assign components to sources, score all runs of an experiment, and choose the best.

    Stage 3. Writes the run that is best on the validation split as `best_model.pth`.
    """
    from asteroid_ucr.data.clips import slakh_clips
    from asteroid_ucr.evaluation.model_rows import demucs_row, trained_rows
    from asteroid_ucr.evaluation.separation import assign_runs, evaluate
    from asteroid_ucr.reports.score_tables import print_results

    parser = _parser("evaluate-runs")
    parser.add_argument("--exp_dir", required=True, type=Path, help="Folder that holds the runs.")
    parser.add_argument("--runs", nargs="+", required=True, help="Seeds of the runs.")
    parser.add_argument(
        "--compare",
        nargs="*",
        default=["auto"],
        help="Baselines to score on the same clips: names, or auto for all that were trained with "
        "the same tag (default).",
    )
    parser.add_argument("--pretrained", help="Published Demucs weights to score, as htdemucs.")
    config, options = parse_recipe(parser, arguments)
    data, settings = config.data, config.evaluation
    clips = partial(
        slakh_clips,
        data.root,
        sources=data.sources,
        seconds=settings.segment_seconds,
        mix=data.mix,
        max_clips=settings.max_clips,
        allow_shared_midi=data.allow_shared_midi,
    )
    validation = list(clips("validation"))
    runs = [f"seed{run}" for run in options.runs]
    local = {"codec_dir": config.codec.dir} if config.codec.dir else {}
    models = assign_runs(options.exp_dir, runs, validation, **local)
    compare = _trained_baselines(options.exp_dir, options.compare)
    extra = trained_rows(compare, data.sources, validation)
    if options.pretrained:
        extra.append(demucs_row(options.pretrained, data.sources))
    results = evaluate(
        models,
        clips("test"),
        validation,
        options.exp_dir,
        settings.steps,
        settings.seeds,
        settings.bss_eval,
        settings.examples,
        extra_rows=extra,
    )
    print_results(results)


@step
def train_prior(arguments: Sequence[str]) -> None:
    """Train the masking prior over the component latents of an experiment's best model.

    Stage 4. The prior is stored in `best_model.pth`.
    """
    from asteroid_ucr.training.prior import train_prior as run

    parser = _parser("train-prior")
    _add_experiment(parser)
    config, options = parse_recipe(parser, arguments)
    print(f"wrote {run(config, options.exp_dir, options.resume)}")


@step
def evaluate_generation(arguments: Sequence[str]) -> None:
    """Generate with an experiment's prior, and score it beside floors and ceilings (stage 5)."""
    from asteroid_ucr.evaluation.generation import evaluate_experiment
    from asteroid_ucr.reports.generation_tables import draw_generation, print_generation

    parser = _parser("evaluate-generation")
    parser.add_argument("--exp_dir", required=True, type=Path, help="Holds best_model.pth.")
    config, options = parse_recipe(parser, arguments)
    results = evaluate_experiment(config, options.exp_dir)
    draw_generation(results, options.exp_dir)
    print_generation(results)


@step
def cards(arguments: Sequence[str]) -> None:
    """Write trained models into one file, as the package bundles them, and a card for each.

    Writes bundled.safetensors with its index, and NAME.md with the scores of each model.
    """
    from asteroid_ucr.reports.cards import write_cards
    from asteroid_ucr.separator import UCRSeparator

    parser = _parser("cards")
    parser.add_argument("--exp_dir", required=True, type=Path, help="Holds the models' folders.")
    parser.add_argument("--models", nargs="+", required=True, help="Names of these folders.")
    parser.add_argument("--trained", required=True, help="Folder of the model that was trained.")
    parser.add_argument("--test_dir", required=True, help="Slakh tree with songs new to them.")
    parser.add_argument("--clips", help="Folder of CLIP/{mix,SOURCE}.wav to score besides.")
    parser.add_argument("--out", required=True, type=Path, help="Folder for models and cards.")
    parser.add_argument("--command", required=True, help="Command that trained them.")
    parser.add_argument("--commit", help="Commit that trained them (default: the current one).")
    config, options = parse_recipe(parser, arguments)
    head = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(head, cwd=Path(__file__).parent, capture_output=True, text=True)
    trained = yaml.safe_load((options.exp_dir / options.trained / "conf.yml").read_text())
    models = {name: UCRSeparator.from_pretrained(options.exp_dir / name) for name in options.models}
    written = write_cards(
        models,
        {**trained, "evaluation": vars(config.evaluation)},
        options.out,
        options.exp_dir / "scores",
        options.test_dir,
        options.clips,
        options.command,
        options.commit or found.stdout.strip() or "unknown",
    )
    print("\n".join(f"wrote {card}" for card in written))


def _parser(name: str, model: type = ModelConfig) -> Any:
    parser = recipe_parser(STEPS[name].__doc__, model)
    parser.prog = f"asteroid-ucr {name}"
    return parser


def _add_experiment(parser: Any) -> None:
    parser.add_argument("--exp_dir", required=True, help="Folder for weights and logs.")
    parser.add_argument(
        "--resume", default="auto", help="auto: go on from the last checkpoint; none; or a file."
    )


def _parse_trained(
    name: str, arguments: Sequence[str], experiment: bool = False
) -> tuple[str, Any, Any]:
    """Parses a command line that may begin with the name of what is trained.

    Returns:
        The name, the configuration, and everything that was parsed.

    Raises:
        UserError: If the name or an option is unknown, or a value is of the wrong type.
    """
    from asteroid_ucr.training.baselines import BASELINES, find_baseline

    # The name comes out before parsing, since the options of the section `model` depend on it.
    named = bool(arguments) and not arguments[0].startswith("-")
    kind, arguments = (arguments[0], arguments[1:]) if named else ("ucr", arguments)
    parser = _parser(name, ModelConfig if kind == "ucr" else find_baseline(kind).options)
    parser.usage = f"asteroid-ucr {name} [{'|'.join(['ucr', *BASELINES])}] [options]"
    if experiment:
        _add_experiment(parser)
    config, options = parse_recipe(parser, arguments)
    return kind, config, options


def _report(failures: Sequence[str]) -> None:
    for failure in failures:
        print(f"left out: {failure}", file=sys.stderr)


def _trained_baselines(exp_dir: Path, names: Sequence[str]) -> list[Path]:
    """Models of baselines that were trained with the tag of an experiment.

    Args:
        exp_dir: The experiment, a folder called train_ucr_TAG.
        names: Names of baselines; "auto" takes those that are there.

    Raises:
        UserError: If a baseline that is asked for was not trained.
    """
    from asteroid_ucr.training.baselines import BASELINES, find_baseline

    found = []
    for name in BASELINES if list(names) == ["auto"] else names:
        find_baseline(name)
        folder = exp_dir.with_name(exp_dir.name.replace("train_ucr_", f"train_{name}_", 1))
        models = sorted(folder.glob("seed*/best_model.pth"))
        if not models and list(names) != ["auto"]:
            raise UserError(
                f"--compare {name}: there is no {folder}/seed*/best_model.pth; train it first."
            )
        found += models if folder != exp_dir else []
    return found
