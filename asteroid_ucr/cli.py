"""The command `asteroid-ucr`, and its sub-commands that use models.

Those of the recipe are in `recipe`, and those that measure in `measure`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any

from asteroid_ucr import __version__, demo, measure, recipe  # noqa: F401 (they have commands)
from asteroid_ucr.commands import (
    CODEC_DIR,
    COMMANDS,
    DEVICE,
    MODEL,
    Parser,
    as_a_process,
    command,
    exit_code,
    option,
    out_option,
    set_up_logging,
)
from asteroid_ucr.config import load_model
from asteroid_ucr.utils.errors import UserError

REPEATED = {"action": "append", "default": []}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    if arguments is None:
        as_a_process()
    given = set_up_logging(sys.argv[1:] if arguments is None else arguments)
    return exit_code(lambda: _run(given))


def _run(arguments: list[str]) -> int | None:
    """Runs the named sub-command, or prints the help or the version."""
    name, *rest = arguments or ["--help"]
    if name not in COMMANDS:
        build_parser().parse_args([name])
    return COMMANDS[name].run(name, rest)


def build_parser(options: bool = False) -> Parser:
    """The parser of the command's first argument; each sub-command parses those that follow.

    Args:
        options: Whether the sub-commands have their options, which completion needs.
    """
    parser = Parser(
        prog="asteroid-ucr",
        description="Separates music into stems with a model trained only on mixtures.",
        epilog="Every command has its own --help, and takes --quiet, which leaves errors only, and "
        "--verbose, which says more. egs/slakh_ucr/run.sh runs the steps of the recipe in their "
        "order.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in sorted(COMMANDS, key=lambda name: COMMANDS[name].function.__module__):
        added = commands.add_parser(name, help=COMMANDS[name].summary)
        if options:
            COMMANDS[name].add_options(added)
    return parser


_UNUSED = "Taken for the sake of asteroid-infer's callers; any rate and length is handled."


@command(
    option("files", nargs="+", metavar="FILE", help="Sound files, folders or globs."),
    out_option("separated", "Output folder.", metavar="DIR"),
    option("--model", required=True, help=MODEL),
    option(
        "--filename",
        default="{track}/{stem}.{ext}",
        metavar="TEMPLATE",
        help="Path below DIR, of {track}, {stem}, {ext}, {model}, {number} (default: %(default)s).",
    ),
    option("--stems", nargs="+", metavar="SOURCE", help="Sources to write (default: all)."),
    option("--residual", action="store_true", help="With --stems: also write the rest, summed."),
    option("--format", choices=["wav", "flac", "mp3", "ogg"], default="wav", help="Their format."),
    option("--bits", type=int, choices=[16, 24, 32], help="32: float, for wav; default: the most."),
    option(
        "--clip",
        choices=["rescale", "clamp", "refuse"],
        default="rescale",
        help="If stems exceed full scale, except in float: rescale all, clamp, or refuse.",
    ),
    option("--overwrite", action="store_true", help="Replace stems that exist."),
    option("--skip-existing", action="store_true", help="Leave songs whose stems exist."),
    option("-j", "--jobs", type=int, default=1, metavar="N", help="Songs at the same time."),
    option("--chunk", type=int, default=30, metavar="SECONDS", help="Audio in memory at a time."),
    option("--seed", type=int, help="Seed of the sampler's noise."),
    option("--steps", type=int, help="Steps of the sampler; 1 gives the conditional mean."),
    DEVICE,
    CODEC_DIR,
)
def separate(files: list[str], out: Path | None, model: str, device: str, **options: Any) -> int:
    """Separate sound files into named stems.

    Writes DIR/<path of the file without ending>/<source>.wav at each file's own rate and channels.
    The stems add up to the mixture. Songs whose stems exist fail, unless --skip-existing or
    --overwrite is given, and stems that this program wrote are not taken for songs. A song that
    fails is reported, and the others go on.
    """
    from asteroid_ucr import batch
    from asteroid_ucr.utils.stems import check_format

    if options["overwrite"] and options["skip_existing"]:
        raise UserError("Give either --overwrite or --skip-existing.")
    existing = "replace" if options["overwrite"] else "refuse"
    existing = "skip" if options["skip_existing"] else existing
    template, suffix = options["filename"], options["format"]
    settings = {name: options[name] for name in ("bits", "clip", "steps", "seed")}
    check_format(suffix, settings["bits"])
    batch.check_template(template, suffix)
    songs = batch.find_songs(files)
    separator = load_model(model, device, options["codec_dir"])
    mark = batch.model_mark(separator, model)
    stems = batch.choose_stems(separator.sources, options["stems"], options["residual"])
    jobs = batch.plan_jobs(songs, stems, out, template, suffix, mark)
    settings["chunk_seconds"] = options["chunk"]
    failed = batch.separate_all(separator, jobs, mark, existing, options["jobs"], **settings)
    place = out or "the folders of the songs"
    print(f"{', '.join(stems)} of {len(jobs) - failed} of {len(jobs)} songs are in {place}")
    return 2 if failed else 0


@command(
    option("model", metavar="MODEL", help=MODEL),
    option("--files", nargs="+", required=True, help="Sound files, folders or globs."),
    option("-f", "--force-overwrite", action="store_true", help="Replace stems that exist."),
    option("-o", "--output-dir", type=Path, help="Output folder (default: that of each file)."),
    option("-d", "--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps."),
    option("-r", "--resample", action="store_true", help=_UNUSED),
    option("-w", "--ola-window", type=int, help=_UNUSED),
    option("--ola-hop", type=int, help=_UNUSED),
    option("--ola-window-type", help=_UNUSED),
    option("--ola-no-reorder", action="store_true", help=_UNUSED),
)
def infer(
    model: str, files: list[str], output_dir: Path | None, device: str, **options: Any
) -> int:
    """Separate with the arguments of asteroid-infer, into FILE_est1.wav, FILE_est2.wav and so on.

    The separation is that of `separate`: channels and rate are kept, and no window is needed.
    """
    words = ["--filename", "{track}_est{number}.{ext}", "--model", model, "--device", device]
    words.append("--overwrite" if options["force_overwrite"] else "--skip-existing")
    given = vars(COMMANDS["separate"].parser("separate").parse_args([*words, "--", *files]))
    return separate(**{**given, "out": output_dir})


@command(
    option("model", metavar="MODEL", help=MODEL),
    out_option("generated", "Output folder.", metavar="DIR"),
    option("--seconds", type=float, help="Length (default: that of the given audio, or 10)."),
    option(
        "--keep",
        **REPEATED,
        metavar="SOURCE=FILE",
        help="Stem to accompany; SOURCE alone keeps that of --mixture; may be repeated.",
    ),
    option(
        "--inpaint",
        **REPEATED,
        metavar="SOURCE=FROM-TO",
        help="Part of a stem to keep that is made anew, in seconds; may be repeated.",
    ),
    option("--mixture", type=Path, help="Mixture to vary."),
    option("--strength", type=float, help="How much to vary: 0 gives the mixture, 1 is all new."),
    option("--count", type=int, default=1, help="Number of items to generate."),
    option("--seed", type=int, default=0, help="Seed of the first item; the others count up."),
    option("--steps", type=int, help="Steps of the prior's sampler (default: 25)."),
    option("--guidance", type=float, help="Weight of what is kept; above 1, closer (default: 1)."),
    option("--render_steps", type=int, help="Steps of the denoiser's sampler."),
    DEVICE,
    CODEC_DIR,
)
def generate(model: str, device: str, codec_dir: str | None, out: Path, **options: Any) -> None:
    """Generate sources with a model's prior.

    Writes DIR/<seed>/<source>.wav and DIR/<seed>/mix.wav, 32-bit float. With --keep, generates what
    accompanies these stems; with --inpaint, parts of them; with --mixture and --strength, a
    variation of a mixture; with none, music from nothing.
    """
    from asteroid_ucr.files import generate_files

    separator = load_model(model, device, codec_dir)
    given = {name: value for name, value in options.items() if value is not None}
    folders = generate_files(separator, out, **given)
    print(f"wrote {', '.join(separator.sources)} and mix of {len(folders)} items to {out}")


@command(
    option("model", metavar="MODEL", help=MODEL),
    option("root", metavar="DIR", help="Folder or list of audio, or Slakh tree."),
    out_option(None, "Folder of the new model.", metavar="NEW"),
    option("--steps", type=int, default=80, help="Steps of training."),
    option("--seed", type=int, default=0, help="Seed of the training."),
    DEVICE,
)
def adapt(model: str, root: str, out: Path, steps: int, seed: int, device: str) -> None:
    """Adapt a model to the sounds of your own songs, without stems.

    Separates the songs, and trains the model on sums of its own estimates. Then it compares the
    model before and after on songs that were held out: by their stems if they have any (folders
    SONG/{mix,drums,…}.wav), and otherwise by examples to listen to. The same command, started
    again, keeps what is done.
    """
    from asteroid_ucr.data.datasets import describe, load_tracks
    from asteroid_ucr.evaluation.adaptation import compare, held_out_clips
    from asteroid_ucr.training.adapt import adapt as run
    from asteroid_ucr.training.adapt import with_validation

    before = load_model(model, device)
    print("\n".join(describe(root)))
    data = with_validation(root, before.sources, out)
    songs = {
        split: len(load_tracks(data, split, sources=before.sources))
        for split in ("train", "validation")
    }
    print(
        f"{model} learns from {songs['train']} of these songs, and is compared on "
        f"{songs['validation']} others"
    )
    clips = held_out_clips(data, before.sources)
    path = run(model, data, out, steps, seed, device)
    print(compare({"before": before, "after": load_model(path, device)}, clips, out))
    print(f"wrote {path}")


@command(
    option("folder", type=Path, metavar="DIR", help="Slakh tree, folder or list of audio."),
    option("--no_listen", action="store_true", help="Read headers only, much faster."),
)
def doctor(folder: Path, no_listen: bool) -> None:
    """Examine a Slakh tree, a folder of audio or a list of files, and name its faults.

    All audio of a Slakh tree is read: silence, clipping, levels, tuning against the MIDI.
    """
    from asteroid_ucr.data.datasets import describe, is_slakh
    from asteroid_ucr.data.doctor import examine
    from asteroid_ucr.data.slakh import find_splits

    if not is_slakh(folder):
        print("\n".join(describe(folder)))
        return
    find_splits(folder)
    print("\n".join(examine(folder, listen=not no_listen, progress=True).lines()))


@command(option("model", metavar="MODEL", help=MODEL))
def info(model: str) -> None:
    """Say what a model is."""
    loaded = load_model(model, "cpu")
    arguments = loaded.get_model_args()
    parts = {part: arguments.get(part) for part in ("renderer", "prior")}
    millions = sum(p.numel() for p in loaded.parameters()) / 1e6
    apart = ("sources", "sample_rate", "codec", *parts, "render_gain")  # in rows of their own
    rows = {
        "sources": ", ".join(loaded.sources),
        "sample rate": f"{loaded.sample_rate} Hz",
        "parameters": f"{millions:.2f} million, without the codec's",
        "codec": loaded.codec.fingerprint,
        **{
            k: ", ".join(f"{n} {v}" for n, v in p.items()) if p else "none"
            for k, p in parts.items()
        },
        **{k: v for k, v in arguments.items() if k not in apart},
    }
    width = max(map(len, rows))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))


@command(option("--json", action="store_true", help="Print JSON, for programs."))
def models(json: bool) -> None:
    """List the bundled models and their sources."""
    from asteroid_ucr.store import bundled_models, load_checkpoint

    found = {name: load_checkpoint(name)["model_args"] for name in bundled_models()}
    fields = ("sources", "sample_rate", "codec")
    rows = [{"name": name} | {k: about[k] for k in fields} for name, about in found.items()]
    if json:
        print(dumps(rows, indent=1))
        return
    for row in rows:
        print(f"{row['name']:<18}{', '.join(row['sources'])} ({row['sample_rate']:g} Hz)")


@command()
def env() -> None:
    """Print versions and devices, for reports of faults."""
    import platform
    import shutil
    from importlib.metadata import version

    import torch

    print(f"asteroid-ucr {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for package in ("torch", "torchaudio", "asteroid", "pytorch-lightning", "numpy", "soundfile"):
        print(package, version(package))
    cuda = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    print(f"CUDA: {', '.join(cuda) or 'none'}; MPS: {torch.backends.mps.is_available()}")
    print(f"CPU threads: {torch.get_num_threads()}; ffmpeg: {shutil.which('ffmpeg')}")


@command(option("shell", help="bash, zsh or tcsh."))
def completion(shell: str) -> None:
    """Print a script for the shell that completes commands and options.

    For bash: eval "$(asteroid-ucr completion bash)".
    """
    try:
        import shtab
    except ImportError:
        raise UserError("Completion needs shtab: run `pip install shtab`.") from None
    if shell not in shtab.SUPPORTED_SHELLS:
        raise UserError(f"Shell {shell!r} is unknown: choose {', '.join(shtab.SUPPORTED_SHELLS)}.")
    print(shtab.complete(build_parser(options=True), shell))


@command(
    option("model", metavar="MODEL", help=MODEL),
    option("--sources", required=True, nargs="+", help="Sources to keep, in the new order."),
    out_option(None, "Folder of best_model.pth.", metavar="DIR"),
)
def select(model: str, sources: list[str], out: Path) -> None:
    """Make a model of some of another one's sources, for mixtures that hold no others."""
    from asteroid_ucr.utils.atomic import refuse_inputs

    chosen, target = load_model(model, "cpu").select(sources), out / "best_model.pth"
    refuse_inputs([target], [model, Path(model) / target.name])
    chosen.save(target)
