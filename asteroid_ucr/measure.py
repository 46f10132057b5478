"""Sub-commands that measure: scores, costs, and pages of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asteroid_ucr.commands import CODEC_DIR, DEVICE, command, option, out_option
from asteroid_ucr.config import load_model
from asteroid_ucr.utils.errors import UserError

PUBLISHED = ("msdm", "museval", "asteroid")


@command(
    option("models", nargs="+", metavar="MODEL", help="Models to score; several training seeds."),
    option(
        "--slakh_dir", type=Path, help="Slakh tree or folder of songs, whose test split is scored."
    ),
    option("--clips", type=Path, help="Folder of CLIP/{mix,drums,…}.wav to score instead."),
    option("--estimates", metavar="SUFFIX", help="With --clips: also score CLIP/SOURCE<SUFFIX>."),
    option("--compare", nargs="+", default=[], metavar="MODEL", help="Other models to score."),
    option("--pretrained", metavar="NAME", help="Published Demucs weights to score: htdemucs."),
    out_option("evaluated", "Output folder.", metavar="DIR"),
    option("--steps", type=int, nargs="+", default=[1, 25], help="Sampler steps to score."),
    option("--seeds", type=int, nargs="+", default=[0], help="Seeds of the sampler's noise."),
    option("--max_clips", type=int, help="Most clips, spread over the tracks (default: all)."),
    option("--segment_seconds", type=float, default=7.0, help="Length of a clip."),
    option("--mix", choices=["sum", "paper_mean"], default="sum", help="How sources are mixed."),
    option("--allow_shared_midi", action="store_true", help="Score songs that training shares."),
    option("--protocols", nargs="+", choices=PUBLISHED, default=[], help="Published ones to add."),
    option("--no_bss_eval", action="store_true", help="Leave out the slow BSS-eval v4."),
    DEVICE,
    CODEC_DIR,
)
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

    Give either --slakh_dir or --clips. Models keep their stored assignment of components to
    sources. A baseline that was trained by MixIT gets its own on the validation split of
    --slakh_dir, and keeps it.
    """
    from asteroid_ucr.data.clips import Clip, folder_clips, slakh_clips
    from asteroid_ucr.evaluation.model_rows import demucs_row, file_rows, trained_rows
    from asteroid_ucr.evaluation.separation import evaluate as run
    from asteroid_ucr.reports.score_tables import print_results

    if (slakh_dir is None) == (clips is None):
        raise UserError("Give either --slakh_dir or --clips: it names the clips to score.")
    if options["max_clips"] and options["protocols"]:
        raise UserError("--protocols needs whole tracks: leave --max_clips out.")
    loaded = {name: load_model(name, device, codec_dir) for name in models}
    sources = next(iter(loaded.values())).sources
    validation: list[Clip] = []
    if clips:
        test = folder_clips(clips, sources)
    else:
        settings = {name: options[name] for name in ("mix", "allow_shared_midi")}
        settings["seconds"] = options["segment_seconds"]
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
        protocols=options["protocols"],
    )
    print_results(results)


@command(
    out_option("benchmark.json", "File to write."),
    option("--model", help="Model to measure (default: the paper's configuration, untrained)."),
    option(
        "--against",
        nargs="*",
        metavar="NAME",
        help="convtasnet, hdemucs, htdemucs (default: all that are installed).",
    ),
    option("--seconds", type=float, default=10.0, help="Length of the audio."),
    option("--repeats", type=int, default=5, help="Repetitions of each measurement."),
    option("--threads", type=int, nargs="+", default=[], help="CPU threads (default: 1 and all)."),
    option(
        "--lengths",
        type=float,
        nargs="*",
        default=[10.0, 60.0, 600.0],
        help="Seconds of the files whose peak memory is measured.",
    ),
    option("--batch", type=int, default=4, help="Crops per training step."),
    option("--crop", type=float, default=4.0, help="Seconds per crop."),
)
def benchmark(**options: Any) -> None:
    """Measure what separation costs, beside Conv-TasNet, HDemucs and, if installed, HTDemucs."""
    from asteroid_ucr.benchmark import run_benchmark
    from asteroid_ucr.reports.results_page import cost_table

    print(cost_table(run_benchmark(**options)).text())
    print(f"wrote {options['out']}")


@command(
    option("folders", nargs="+", metavar="EXP", help="Folders of evaluations."),
    out_option("results.md", "Page to write."),
    option("--benchmark", type=Path, metavar="JSON", help="Costs that `benchmark` measured."),
)
def results(folders: list[str], out: Path, benchmark: Path | None) -> None:
    """Write tables and plots of evaluations, and the costs of a benchmark, as Markdown."""
    from asteroid_ucr.reports.results_page import write_results

    print(f"wrote {write_results(folders, out, benchmark)}")
