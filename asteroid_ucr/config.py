"""The recipe's configuration: typed, checked, from a YAML file and command-line options."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser, Namespace
from typing_extensions import TYPE_CHECKING  # noqa: UP035 - jsonargparse executes that of typing

from asteroid_ucr.utils.errors import UserError

if TYPE_CHECKING:  # torch and Asteroid take seconds, which --help need not wait for
    from asteroid_ucr.codecs import Codec
    from asteroid_ucr.data.cache import TrackCache
    from asteroid_ucr.separator import UCRSeparator

CacheKind = Literal["latents", "stems"]


@dataclass
class DataConfig:
    """Which audio to use.

    Attributes:
        root: Folder of a Slakh tree or of any audio, or a list of audio files (CSV, JSON lines).
        cache: Folder of the caches.
        solos: Folder of solos; used where training.solo_share is not 0.
        estimates: Folder of a model's estimates, from which half of the passages are drawn.
        sources: Names of the sources that make up the mixtures, in output order.
        mix: Policy by which sources are mixed.
        allow_shared_midi: Use validation and test tracks that share their MIDI file or their audio
            with training tracks.
        workers: Processes that read data; 0 reads in the main process.
    """

    root: str = "data/minislakh"
    cache: str = "data/cache"
    solos: str = "data/solos"
    estimates: str | None = None
    sources: list[str] = field(default_factory=lambda: ["drums", "bass"])
    mix: Literal["sum", "paper_mean"] = "sum"
    allow_shared_midi: bool = False
    workers: int = 0


@dataclass
class CodecConfig:
    """Which latents to use.

    Attributes:
        name: Name of the codec.
        dir: Folder of the codec's published weights.
        weights: State dict to use instead of the published weights.
        bandwidth: EnCodec's bandwidth in kbit/s; 0 takes its un-quantised latents, null the paper's
            24.
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

    def build(self) -> Codec:
        """The codec."""
        from asteroid_ucr.codecs import build_codec

        return build_codec(self.name, **self.options())


@dataclass
class ModelConfig:
    """The decomposition model; see `asteroid_ucr.UCRSeparator`.

    Attributes:
        latent_dim: Channels of each component latent.
        encoder_widths: Channels of the encoder's levels.
        denoiser: Network of the denoiser: over time, or over frequency and time.
        denoiser_widths: Channels of the denoiser's levels.
        denoiser_kernels: Kernel sizes of its levels.
        time_embedding: Whether "unet1d" receives α.
        composition: Operator of `asteroid_ucr.composition`: mean, sum or power_sum.
        alpha_start: Share of the mixture in the blend with noise from which components are
            rendered.
    """

    latent_dim: int = 1
    encoder_widths: list[int] = field(default_factory=lambda: [256, 512])
    denoiser: Literal["unet1d", "unet2d"] = "unet1d"
    denoiser_widths: list[int] = field(default_factory=lambda: [128, 256, 256, 512])
    denoiser_kernels: list[int] = field(default_factory=lambda: [5, 3, 3, 3])
    time_embedding: bool = True
    composition: str = "mean"
    alpha_start: float = 0.0


@dataclass
class TrainingConfig:
    """How to train.

    Attributes:
        seed: Seed of weights, crops, noise and α.
        steps: Number of optimizer steps.
        minutes: Stop after the first epoch that ends later than this; null sets no limit.
        epoch_steps: Optimizer steps between validations, checkpoints and log lines.
        batch_size: Crops per batch and device.
        accumulate: Batches per optimizer step, whose gradients are averaged.
        frames: Latent frames per crop, 75 per second.
        min_rms: Training crops in which a source's RMS is lower are drawn again; 0 keeps all.
        lr: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        schedule: Learning rate after the warm-up.
        warmup_steps: Steps over which the learning rate rises linearly.
        clip_norm: Largest norm of the gradients, which are scaled down to it.
        ema_decay: Decay of the averaged weights, which are validated and saved.
        validation_items: Crops per validation, always the same.
        accelerator: Lightning's name of the kind of device: "auto", "cpu" or "gpu".
        devices: Number of devices per machine, or "auto".
        num_nodes: Number of machines.
        strategy: Lightning's name of the way to distribute over devices.
        precision: "auto" is bfloat16 mixed on GPUs that have it, else 32 bit.
        logger: Where to log besides the CSV file, with audio and spectrograms of components.
    """

    seed: int = 0
    steps: int = 100_000
    minutes: float | None = None
    epoch_steps: int = 1000
    batch_size: int = 64
    accumulate: int = 1
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
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "auto"
    logger: Literal["csv", "tensorboard", "wandb"] = "csv"


