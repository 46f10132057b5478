"""The command `asteroid-ucr`."""

from __future__ import annotations

import argparse
import glob
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from asteroid_ucr import UCRSeparator, UserError, __version__
from asteroid_ucr.generation.sampling import STEPS
from asteroid_ucr.utils.audio import AUDIO_SUFFIXES
from asteroid_ucr.utils.device import pick_device


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0, or 2 after a mistake that the user can mend."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["infer"]:  # Asteroid parses these arguments itself
        return exit_code(lambda: _infer(arguments[1:]))
    options = build_parser().parse_args(arguments)
    return exit_code(lambda: options.run(options))


def exit_code(command: Callable[[], int | None]) -> int:
    """Runs a command, printing a `UserError` as one line; returns the process's exit code."""
    try:
        return command() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands but `infer`."""
    parser = argparse.ArgumentParser(
        prog="asteroid-ucr",
        description="Takes music apart into its sources, by a model that never heard one alone.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    separate = commands.add_parser(
        "separate", help="separate sound files into named stems", description=_separate.__doc__
    )
    separate.add_argument("files", nargs="+", metavar="FILE", help="sound files, folders or globs")
    separate.add_argument("-o", "--out", type=Path, default=Path("separated"), metavar="DIR")
    separate.add_argument("--format", choices=["wav", "flac"], default="wav")
    separate.add_argument(
        "--chunk", type=int, default=30, metavar="SECONDS", help="audio in memory at a time"
    )
    _add_model_options(separate)
    separate.set_defaults(run=_separate)

    generate = commands.add_parser(
        "generate", help="generate sources with a model's prior", description=_generate.__doc__
    )
    generate.add_argument("model", metavar="MODEL", help="bundled name, file, folder or hub id")
    generate.add_argument("-o", "--out", type=Path, default=Path("generated"), metavar="DIR")
    generate.add_argument(
        "--seconds", type=float, help="default: the length of what is given, or else 10"
    )
    generate.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="SOURCE=FILE",
        help="a stem to go with; SOURCE alone keeps that of --mixture; may be repeated",
    )
    generate.add_argument("--mixture", type=Path, metavar="FILE", help="what to vary")
    generate.add_argument(
        "--strength", type=float, help="of the variation: 0 is the mixture, 1 is all new"
    )
    generate.add_argument("--count", type=int, default=1, help="how many to generate")
    generate.add_argument("--seed", type=int, default=0, help="of the first; the next has the next")
    generate.add_argument("--steps", type=int, default=STEPS, help="of the prior's sampler")
    generate.add_argument("--render_steps", type=int, help="of the denoiser's sampler")
    generate.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    generate.add_argument("--codec_dir", help="folder of the codec's published weights")
    generate.set_defaults(run=_generate)

    evaluate = commands.add_parser(
        "evaluate", help="score models beside floors and ceilings", description=_evaluate.__doc__
    )
    evaluate.add_argument("models", nargs="+", metavar="MODEL", help="several: training seeds")
    data = evaluate.add_mutually_exclusive_group(required=True)
    data.add_argument("--slakh_dir", type=Path, help="a Slakh tree: its test split is scored")
    data.add_argument("--clips", type=Path, help="a folder of CLIP/{mix,drums,…}.wav")
    evaluate.add_argument(
        "--estimates", metavar="SUFFIX", help="also score CLIP/<source>SUFFIX.wav, with --clips"
    )
    evaluate.add_argument(
        "--compare", nargs="+", default=[], metavar="FILE", help="trained baselines to score too"
    )
    evaluate.add_argument("--pretrained", metavar="NAME", help="Demucs weights, such as htdemucs")
    evaluate.add_argument("-o", "--out", type=Path, default=Path("evaluated"), metavar="DIR")
    evaluate.add_argument("--steps", type=int, nargs="+", default=[1, 25])
    evaluate.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the noise")
    evaluate.add_argument("--max_clips", type=int)
    evaluate.add_argument("--segment_seconds", type=float, default=7.0)
    evaluate.add_argument("--mix", choices=["sum", "paper_mean"], default="sum")
    evaluate.add_argument("--allow_shared_midi", action="store_true")
    evaluate.add_argument("--no_bss_eval", action="store_true", help="skip the slow BSS-eval v4")
    evaluate.add_argument("--codec_dir", help="folder of the codec's published weights")
    evaluate.add_argument("--device", default="auto")
    evaluate.set_defaults(run=_evaluate)

    doctor = commands.add_parser("doctor", help="examine a Slakh tree and name its faults")
    doctor.add_argument("folder", type=Path, metavar="DIR")
    doctor.add_argument(
        "--no_listen", action="store_true", help="read headers only: silent stems go unnoticed"
    )
    doctor.set_defaults(run=_doctor)

    benchmark = commands.add_parser(
        "benchmark", help="measure what separation costs", description=_benchmark.__doc__
    )
    benchmark.add_argument("-o", "--out", type=Path, default=Path("benchmark.json"))
    benchmark.add_argument("--model", help="default: the reference configuration, untrained")
    benchmark.add_argument(
        "--against", nargs="*", metavar="NAME", help="convtasnet, hdemucs, htdemucs (default: all)"
    )
    benchmark.add_argument("--seconds", type=float, default=10.0, help="of audio at a time")
    benchmark.add_argument("--repeats", type=int, default=5)
    benchmark.add_argument("--threads", type=int, nargs="+", default=[], help="default: 1 and all")
    benchmark.add_argument(
        "--lengths", type=float, nargs="*", default=[10.0, 60.0, 600.0], help="in s, for the memory"
    )
    benchmark.add_argument("--batch", type=int, default=4, help="crops per training step")
    benchmark.add_argument("--crop", type=float, default=4.0, help="seconds per crop")
    benchmark.set_defaults(run=_benchmark)

    results = commands.add_parser(
        "results", help="write evaluations as a page", description=_results.__doc__
    )
    results.add_argument("folders", nargs="+", metavar="EXP", help="folders of evaluations")
    results.add_argument("-o", "--out", type=Path, default=Path("results.md"))
    results.add_argument("--benchmark", type=Path, metavar="JSON", help="adds the table of costs")
    results.set_defaults(run=_results)

    info = commands.add_parser("info", help="say what a model is")
    info.add_argument("model", metavar="MODEL")
    info.set_defaults(run=_info)

    commands.add_parser("infer", help="asteroid-infer's arguments, for this package's models")
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="bundled name, file, folder or hub id")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--seed", type=int, help="of the sampler's noise")
    parser.add_argument("--steps", type=int, help="of the sampler; 1 is the conditional mean")
    parser.add_argument("--codec_dir", help="folder of the codec's published weights")


def load_model(name: str, device: str, codec_dir: str | None = None) -> UCRSeparator:
    """Loads a model onto a device.

    Raises:
        UserError: if there is no such model or device.
    """
    target = pick_device(device)
    options = {"codec_dir": codec_dir} if codec_dir else {}
    return UCRSeparator.from_pretrained(name, **options).to(target)


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


def _separate(options: argparse.Namespace) -> int:
    """Writes DIR/<file name without ending>/<source>.wav at each file's own rate and channels.

    Stems add up to the mixture. A file that fails is reported, and the others go on.
    """
    from tqdm import tqdm

    from asteroid_ucr.files import output_folders, separate_file

    folders = output_folders(expand(options.files), options.out)
    model = load_model(options.model, options.device, options.codec_dir)
    failed = 0
    for file, folder in folders.items():
        with tqdm(total=100, desc=file.name, unit="%", disable=None) as bar:
            try:
                separate_file(
                    model,
                    file,
                    folder,
                    options.format,
                    options.steps,
                    options.seed,
                    options.chunk,
                    lambda done: bar.update(round(100 * done) - bar.n),
                )
            except UserError as error:
                failed += 1
                print(f"error: {error}", file=sys.stderr)
    if failed and len(folders) > 1:
        print(f"{failed} of {len(folders)} files failed.", file=sys.stderr)
    return 2 if failed else 0


def _generate(options: argparse.Namespace) -> int:
    """Writes DIR/<seed>/<source>.wav and DIR/<seed>/mix.wav, mono, 32-bit float.

    Without --keep and --mixture, from nothing; with --keep, an accompaniment of these stems, which
    are written as they are; with --mixture and --strength, a variation of a mixture.
    """
    from asteroid_ucr.generation.files import generate_files

    model = load_model(options.model, options.device, options.codec_dir)
    folders = generate_files(
        model,
        options.out,
        options.seconds,
        options.keep,
        options.mixture,
        options.strength,
        options.count,
        options.seed,
        options.steps,
        options.render_steps,
    )
    print(f"wrote {', '.join(model.sources)} and mix in {len(folders)} folders in {options.out}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    """Scores models on clips with true stems, beside the mixture, classical methods and oracles.

    Models keep their stored assignment of components to sources; a baseline that was trained by
    MixIT gets its own on the validation split of --slakh_dir, and keeps it. Results go to DIR.
    """
    from asteroid_ucr.baselines.demucs import demucs_row
    from asteroid_ucr.data.clips import Clip, folder_clips, slakh_clips
    from asteroid_ucr.evaluation.evaluate import evaluate
    from asteroid_ucr.evaluation.published_rows import file_estimates
    from asteroid_ucr.evaluation.trained_rows import trained_rows

    models = {n: load_model(n, options.device, options.codec_dir) for n in options.models}
    sources = next(iter(models.values())).sources
    validation: list[Clip] = []
    if options.clips:
        clips = folder_clips(options.clips, sources)
    else:
        settings = {
            "seconds": options.segment_seconds,
            "mix": options.mix,
            "allow_shared_midi": options.allow_shared_midi,
        }
        clips = slakh_clips(
            options.slakh_dir, "test", sources, max_clips=options.max_clips, **settings
        )
        validation = list(slakh_clips(options.slakh_dir, "validation", sources, **settings))
    extra = trained_rows(options.compare, sources, validation)
    if options.pretrained:
        extra.append(demucs_row(options.pretrained, sources))
    if options.clips and options.estimates:
        extra += file_estimates(options.clips, options.estimates)
    evaluate(
        models,
        clips,
        validation,
        options.out,
        options.steps,
        options.seeds,
        bss_eval=not options.no_bss_eval,
        extra_rows=extra,
    )
    return 0


def _doctor(options: argparse.Namespace) -> int:
    """Examines a Slakh tree; finding faults is success, finding no tree is an error."""
    from asteroid_ucr.data.doctor import examine
    from asteroid_ucr.data.slakh import find_splits

    find_splits(options.folder)
    print("\n".join(examine(options.folder, listen=not options.no_listen).lines()))
    return 0


def _benchmark(options: argparse.Namespace) -> int:
    """Counts and times ours, Conv-TasNet, HDemucs and, where installed, HTDemucs, in turns."""
    from asteroid_ucr.benchmark import run_benchmark

    settings = {k: v for k, v in vars(options).items() if k != "run"}
    run_benchmark(**settings)
    return 0


def _results(options: argparse.Namespace) -> int:
    """Writes tables and plots of evaluations, and the costs of a benchmark, as Markdown."""
    from asteroid_ucr.reports.results_page import write_results

    print(f"wrote {write_results(options.folders, options.out, options.benchmark)}")
    return 0


def _info(options: argparse.Namespace) -> int:
    model = load_model(options.model, "cpu")
    parameters = sum(p.numel() for p in model.parameters())
    arguments = model.get_model_args()
    rows = {
        "sources": ", ".join(model.sources),
        "sample rate": f"{model.sample_rate} Hz",
        "parameters": f"{parameters / 1e6:.2f} million, without the codec's",
        "codec": model.codec.fingerprint,
        "prior": "none" if model.prior is None else _described(arguments["prior"]),
        **{k: v for k, v in arguments.items() if k not in _TOLD},
    }
    width = max(map(len, rows))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
    return 0


# In rows of their own, or too long for one.
_TOLD = ("sources", "sample_rate", "codec", "prior", "render_gain")


def _described(options: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())


def _infer(arguments: Sequence[str]) -> int:
    """`asteroid-infer`, with this package's models registered."""
    from asteroid.scripts.asteroid_cli import infer

    if not any(a.startswith("--ola-window-type") for a in arguments):
        # Asteroid's own default, "hanning", is gone from scipy.
        arguments = [*arguments, "--ola-window-type", "hann"]
    if "-o" in arguments[:-1] or "--output-dir" in arguments[:-1]:
        flag = "-o" if "-o" in arguments else "--output-dir"
        Path(arguments[arguments.index(flag) + 1]).mkdir(parents=True, exist_ok=True)
    infer(list(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
