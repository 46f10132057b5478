"""Trains a neural codec of EnCodec's kind (Défossez et al. 2022), in pieces that resume exactly."""

from __future__ import annotations

import csv
import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import torch
from encodec.msstftd import MultiScaleSTFTDiscriminator
from torch import Tensor
from tqdm import tqdm

from asteroid_ucr.codecs.encodec import BANDWIDTHS, build_network, save_codec
from asteroid_ucr.config import record_config
from asteroid_ucr.errors import UserError
from asteroid_ucr.evaluation.scores import si_sdr_matrix
from asteroid_ucr.files import atomic_path, make_folder
from asteroid_ucr.seeding import generator_for
from asteroid_ucr.training.codec_config import CodecRecipeConfig
from asteroid_ucr.training.codec_data import CodecStore, build_store
from asteroid_ucr.training.codec_init import initialise
from asteroid_ucr.training.codec_losses import (
    Balancer,
    MelLoss,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
    noise_to_signal,
)
from asteroid_ucr.training.codec_transform import freeze_transform, start_as_transform

VALIDATION_SEED = 2**31  # crops unlike those of any training seed
VALIDATION_SECONDS = 2.0
START_ITEMS = 32  # crops by which the layers are scaled at the start
_BALANCED = ("sdr", "l1", "mel", "adversarial", "feature")


class CodecTrainer:
    """The codec, its discriminator, their optimizers, and everything else that a step changes.

    A step draws its crops, its bandwidth and its codebooks' random entries from generators seeded
    with the seed and its number, so that `state_dict` needs no generator's state.

    Args:
        config: the recipe's configuration.
    """

    def __init__(self, config: CodecRecipeConfig):
        self.config, settings = config, config.training
        torch.manual_seed(settings.seed)
        self.model = build_network(config.network, settings.kmeans_iters, settings.dead_code)
        self.model.train()
        if settings.transform:
            freeze_transform(self.model, settings.transform)
        self.discriminator = MultiScaleSTFTDiscriminator(filters=settings.discriminator_filters)
        # EnCodec's (0.5, 0.9) suits the adversarial game alone; most steps here are without it.
        self.optimizer = torch.optim.Adam(self.model.parameters(), settings.lr, (0.8, 0.99))
        self.critic_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), settings.lr, (0.5, 0.9)
        )
        self.balancer = Balancer({name: getattr(config.loss, name) for name in _BALANCED})
        self.mel = MelLoss(config.loss.mel_windows)
        self.device = torch.device("cpu")
        self.done = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on."""
        return {
            "done": self.done,
            "model": self.model.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "balancer": self.balancer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        self.done = state["done"]
        for name in ("model", "discriminator", "optimizer", "critic_optimizer", "balancer"):
            getattr(self, name).load_state_dict(state[name])

    def to(self, device: str) -> CodecTrainer:
        """Moves everything to a device, such as "cuda"; returns itself."""
        self.device = torch.device(device)
        for module in (self.model, self.discriminator, self.mel):
            module.to(self.device)
        return self

    @property
    def total(self) -> int:
        """Steps in all: of the optimizer, and then of the codebooks alone."""
        return self.config.training.steps + self.config.training.codebook_steps

    def start(self, store: CodecStore) -> None:
        """Prepares the untrained network."""
        seconds = self.config.data.seconds
        initialise(self.model, store.batch(START_ITEMS, seconds, self.config.training.seed))
        if self.config.training.transform:
            start_as_transform(self.model, self.config.training.transform)

    def step(self, store: CodecStore) -> dict[str, float]:
        """One step; returns its losses."""
        if self.done >= self.config.training.steps:
            return self._codebook_step(store)
        settings = self.config.training
        generator = generator_for(settings.seed, self.done)
        wav = store.batch(settings.batch_size, self.config.data.seconds, settings.seed, self.done)
        wav = wav.to(self.device)
        rate = settings.lr * learning_rate_factor(self.done, settings.warmup_steps, settings.steps)
        for optimizer in (self.optimizer, self.critic_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = rate
        adversarial = (
            self.done >= settings.discriminate_from
            and self.done % settings.discriminator_every == 0
        )

        decoded, commitment = self._round_trip(wav, generator)
        losses = {
            "sdr": noise_to_signal(decoded, wav),
            "l1": (decoded - wav).abs().mean(),
            "mel": self.mel(decoded, wav),
        }
        critic = self._train_discriminator(wav, decoded.detach()) if adversarial else None
        if adversarial:
            fake, fake_features = self.discriminator(decoded)
            with torch.no_grad():
                _, real_features = self.discriminator(wav)
            losses["adversarial"] = adversarial_loss(fake)
            losses["feature"] = feature_loss(real_features, fake_features)

        used = {name: losses[name] for name in losses if self.balancer.weights[name] > 0}
        gradient = self.balancer.gradient(used, decoded)
        self.optimizer.zero_grad()
        if commitment is None:
            decoded.backward(gradient)
        else:
            factor = torch.full_like(commitment, self.config.loss.commitment)
            torch.autograd.backward([decoded, commitment], [gradient, factor])
            losses["commitment"] = commitment
        self.optimizer.step()
        values = {name: loss.item() for name, loss in losses.items()}
        if not all(map(math.isfinite, values.values())):
            raise UserError(
                f"Training diverged at step {self.done} (a loss is not finite): start again in "
                "another folder with a lower training.lr."
            )
        self.done += 1
        return values if critic is None else {**values, "discriminator": critic}

    @torch.no_grad()
    def _codebook_step(self, store: CodecStore) -> dict[str, float]:
        """Moves all codebooks to the latents of many crops; the networks stay as they are."""
        settings = self.config.training
        wav = store.batch(
            settings.codebook_batch, self.config.data.seconds, settings.seed, self.done
        )
        torch.manual_seed(int(generator_for(settings.seed, self.done).initial_seed()))
        latents = self.model.encoder(wav.to(self.device))
        quantised = self.model.quantizer(latents, self.model.frame_rate).quantized
        self.done += 1
        return {"codebook_error": ((quantised - latents).square().mean() / latents.var()).item()}

    def _round_trip(self, wav: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Decoded audio, and the commitment loss of a quantised step."""
        settings, commitment = self.config.training, None
        latents = self.model.encoder(wav)
        quantise = torch.rand((), generator=generator) < settings.quantise_share
        number = int(torch.randint(len(BANDWIDTHS), (), generator=generator))
        if quantise and self.done >= settings.quantise_from:
            # The quantiser draws from torch's own generator.
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            result = self.model.quantizer(latents, self.model.frame_rate, BANDWIDTHS[number])
            latents, commitment = result.quantized, result.penalty
        return self.model.decoder(latents)[..., : wav.shape[-1]], commitment

    def _train_discriminator(self, real: Tensor, fake: Tensor) -> float:
        loss = discriminator_loss(self.discriminator(real)[0], self.discriminator(fake)[0])
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        return loss.item()

    @torch.no_grad()
    def validate(self, store: CodecStore) -> dict[str, float]:
        """Mean SI-SDR in dB of the round trip of fixed crops: un-quantised, and from codebooks."""
        wav = store.batch(
            self.config.training.validation_items, VALIDATION_SECONDS, VALIDATION_SEED
        )
        self.model.eval()  # in training mode the quantiser moves its codebooks
        latents = self.model.encoder(wav.to(self.device))
        versions = {"unquantised": latents}
        if all(layer._codebook.inited for layer in self.model.quantizer.vq.layers):
            for bandwidth in (6.0, 24.0):
                codes = self.model.quantizer.encode(latents, self.model.frame_rate, bandwidth)
                versions[f"kbps_{bandwidth:g}"] = self.model.quantizer.decode(codes)
        scores = {}
        for name, version in versions.items():
            decoded = self.model.decoder(version)[..., : wav.shape[-1]].cpu()
            items = [si_sdr_matrix(w, d).item() for w, d in zip(wav, decoded, strict=True)]
            scores[f"val_si_sdr_{name}"] = sum(items) / len(items)
        self.model.train()
        return scores


