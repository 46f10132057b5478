"""The recipe's configuration: typed, checked, from a YAML file and command-line options."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.errors import UserError


@dataclass
class DataConfig:
    """Which audio to use.

    Attributes:
        root: folder of the Slakh tree.
        cache: folder of the latent caches.
        solos: folder of solos, from find_solos.py; used where training.solo_share is not 0.
        sources: names of the sources that make up the mixtures, in output order.
        mix: policy by which sources are mixed.
        allow_shared_midi: use validation and test tracks that share MIDI with training tracks.
        workers: processes that read data; 0 reads in the main process.
    """

    root: str = "data/minislakh"
    cache: str = "data/cache"
    solos: str = "data/solos"
    sources: list[str] = field(default_factory=lambda: ["drums", "bass"])
    mix: Literal["sum", "paper_mean"] = "sum"
    allow_shared_midi: bool = False
    workers: int = 0


@dataclass
class CodecConfig:
    """Which latents to use.

    Attributes:
        name: of the codec.
        dir: folder of the codec's published weights.
        weights: a state dict to use instead of the published weights.
        bandwidth: of EnCodec, in kbit/s; 0 takes its un-quantised latents, null the paper's 24.
    """

    name: str = "mel"
    dir: str | None = None
    weights: str | None = None
    bandwidth: float | None = None

    def options(self) -> dict[str, object]:
        """Arguments for `asteroid_ucr.codecs.build_codec`."""
        if self.name != "encodec_24khz":
            return {}
        chosen = {} if self.bandwidth is None else {"bandwidth": self.bandwidth}
        return {**chosen, "codec_dir": self.dir, "weights": self.weights}


@dataclass
class ModelConfig:
    """The decomposition model; see `asteroid_ucr.UCRSeparator`."""

    latent_dim: int = 1
    encoder_widths: list[int] = field(default_factory=lambda: [256, 512])
    denoiser: Literal["unet1d", "unet2d"] = "unet1d"
    denoiser_widths: list[int] = field(default_factory=lambda: [128, 256, 256, 512])
    denoiser_kernels: list[int] = field(default_factory=lambda: [5, 3, 3, 3])
    time_embedding: bool = True
    composition: Literal["mean", "sum", "power_sum"] = "mean"
    alpha_start: float = 0.0


@dataclass
class TrainingConfig:
    """How to train.

    Attributes:
        seed: of weights, crops, noise and α.
        steps: optimizer steps in all.
        minutes: stop after the first epoch that ends beyond this time; null sets no limit.
        epoch_steps: steps between validations, checkpoints and log lines.
        batch_size: crops per step and device.
        frames: latent frames per crop, 75 per second.
        min_rms: training crops in which a source's RMS is lower are drawn again; 0 keeps all.
        lr: peak learning rate of AdamW.
        weight_decay: of AdamW.
        schedule: of the learning rate, after the warm-up.
        warmup_steps: over which the learning rate rises linearly.
        clip_norm: gradients are scaled down to this norm.
        ema_decay: of the averaged weights, which are the ones validated and saved.
        validation_items: crops per validation, always the same.
        accelerator: "auto", "cpu", "gpu", as Lightning names them.
        devices: number of devices, or "auto".
        strategy: of distribution over devices, as Lightning names them.
        precision: "auto" is bfloat16 mixed where the hardware has it, else 32 bit.
    """

    seed: int = 0
    steps: int = 100_000
    minutes: float | None = None
    epoch_steps: int = 1000
    batch_size: int = 64
    frames: int = 512
    min_rms: float = 0.01
    lr: float = 1e-4
    weight_decay: float = 0.01
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 500
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    validation_items: int = 64
    accelerator: str = "auto"
    devices: str = "auto"
    strategy: str = "auto"
    precision: str = "auto"


@dataclass
class DecompositionTrainingConfig(TrainingConfig):
    """How to train the decomposition.

    Attributes:
        solo_share: share of each batch that are sums of solos: passages in which one instrument
            plays alone, found in mixtures (`asteroid_ucr.solos`), so that the components of
            their sum are known. 0 is the paper's training.
        mask_weight: weight, for sums of solos and the supervised twin, of errors of the soft masks
            beside errors of the latents (`asteroid_ucr.solos.loss.mask_loss`).
    """

    solo_share: float = 0.0
    mask_weight: float = 8.0


@dataclass
class PriorConfig(TrainingConfig):
    """The masking prior and how to train it, on crops of component latents.

    The training's options have the same names and meanings as the decomposition's.

    Attributes:
        widths: channels of the U-Net's levels.
        kernels: kernel sizes of its levels.
        all_masked: probability that all components are masked; the other masks share the rest.
    """

    widths: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    kernels: list[int] = field(default_factory=lambda: [3, 3, 3, 3])
    all_masked: float = 0.5


@dataclass
class GenerationConfig:
    """How to evaluate generation.

    Attributes:
        segment_seconds: length of the clips.
        max_clips: at most so many clips of each split, spread over the tracks; null takes all.
        unconditional: number of generations from nothing.
        keep: what is given for accompaniments: a stem's audio, its latents in the mixture, or both.
        steps: of the prior's sampler.
        curve: numbers of steps whose Fréchet distance is plotted; empty for no plot.
        seed: of the first generation; each has the next one.
        embedding: codec whose un-quantised latents make the embeddings of the Fréchet distance.
        resamples: of the bootstrap that its intervals come from.
        examples: test clips to write as audio, with their accompaniments.
    """

    segment_seconds: float = 5.0
    max_clips: int | None = None
    unconditional: int = 64
    keep: list[Literal["audio", "latents"]] = field(default_factory=lambda: ["audio", "latents"])
    steps: int = 25
    curve: list[int] = field(default_factory=list)
    seed: int = 0
    embedding: Literal["mel", "mdct", "encodec_24khz"] = "mdct"
    resamples: int = 100
    examples: int = 4


@dataclass
class EvaluationConfig:
    """How to evaluate.

    Attributes:
        segment_seconds: length of the clips that test tracks are cut into.
        max_clips: at most so many test clips, spread over the tracks; null takes all.
        steps: numbers of sampler steps to evaluate, each in a row of its own.
        seeds: of the sampler's noise.
        bss_eval: also compute BSS-eval v4, which takes most of the time.
        examples: clips to write as audio.
        workers: processes that compute scores.
    """

    segment_seconds: float = 7.0
    max_clips: int | None = None
    steps: list[int] = field(default_factory=lambda: [1, 25])
    seeds: list[int] = field(default_factory=lambda: [0])
    bss_eval: bool = True
    examples: int = 4
    workers: int = 2


@dataclass
class RecipeConfig:
    """All sections of conf.yml."""

    data: DataConfig = field(default_factory=DataConfig)
    codec: CodecConfig = field(default_factory=CodecConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: DecompositionTrainingConfig = field(default_factory=DecompositionTrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)


Recipe = TypeVar("Recipe")


def recipe_parser(description: str, recipe: type = RecipeConfig) -> ArgumentParser:
    """A parser that takes `--config FILE` and every option as `--section.option`."""
    parser = ArgumentParser(description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with the sections below.")
    parser.add_class_arguments(recipe)
    return parser


def parse_recipe(
    parser: ArgumentParser,
    arguments: Sequence[str] | None = None,
    recipe: type[Recipe] = RecipeConfig,
) -> tuple[Recipe, Namespace]:
    """Parses a recipe script's command line.

    Args:
        parser: from `recipe_parser`, possibly with more arguments.
        arguments: None takes those of the process.
        recipe: what `recipe_parser` was made for.

    Returns:
        The configuration, and everything that was parsed.

    Raises:
        UserError: for an unknown option or a value of the wrong type, in the file or the command.
    """
    try:
        parsed = parser.parse_args(sys.argv[1:] if arguments is None else list(arguments))
    except (ArgumentError, OSError) as error:
        raise UserError(" ".join(str(error).split())) from error
    made = parser.instantiate_classes(parsed)
    sections = {name: getattr(made, name) for name in recipe.__dataclass_fields__}
    return recipe(**sections), parsed


def record_config(
    sections: dict[str, dict[str, Any]],
    path: Path,
    resuming: bool,
    free: set[tuple[str, str]],
) -> None:
    """Records a run's configuration; when resuming, checks that it is the run's own.

    Args:
        sections: options by section.
        path: of the YAML file.
        resuming: whether the run goes on from a checkpoint.
        free: sections and options that may change without making it another run.

    Raises:
        UserError: if a resumed run was configured differently.
    """
    if resuming and path.is_file():
        stored = yaml.safe_load(path.read_text())
        for section, options in sections.items():
            for option, value in options.items():
                before = stored.get(section, {}).get(option)
                if before != value and (section, option) not in free:
                    raise UserError(
                        f"{path.parent} was trained with {section}.{option} = {before!r}, not "
                        f"{value!r}: restore the option, or choose another experiment folder."
                    )
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(sections, sort_keys=False))
