"""Configuration of the codec's training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jsonargparse import ArgumentParser, Namespace

from asteroid_ucr.codecs.encodec import Architecture
from asteroid_ucr.config import parse_recipe
from asteroid_ucr.errors import UserError


@dataclass
class CodecDataConfig:
    """What to train on.

    Attributes:
        root: folder of a Slakh tree.
        store: folder of the decoded training audio.
        max_tracks: at most so many tracks of a split are decoded; null takes all.
        seconds: length of a crop.
        stem_share: share of the crops that hold one isolated source.
        remix_share: share of the mixtures whose sources come from different songs.
        quietest: lowest level of a crop, RMS in dB of full scale.
        loudest: highest level of a crop.
    """

    root: str = "data/minislakh"
    store: str = "data/codec_store"
    max_tracks: int | None = None
    seconds: float = 0.25
    stem_share: float = 0.5
    remix_share: float = 0.3
    quietest: float = -35.0
    loudest: float = -12.0


@dataclass
class CodecLossConfig:
    """Shares of the losses in a step, and how they are computed.

    Attributes:
        sdr: error power over signal power, in dB.
        l1: mean absolute error of the waveform.
        mel: distance of mel spectrograms.
        adversarial: from the discriminator's verdicts.
        feature: distance of the discriminator's features.
        commitment: pull of the latents to the first codebook; not a share, but a factor.
        mel_windows: of the mel spectrograms, in samples.
    """

    sdr: float = 1.0
    l1: float = 0.1
    mel: float = 1.0
    adversarial: float = 0.1
    feature: float = 0.2
    commitment: float = 0.1
    mel_windows: list[int] = field(default_factory=lambda: [256, 1024, 2048])


@dataclass
class CodecTrainingConfig:
    """How to train.

    Attributes:
        seed: of weights, crops and codebooks.
        transform: so many latents are the lowest cosine coefficients of their frame, from the start
            and for ever (`asteroid_ucr.training.codec_transform`); 0 leaves all to be learnt.
        steps: optimizer steps in all.
        epoch_steps: steps between validations, checkpoints and log lines.
        batch_size: crops per step.
        lr: peak learning rate of Adam, for codec and discriminator.
        warmup_steps: over which it rises, before half a cosine takes it to zero.
        quantise_from: first step with quantisation.
        quantise_share: share of the steps, from then on, in which the latents are quantised.
        kmeans_iters: of a codebook's first fit.
        dead_code: entries chosen less often than this per step are drawn anew.
        codebook_steps: steps after the last, in which only the codebooks learn.
        codebook_batch: crops of each of them.
        discriminate_from: first step with the discriminator.
        discriminator_every: steps between uses of the discriminator.
        discriminator_filters: its width; EnCodec has 32.
        validation_items: crops of two seconds per validation, always the same.
        device: "cpu" or "cuda"; may change when a run goes on.
        threads: of the CPU; null takes torch's default. Runs repeat exactly with the same number.
    """

    seed: int = 0
    transform: int = 112
    steps: int = 5000
    epoch_steps: int = 500
    batch_size: int = 8
    lr: float = 1.5e-3
    warmup_steps: int = 100
    quantise_from: int = 2000
    quantise_share: float = 0.5
    kmeans_iters: int = 5
    dead_code: float = 0.015
    codebook_steps: int = 500
    codebook_batch: int = 64
    discriminate_from: int = 4000
    discriminator_every: int = 2
    discriminator_filters: int = 4
    validation_items: int = 24
    device: str = "cpu"
    threads: int | None = None


@dataclass
class CodecRecipeConfig:
    """All sections of codec.yml."""

    data: CodecDataConfig = field(default_factory=CodecDataConfig)
    network: Architecture = field(
        default_factory=lambda: Architecture(n_filters=16, lstm=0, true_skip=True)
    )
    loss: CodecLossConfig = field(default_factory=CodecLossConfig)
    training: CodecTrainingConfig = field(default_factory=CodecTrainingConfig)


def parse_codec(
    parser: ArgumentParser, arguments: Sequence[str] | None = None
) -> tuple[CodecRecipeConfig, Namespace]:
    """Parses a command line.

    Args:
        parser: from `recipe_parser(…, CodecRecipeConfig)`, possibly with more arguments.
        arguments: None takes those of the process.

    Raises:
        UserError: for an unknown option or a value of the wrong type or out of range.
    """
    config, parsed = parse_recipe(parser, arguments, CodecRecipeConfig)
    _check(config)
    return config, parsed


def _check(config: CodecRecipeConfig) -> None:
    training, network = config.training, config.network
    for name, value in (
        ("training.steps", training.steps),
        ("training.epoch_steps", training.epoch_steps),
        ("training.batch_size", training.batch_size),
        ("training.discriminator_every", training.discriminator_every),
        ("network.n_filters", network.n_filters),
    ):
        if value < 1:
            raise UserError(f"{name} is {value}: give 1 or more.")
    if (network.bins, network.n_q) != (1024, 32):
        raise UserError(
            "network.bins and network.n_q are 1024 and 32: the bandwidths up to 24 kbit/s follow "
            "from them."
        )
    if config.data.seconds < 0.1:
        raise UserError("data.seconds is the length of a crop: give 0.1 or more.")
