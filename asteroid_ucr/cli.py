"""The command `asteroid-ucr`: sub-commands for users here, those of the recipe in `recipe`."""

from __future__ import annotations

import argparse
import glob
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from asteroid_ucr import UserError, __version__
from asteroid_ucr.config import load_model
from asteroid_ucr.generator import STEPS as PRIOR_STEPS
from asteroid_ucr.recipe import STEPS
from asteroid_ucr.utils.audio import AUDIO_SUFFIXES


class Parser(argparse.ArgumentParser):
    """Reports mistakes as a `UserError`, so that every error of the command is one line."""

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print after its usage."""
        raise UserError(f"{message}; see `{self.prog} --help`.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return exit_code(lambda: _run(given))


def exit_code(command: Callable[[], int | None]) -> int:
    """Runs a command, and prints a `UserError` as one line.

    Returns:
        0, what the command returned, or 2 after a mistake that the user can correct.
    """
    try:
        return command() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(arguments: list[str]) -> int | None:
    if arguments[:1] == ["infer"]:  # Asteroid parses these arguments itself
        return infer(arguments[1:])
    if arguments and arguments[0] in STEPS:
        return STEPS[arguments[0]](arguments[1:])
    options = vars(build_parser().parse_args(arguments or ["--help"]))
    return options.pop("run")(**options)


def build_parser() -> Parser:
    """Returns the parser of all commands; the recipe's steps and `infer` parse for themselves."""
    parser = Parser(
        prog="asteroid-ucr",
        description="Separates music into stems with a model trained only on mixtures.",
        epilog="Every command has its own --help. egs/slakh_ucr/run.sh runs the steps of the "
        "recipe in their order.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(run: Any, name: str = "") -> Parser:
        name = name or run.__name__
        summary = run.__doc__.split("\n")[0].rstrip(".")
        made = commands.add_parser(name, help=summary, description=run.__doc__)
        made.set_defaults(run=run)
        return made

    add = command(separate).add_argument
    add("files", nargs="+", metavar="FILE", help="sound files, folders or globs")
    add("-o", "--out", type=Path, default=Path("separated"), metavar="DIR", help="output folder")
    add("--format", choices=["wav", "flac"], default="wav", help="format of the stems")
    add("--chunk", type=int, default=30, metavar="SECONDS", help="audio in memory at a time")
    add("--model", required=True, help="bundled name, file, folder or hub id")
    add("--seed", type=int, help="seed of the sampler's noise")
    add("--steps", type=int, help="steps of the sampler; 1 gives the conditional mean")
    _add_device(add)

    add = command(generate).add_argument
    add("model", metavar="MODEL", help="bundled name, file, folder or hub id")
    add("-o", "--out", type=Path, default=Path("generated"), metavar="DIR", help="output folder")
    add("--seconds", type=float, help="length (default: that of the given audio, or 10)")
    add(
        "--keep",
        action="append",
        default=[],
        metavar="SOURCE=FILE",
        help="stem to accompany; SOURCE alone keeps that of --mixture; may be repeated",
    )
    add("--mixture", type=Path, metavar="FILE", help="mixture to vary")
    add("--strength", type=float, help="how much to vary: 0 gives the mixture, 1 is all new")
    add("--count", type=int, default=1, help="how many to generate")
    add("--seed", type=int, default=0, help="seed of the first; the others count up from it")
    add("--steps", type=int, default=PRIOR_STEPS, help="steps of the prior's sampler")
    add("--render_steps", type=int, help="steps of the denoiser's sampler")
    _add_device(add)

    evaluation = command(evaluate)
    add = evaluation.add_argument
    add("models", nargs="+", metavar="MODEL", help="models to score; several for training seeds")
    data = evaluation.add_mutually_exclusive_group(required=True)
    data.add_argument("--slakh_dir", type=Path, help="Slakh tree whose test split is scored")
    data.add_argument("--clips", type=Path, help="folder of CLIP/{mix,drums,…}.wav")
    add("--estimates", metavar="SUFFIX", help="also score CLIP/SOURCE<SUFFIX>.wav, with --clips")
    add("--compare", nargs="+", default=[], metavar="FILE", help="trained baselines to score too")
    add("--pretrained", metavar="NAME", help="published Demucs weights to score, as htdemucs")
    add("-o", "--out", type=Path, default=Path("evaluated"), metavar="DIR", help="output folder")
    add("--steps", type=int, nargs="+", default=[1, 25], help="numbers of sampler steps to score")
    add("--seeds", type=int, nargs="+", default=[0], help="seeds of the sampler's noise")
    add("--max_clips", type=int, help="number of clips, spread over the tracks (default: all)")
    add("--segment_seconds", type=float, default=7.0, help="length of a clip")
    add("--mix", choices=["sum", "paper_mean"], default="sum", help="how sources are mixed")
    add("--allow_shared_midi", action="store_true", help="score songs that training tracks share")
    add("--no_bss_eval", action="store_true", help="leave out the slow BSS-eval v4")
    _add_device(add)

    add = command(doctor).add_argument
    add("folder", type=Path, metavar="DIR", help="Slakh tree")
    listening = "read all audio: silence, clipping, levels, tuning against the MIDI (default)"
    add("--listen", action="store_true", default=True, help=listening)
    add("--no_listen", dest="listen", action="store_false", help="read headers only, much faster")

    add = command(info).add_argument
    add("model", metavar="MODEL", help="bundled name, file, folder or hub id")

    add = command(benchmark).add_argument
    add("-o", "--out", type=Path, default=Path("benchmark.json"), help="file to write")
    add("--model", help="model to measure (default: the paper's configuration, untrained)")
    add("--against", nargs="*", metavar="NAME", help="convtasnet, hdemucs, htdemucs (default: all)")
    add("--seconds", type=float, default=10.0, help="length of the audio")
    add("--repeats", type=int, default=5, help="repetitions of each measurement")
    add("--threads", type=int, nargs="+", default=[], help="numbers of threads (default: 1, all)")
    add("--lengths", type=float, nargs="*", default=[10.0, 60.0, 600.0], help="seconds, for memory")
    add("--batch", type=int, default=4, help="crops per training step")
    add("--crop", type=float, default=4.0, help="seconds per crop")

    add = command(results).add_argument
    add("folders", nargs="+", metavar="EXP", help="folders of evaluations")
    add("-o", "--out", type=Path, default=Path("results.md"), help="page to write")
    add("--benchmark", type=Path, metavar="JSON", help="adds the costs that `benchmark` measured")

    commands.add_parser("infer", help="Run asteroid-infer, with its arguments, on a model")

    add = command(minislakh).add_argument
    add("--out", required=True, help="folder of the collection")
    add("--songs", type=int, default=60, help="number of songs in all splits")
    add("--seconds", type=float, default=30.0, help="length of a song")
    add("--seed", type=int, default=0, help="seed of the songs")
    add("--midi_dir", help="folder of multi-track MIDI files to render instead")
    add("--soundfont", nargs="*", help=".sf2 or .sf3 files, folders of Hydrogen drum kits")
    add("--varied", action="store_true", help="for training: more sounds and levels per family")
    add("--workers", type=int, default=2, help="processes that render")

    for name, run in STEPS.items():
        commands.add_parser(name, help=str(run.__doc__).split("\n")[0].rstrip("."))

    add = command(select).add_argument
    add("model", metavar="MODEL", help="bundled name, file, folder or hub id")
    add("--sources", required=True, nargs="+", help="sources to keep, in the new order")
    add("-o", "--out", required=True, type=Path, metavar="DIR", help="folder of best_model.pth")

    add = command(report).add_argument
    add("--exp_dir", required=True, type=Path, help="folder of an evaluated experiment")
    return parser


def _add_device(add: Any) -> None:
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    add("--codec_dir", help="folder of the codec's published weights")


def expand(names: Sequence[str]) -> list[Path]:
    """Sound files that names, folders and globs stand for, sorted within each.

    Raises:
        UserError: if a folder or glob yields none, or the same file is named twice.
    """
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted(f for f in path.rglob("*") if f.suffix.lower() in AUDIO_SUFFIXES)
            if not found:
                raise UserError(f"The folder {name} holds no sound files: name another.")
        elif path.exists() or not glob.has_magic(name):
            found = [path]
        else:
            found = sorted(Path(f) for f in glob.glob(name, recursive=True))
            if not found:
                raise UserError(f"No file matches {name}: check the pattern.")
        files += [file for file in found if file not in files]
    return files


def separate(
    files: list[str], out: Path, model: str, device: str, codec_dir: str | None, **options: Any
) -> int:
    """Separate sound files into named stems.

    Writes DIR/<file name without ending>/<source>.wav at each file's own rate and channels. The
    stems add up to the mixture. A file that fails is reported, and the others go on.
    """
    from tqdm import tqdm

    from asteroid_ucr.files import output_folders, separate_file

    folders = output_folders(expand(files), out)
    separator = load_model(model, device, codec_dir)
    failed = 0
    for file, folder in folders.items():
        with tqdm(total=100, desc=file.name, unit="%", disable=None) as bar:
            try:
                separate_file(
                    separator,
                    file,
                    folder,
                    options["format"],
                    options["steps"],
                    options["seed"],
                    options["chunk"],
                    lambda done: bar.update(round(100 * done) - bar.n),
                )
            except UserError as error:
                failed += 1
                print(f"error: {error}", file=sys.stderr)
    if failed and len(folders) > 1:
        print(f"{failed} of {len(folders)} files failed.", file=sys.stderr)
    return 2 if failed else 0


def generate(model: str, device: str, codec_dir: str | None, out: Path, **options: Any) -> None:
    """Generate sources with a model's prior.

    Writes DIR/<seed>/<source>.wav and DIR/<seed>/mix.wav, mono, 32-bit float. With --keep, it
    generates an accompaniment of these stems, which are written as they are; with --mixture and
    --strength, a variation of a mixture; with neither, music from nothing.
    """
    from asteroid_ucr.files import generate_files

    separator = load_model(model, device, codec_dir)
    folders = generate_files(separator, out, **options)
    print(f"wrote {', '.join(separator.sources)} and mix in {len(folders)} folders in {out}")


def evaluate(
    models: list[str],
    slakh_dir: Path | None,
    clips: Path | None,
    out: Path,
    device: str,
    codec_dir: str | None,
    **options: Any,
) -> None:
    """Score models on clips with true stems, beside floors and ceilings.

    Models keep their stored assignment of components to sources. A baseline that was trained by
    MixIT gets its own on the validation split of --slakh_dir, and keeps it.
    """
    from asteroid_ucr.data.clips import Clip, folder_clips, slakh_clips
    from asteroid_ucr.evaluation.model_rows import demucs_row, file_rows, trained_rows
    from asteroid_ucr.evaluation.separation import evaluate as run
    from asteroid_ucr.reports.score_tables import print_results

    loaded = {name: load_model(name, device, codec_dir) for name in models}
    sources = next(iter(loaded.values())).sources
    validation: list[Clip] = []
    if clips:
        test = folder_clips(clips, sources)
    else:
        settings = {
            "seconds": options["segment_seconds"],
            "mix": options["mix"],
            "allow_shared_midi": options["allow_shared_midi"],
        }
        test = slakh_clips(slakh_dir, "test", sources, max_clips=options["max_clips"], **settings)
        validation = list(slakh_clips(slakh_dir, "validation", sources, **settings))
    extra = trained_rows(options["compare"], sources, validation)
    if options["pretrained"]:
        extra.append(demucs_row(options["pretrained"], sources))
    if clips and options["estimates"]:
        extra += file_rows(options["estimates"])
    results = run(
        loaded,
        test,
        validation,
        out,
        options["steps"],
        options["seeds"],
        bss_eval=not options["no_bss_eval"],
        extra_rows=extra,
    )
    print_results(results)


def doctor(folder: Path, listen: bool) -> None:
    """Examine a Slakh tree and name its faults."""
    from asteroid_ucr.data.doctor import examine
    from asteroid_ucr.data.slakh import find_splits

    find_splits(folder)
    print("\n".join(examine(folder, listen=listen, progress=True).lines()))


def benchmark(**options: Any) -> None:
    """Measure what separation costs, beside Conv-TasNet, HDemucs and, if installed, HTDemucs."""
    from asteroid_ucr.benchmark import run_benchmark
    from asteroid_ucr.reports.cost_table import print_costs

    print_costs(run_benchmark(**options))
    print(f"wrote {options['out']}")


def results(folders: list[str], out: Path, benchmark: Path | None) -> None:
    """Write tables and plots of evaluations, and the costs of a benchmark, as Markdown."""
    from asteroid_ucr.reports.results_page import write_results

    print(f"wrote {write_results(folders, out, benchmark)}")


def minislakh(**options: Any) -> None:
    """Compose and render mini-Slakh, or render MIDI files in its form (stage 0)."""
    from asteroid_ucr.minislakh import build

    build(**options)


def select(model: str, sources: list[str], out: Path) -> None:
    """Make a model of some of another one's sources, for mixtures that hold no others."""
    from asteroid_ucr.utils.atomic import make_folder

    load_model(model, "cpu").select(sources).save(make_folder(out) / "best_model.pth")


def report(exp_dir: Path) -> None:
    """Write the page and the publishable package of an experiment (stage 6)."""
    from asteroid_ucr.reports.page import write_report
    from asteroid_ucr.reports.publish import write_package

    print(f"wrote {write_report(exp_dir)}")
    print(f"wrote {write_package(exp_dir)}")


def info(model: str) -> None:
    """Say what a model is."""
    loaded = load_model(model, "cpu")
    arguments = loaded.get_model_args()
    prior = arguments.get("prior")
    rows = {
        "sources": ", ".join(loaded.sources),
        "sample rate": f"{loaded.sample_rate} Hz",
        "parameters": f"{sum(p.numel() for p in loaded.parameters()) / 1e6:.2f} million, "
        "without the codec's",
        "codec": loaded.codec.fingerprint,
        "prior": ", ".join(f"{k} {v}" for k, v in prior.items()) if prior else "none",
        **{k: v for k, v in arguments.items() if k not in _TOLD},
    }
    width = max(map(len, rows))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))


# In rows of their own, or too long for one.
_TOLD = ("sources", "sample_rate", "codec", "prior", "render_gain")


def infer(arguments: Sequence[str]) -> int:
    """Run asteroid-infer with this package's models registered."""
    from asteroid.scripts.asteroid_cli import infer as run

    if not any(a.startswith("--ola-window-type") for a in arguments):
        # Asteroid's own default, "hanning", is gone from scipy.
        arguments = [*arguments, "--ola-window-type", "hann"]
    for flag in ("-o", "--output-dir"):
        if flag in arguments[:-1]:
            Path(arguments[arguments.index(flag) + 1]).mkdir(parents=True, exist_ok=True)
    run(list(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