@dataclass
class DecompositionTrainingConfig(TrainingConfig):
    """How to train the decomposition.

    Attributes:
        init: Trained model of the same shape whose weights to start from.
        freeze: Parts that keep these weights.
        solo_share: Share of sums of solos in each batch. Solos are passages of mixtures in which
            one instrument plays alone, so that the components of their sum are known. 0 is the
            paper's training.
        solo_frames: Latent frames of such a sum.
        mask_weight: Weight of errors of the soft masks beside errors of the latents, for sums of
            solos and the supervised twin; see `asteroid_ucr.solos.loss.mask_loss`.
    """

    init: str | None = None
    freeze: list[Literal["encoder", "denoiser"]] = field(default_factory=list)
    solo_share: float = 0.0
    solo_frames: int = 80
    mask_weight: float = 3.3


@dataclass
class RendererConfig(TrainingConfig):
    """The renderer and how to train it, on solos and estimates.

    Attributes:
        latent_dim: Channels of the latents, of which there are 18.75 per second.
        bands: Bands of its mel codec.
        encoder_width: Channels of its encoders.
        decoder_width: Channels of its decoder, which has one more residual block.
        blocks: Residual blocks of the encoders.
    """

    latent_dim: int = 32
    bands: int = 256
    encoder_width: int = 192
    decoder_width: int = 320
    blocks: int = 2


@dataclass
class PriorConfig(TrainingConfig):
    """The masking prior and how to train it, on crops of component latents.

    Attributes:
        widths: Channels of the U-Net's levels.
        kernels: Kernel sizes of its levels.
        all_masked: Probability that all components are masked; the other masks share the rest.
        subsets: Also learn from mixtures of two or more of the sources; needed for guidance.
        init: Trained model from whose prior of the same shape to start.
        versions: How often each song is used, at speeds up to a fourth lower or higher.
    """

    widths: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    kernels: list[int] = field(default_factory=lambda: [3, 3, 3, 3])
    all_masked: float = 0.5
    subsets: bool = False
    init: str | None = None
    versions: int = 1


@dataclass
class GenerationConfig:
    """How to evaluate generation.

    Attributes:
        segment_seconds: Length of the clips.
        max_clips: Most clips of each split, spread over the tracks; null takes all.
        unconditional: Number of items that are generated without any input.
        keep: Input of accompaniments: a stem's audio, its latents in the mixture, or each in turn.
        steps: Steps of the prior's sampler.
        guidance: Weight of what is kept; see `asteroid_ucr.UCRSeparator.generate`.
        curve: Numbers of steps whose Fréchet distance is plotted; empty for no plot.
        seed: Seed of the first generation; each has the next one.
        embedding: Codec whose un-quantised latents make the embeddings of the Fréchet distance.
        resamples: Bootstrap samples for its intervals.
        examples: Test clips to write as audio, with their accompaniments.
    """

    segment_seconds: float = 5.0
    max_clips: int | None = None
    unconditional: int = 64
    keep: list[Literal["audio", "latents"]] = field(default_factory=lambda: ["audio", "latents"])
    steps: int = 25
    guidance: float = 1.0
    curve: list[int] = field(default_factory=list)
    seed: int = 0
    embedding: Literal["mel", "mdct", "encodec_24khz"] = "mdct"
    resamples: int = 100
    examples: int = 4


@dataclass
class EvaluationConfig:
    """How to evaluate.

    Attributes:
        segment_seconds: Length of the clips that test tracks are cut into.
        max_clips: Most test clips, spread over the tracks; null takes all.
        steps: Numbers of sampler steps to evaluate, each in its own row.
        seeds: Seeds of the sampler's noise.
        bss_eval: Also compute BSS-eval v4, which takes most of the time.
        examples: Clips to write as audio.
    """

    segment_seconds: float = 7.0
    max_clips: int | None = None
    steps: list[int] = field(default_factory=lambda: [1, 25])
    seeds: list[int] = field(default_factory=lambda: [0])
    bss_eval: bool = True
    examples: int = 4


