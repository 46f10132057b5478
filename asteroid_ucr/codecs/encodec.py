"""EnCodec's latents (Défossez et al. 2022), with the published weights."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torch.nn.functional as F
from encodec import EncodecModel
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.utils import remove_weight_norm

from asteroid_ucr.codecs.base import Codec
from asteroid_ucr.codecs.chunks import CHUNK_FRAMES, run_in_chunks
from asteroid_ucr.codecs.huggingface import huggingface_file, read_weights
from asteroid_ucr.utils.errors import UNREADABLE, UserError

PUBLISHED_FILE = "encodec_24khz-d7cc33bc.th"  # the name ends in the start of its SHA-256
PUBLISHED_URL = f"https://dl.fbaipublicfiles.com/encodec/v0/{PUBLISHED_FILE}"
BANDWIDTHS = (1.5, 3.0, 6.0, 12.0, 24.0)


class EncodecCodec(Codec):
    """EnCodec 24 kHz: 128 channels at 75 frames/s, from the `encodec` package.

    The published weights are licensed CC BY-NC 4.0 (no commercial use). They are read from
    `codec_dir`, from the folder in the environment variable ASTEROID_UCR_CODEC_DIR, or from torch
    hub's cache, to which they are downloaded if possible.

    Args:
        bandwidth: Bit rate in kbit/s, one of 1.5, 3, 6, 12, 24, which sets the number of codebooks;
            0 gives the encoder's own latents, without quantisation.
        codec_dir: Folder with the published file or with a Hugging Face checkpoint of it
            (`facebook/encodec_24khz`: config.json with model.safetensors or pytorch_model.bin).
        weights: Path of a state dict of the same architecture, used instead of the published
            weights, with the names of `encodec` or of `transformers`.

    Raises:
        UserError: If the bandwidth is not valid, or the weights are missing or damaged.
    """

    name = "encodec_24khz"
    sample_rate = 24_000
    hop = 320
    channels = 128

    def __init__(
        self, bandwidth: float = 24.0, codec_dir: str | None = None, weights: str | None = None
    ):
        super().__init__()
        if bandwidth != 0 and bandwidth not in BANDWIDTHS:
            raise UserError(
                f"codec bandwidth {bandwidth} does not exist: choose 0 (no quantisation) or one of "
                f"{', '.join(map(str, BANDWIDTHS))} kbit/s."
            )
        self.bandwidth = bandwidth
        self.model = load_weights(weights) if weights else load_published(codec_dir)
        self._fingerprint = self._digest()
        # Frozen weights need no weight normalisation, and modules with it cannot be copied.
        for module in self.model.modules():
            if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
                remove_weight_norm(module)
        self.model.eval().requires_grad_(False)
        if bandwidth:
            self.model.set_target_bandwidth(bandwidth)

    def train(self, mode: bool = True) -> EncodecCodec:
        """Stays in evaluation mode, because training mode would update the codebooks."""
        return super().train(False)

    @property
    def options(self) -> dict[str, Any]:
        return {"bandwidth": self.bandwidth}

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def _digest(self) -> str:
        """The fingerprint, from the bandwidth and a hash of all weights."""
        digest = hashlib.sha256()
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return f"encodec-v1 bandwidth={self.bandwidth} weights={digest.hexdigest()[:16]}"

    @torch.no_grad()
    def encode(self, wav: Tensor) -> Tensor:
        latents = run_in_chunks(self.model.encoder.model, wav)
        if not self.bandwidth:
            return latents
        quantiser, rate = self.model.quantizer, self.model.frame_rate
        pieces = [
            quantiser.decode(quantiser.encode(piece, rate, self.bandwidth))
            for piece in latents.split(CHUNK_FRAMES, dim=-1)
        ]
        return torch.cat(pieces, dim=-1)

    def decode(self, latents: Tensor, length: int) -> Tensor:
        wav = run_in_chunks(self.model.decoder.model, latents)[..., :length]
        return F.pad(wav, (0, length - wav.shape[-1]))


def load_published(codec_dir: str | Path | None = None) -> EncodecModel:
    """Loads the published 24 kHz model, and verifies the checksum of Meta's own file."""
    folder = codec_dir or os.environ.get("ASTEROID_UCR_CODEC_DIR")
    file = Path(folder or Path(torch.hub.get_dir()) / "checkpoints") / PUBLISHED_FILE
    if folder and not file.is_file():
        if checkpoint := huggingface_file(folder):
            return load_weights(checkpoint)
        raise UserError(
            f"{file} does not exist: put EnCodec's published weights, {PUBLISHED_URL} "
            "(CC BY-NC 4.0), there under that name, or the config.json and model.safetensors of "
            "facebook/encodec_24khz (the same weights and licence)."
        )
    try:
        return EncodecModel.encodec_model_24khz(repository=Path(folder) if folder else None)
    except (URLError, ConnectionError, TimeoutError) as error:
        raise UserError(
            f"EnCodec's weights are not at {file} and cannot be downloaded: download "
            f"{PUBLISHED_URL} (CC BY-NC 4.0) elsewhere and put it there, or give its folder with "
            "--codec_dir."
        ) from error
    except RuntimeError as error:
        raise UserError(
            f"{file} is not EnCodec's published file ({_first_line(error)}): delete it and "
            f"download {PUBLISHED_URL} again."
        ) from error


def load_weights(path: str | Path) -> EncodecModel:
    """Loads a file with the published model's architecture, or a folder of `transformers`."""
    file = huggingface_file(path) or Path(path)
    if not file.is_file():
        raise UserError(f"Codec weights {path} do not exist: check the option codec.weights.")
    model = EncodecModel.encodec_model_24khz(pretrained=False)
    try:
        model.load_state_dict(read_weights(file, model.state_dict()))
    except (*UNREADABLE, SafetensorError) as error:
        raise UserError(
            f"{file} is not a state dict of EnCodec's 24 kHz architecture ({_first_line(error)})."
        ) from error
    return model


def _first_line(error: Exception) -> str:
    """The first line of an exception's message, or the name of its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