def learning_rate_factor(step: int, warmup_steps: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def train_codec(
    config: CodecRecipeConfig, exp_dir: str | Path, minutes: float | None = None
) -> Path:
    """Trains, or goes on training, and writes `codec.pth`.

    The experiment folder holds `conf.yml`, `last.ckpt`, `log.csv` and `codec.pth`, all written
    every `epoch_steps`.

    Args:
        config: the recipe's configuration.
        exp_dir: the experiment folder.
        minutes: stop at the first checkpoint after this time; the next call goes on from there.

    Returns:
        The path of `codec.pth`, which `build_codec("ucr_24khz", weights=…)` takes.

    Raises:
        UserError: if the data cannot be used, the folder has another run, or training diverges.
    """
    began = time.monotonic()
    exp_dir, settings = make_folder(exp_dir), config.training
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    if settings.device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"training.device is {settings.device}, but torch sees no GPU: give cpu.")
    checkpoint = exp_dir / "last.ckpt"
    record_config(dataclasses.asdict(config), exp_dir / "conf.yml", checkpoint.is_file(), _FREE)
    train, validation = (
        CodecStore(build_store(config.data, split), config.data)
        for split in ("train", "validation")
    )
    trainer, rows = CodecTrainer(config), []
    spent = 0.0
    if checkpoint.is_file():
        # It holds tensors, numbers and containers only.
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
        trainer.to(settings.device).load_state_dict(stored["trainer"])
        rows, spent = stored["log"], stored["seconds"]
    else:
        trainer.start(train)
        trainer.to(settings.device)

    totals: dict[str, list[float]] = {}
    steps = range(trainer.done, trainer.total)
    for _ in (progress := tqdm(steps, initial=trainer.done, total=trainer.total)):
        for name, value in trainer.step(train).items():
            totals.setdefault(name, []).append(value)
        if trainer.done % settings.epoch_steps and trainer.done != trainer.total:
            continue
        scores = trainer.validate(validation)
        progress.set_postfix({k.removeprefix("val_si_sdr_"): f"{v:.1f}" for k, v in scores.items()})
        elapsed = time.monotonic() - began
        means = {name: sum(values) / len(values) for name, values in totals.items()}
        totals = {}
        rows.append({"step": trainer.done, "hours": (spent + elapsed) / 3600, **means, **scores})
        _write(config, exp_dir, trainer, rows, spent + elapsed)
        if minutes is not None and elapsed >= 60 * minutes:
            break
    return exp_dir / "codec.pth"


def _write(
    config: CodecRecipeConfig, exp_dir: Path, trainer: CodecTrainer, rows: list, seconds: float
) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(exp_dir / "log.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    state = {name: value.cpu() for name, value in trainer.model.state_dict().items()}
    save_codec(exp_dir / "codec.pth", config.network, state)
    # Last, so that a checkpoint never lacks what belongs to it.
    with atomic_path(exp_dir / "last.ckpt") as temporary:
        state = {"trainer": trainer.state_dict(), "log": rows, "seconds": seconds}
        torch.save(state, temporary)


# What may change between a run and its resumption without making it another run.
_FREE = {
    ("data", "root"),
    ("data", "store"),
    ("training", "validation_items"),
    ("training", "device"),
}