@dataclass
class RecipeConfig:
    """All sections of a recipe's YAML file.

    The section `model` of a baseline has the arguments of its network, as a dictionary.
    """

    data: DataConfig = field(default_factory=DataConfig)
    codec: CodecConfig = field(default_factory=CodecConfig)
    model: ModelConfig | dict[str, Any] = field(default_factory=ModelConfig)
    training: DecompositionTrainingConfig = field(default_factory=DecompositionTrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    renderer: RendererConfig = field(default_factory=RendererConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)


def recipe_parser(description: str, model: type = ModelConfig) -> ArgumentParser:
    """A parser that takes `--config FILE` and every option as `--section.option`.

    Args:
        description: Description of the command.
        model: Class whose arguments are the options of the section `model`: `ModelConfig`, or the
            network of a baseline (`asteroid_ucr.training.baselines.Baseline.options`).
    """
    parser = ArgumentParser(description=description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with the sections below.")
    for name, section in _sections(model).items():
        made = is_dataclass(section)
        skip = set() if made else _NOT_OPTIONS & set(inspect.signature(section).parameters)
        parser.add_class_arguments(section, name, skip=skip, instantiate=made)
    return parser


def parse_recipe(
    parser: ArgumentParser, arguments: Sequence[str] | None = None
) -> tuple[RecipeConfig, Namespace]:
    """Parses a command line of the recipe.

    Args:
        parser: Parser from `recipe_parser`, possibly with more arguments.
        arguments: Arguments of the command; None takes those of the process.

    Returns:
        The configuration, and everything that was parsed.

    Raises:
        UserError: For an unknown option or a value of the wrong type, in the file or the command.
    """
    try:
        parsed = parser.parse_args(sys.argv[1:] if arguments is None else list(arguments))
    except (ArgumentError, OSError, ValueError, RecursionError) as error:
        raise UserError(" ".join(str(error).split())) from error
    if empty := [name for name in RecipeConfig.__dataclass_fields__ if parsed.get(name) is None]:
        raise UserError(f"The section {empty[0]} is empty: give it options, or leave it out.")
    made = parser.instantiate_classes(parsed)
    sections = {name: getattr(made, name) for name in RecipeConfig.__dataclass_fields__}
    if isinstance(sections["model"], Namespace):
        sections["model"] = sections["model"].as_dict()
    elif sections["model"].composition != ModelConfig.composition:
        from asteroid_ucr.composition import check_composition

        check_composition(sections["model"].composition)  # at once, not after the caches are open
    return RecipeConfig(**sections), parsed


def _sections(model: type) -> dict[str, type]:
    """Classes of the sections, by name."""
    return {**get_type_hints(RecipeConfig), "model": model}


# Arguments of networks that follow from other settings.
_NOT_OPTIONS = {"sources", "outputs", "consistent", "sample_rate"}


def cache_folder(config: RecipeConfig, split: str, kind: CacheKind = "latents") -> Path:
    """Folder of a cache: one for each tree, set of sources, mixing policy, codec and split."""
    data, last = config.data, "stems" if kind == "stems" else config.codec.name
    name = "-".join([*data.sources, data.mix, last])
    return Path(data.cache) / Path(data.root).resolve().name / name / split


def fill_cache(
    config: RecipeConfig, split: str, kind: CacheKind = "latents", shard: tuple[int, int] = (1, 1)
) -> list[str]:
    """Caches the latents or the stems of a split, or a shard of them; see `data.encode.fill`.

    Returns:
        A sentence for each track that could not be read, which was logged as a warning.
    """
    from asteroid_ucr.data.encode import fill
    from asteroid_ucr.utils.device import pick_device

    data = config.data
    codec = None if kind == "stems" else config.codec.build().to(pick_device())
    cache = open_cache(config, split, kind, codec, write=True)
    return fill(cache, data.root, codec, data.allow_shared_midi, data.workers, shard)


def open_cache(
    config: RecipeConfig,
    split: str,
    kind: CacheKind = "latents",
    codec: Codec | None = None,
    write: bool = False,
) -> TrackCache:
    """Opens what `fill_cache` writes.

    Args:
        config: Configuration of the recipe.
        split: "train", "validation" or "test".
        kind: "latents" of the mixtures, or "stems".
        codec: Codec that the latents have to be of; None takes the configured one.
        write: Whether to add tracks; the cache is created if needed.

    Raises:
        UserError: If the cache is missing or was made from other data.
    """
    from asteroid_ucr.data.cache import TrackCache
    from asteroid_ucr.data.encode import cache_metadata

    data, path = config.data, cache_folder(config, split, kind)
    about = (data.root, split, data.sources, data.mix)
    if kind == "stems":
        return TrackCache(path, cache_metadata(*about), write)
    codec = config.codec.build() if codec is None else codec
    return TrackCache(path, cache_metadata(*about, codec), write)


def load_model(
    name: str | Path, device: str = "auto", codec_dir: str | None = None
) -> UCRSeparator:
    """Loads a model, ready to separate.

    Args:
        name: Bundled name, file, experiment folder or Hugging Face id.
        device: Name of the device; "auto" takes a GPU if there is one.
        codec_dir: Folder of the codec's weights, for models whose codec has weights.

    Raises:
        UserError: If the model or the device does not exist, or the codec's weights are missing.
    """
    from asteroid_ucr.separator import UCRSeparator
    from asteroid_ucr.utils.device import pick_device

    target = pick_device(device)
    options = {"codec_dir": codec_dir} if codec_dir else {}
    return UCRSeparator.from_pretrained(name, **options).to(target)
