"""Training audio of the codec: decoded once, then drawn at random, each batch from its number."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from asteroid_ucr.codecs.encodec import EncodecCodec
from asteroid_ucr.data.slakh import load_tracks, read_sources
from asteroid_ucr.errors import UserError
from asteroid_ucr.files import atomic_path, make_folder
from asteroid_ucr.training.codec_config import CodecDataConfig

RATE = EncodecCodec.sample_rate
SILENT = 1e-3  # RMS, −60 dB of full scale: quieter crops are drawn again
ATTEMPTS = 20


def build_store(config: CodecDataConfig, split: str) -> Path:
    """Decodes the sources of a split to 24 kHz, 16 bit, in one file; does nothing if it is there.

    Each source of a track (its stems, summed) is a passage of `SPLIT.i16`; `SPLIT.json`, written
    last, says where each begins and by what it was scaled to use the 16 bits.

    Returns:
        The path of the list.

    Raises:
        UserError: if the tree cannot be used, or the store belongs to another.
    """
    folder = make_folder(config.store)
    listing, samples = folder / f"{split}.json", folder / f"{split}.i16"
    made_from = {"root": str(Path(config.root).resolve()), "max_tracks": config.max_tracks}
    if listing.is_file():
        if json.loads(listing.read_text())["made_from"] != made_from:
            raise UserError(
                f"{listing} was made from other audio than data.root and data.max_tracks say: "
                "delete it, or set data.store to another folder."
            )
        return listing
    tracks = load_tracks(config.root, split, allow_shared_midi=True)[: config.max_tracks]
    songs, position = [], 0
    with atomic_path(samples) as temporary, temporary.open("wb") as file:
        for track in tqdm(tracks, desc=f"decoding {split}"):
            if not track.sources:
                continue
            references = read_sources(track, track.sources, RATE).references.numpy()
            scales = np.maximum(abs(references).max(1), 1e-4) / 32767
            np.round(references / scales[:, None]).astype("<i2").tofile(file)
            songs.append(
                {
                    "track": track.name,
                    "sources": track.sources,
                    "start": position,
                    "length": references.shape[1],
                    "scales": scales.tolist(),
                }
            )
            position += references.size
    with atomic_path(listing) as temporary:
        temporary.write_text(json.dumps({"made_from": made_from, "songs": songs}))
    return listing


@dataclass(frozen=True)
class _Song:
    start: int
    length: int
    scales: tuple[float, ...]


class CodecStore:
    """Draws crops from a store.

    Args:
        listing: from `build_store`.
        config: lengths, shares and levels.

    Raises:
        UserError: if no song is as long as a crop.
    """

    def __init__(self, listing: Path, config: CodecDataConfig):
        self.config = config
        entries = json.loads(listing.read_text())["songs"]
        songs = (_Song(e["start"], e["length"], tuple(e["scales"])) for e in entries)
        self.samples = np.memmap(listing.with_suffix(".i16"), "<i2", mode="r")
        needed = round(max(config.seconds, 2.0) * RATE)  # validation crops last two seconds
        self.songs = [song for song in songs if song.length >= needed]
        if not self.songs:
            raise UserError(f"No track in {config.root} is as long as a crop of {needed} samples.")

    def batch(self, items: int, seconds: float, *numbers: int) -> Tensor:
        """Crops `(items, 1, time)`; they follow from the numbers (such as seed and step) alone."""
        generator = np.random.default_rng(numbers)
        crops = [self._item(generator, round(seconds * RATE)) for _ in range(items)]
        return torch.from_numpy(np.stack(crops))[:, None]

    def _item(self, generator: np.random.Generator, samples: int) -> np.ndarray:
        alone = generator.random() < self.config.stem_share
        wav = np.zeros(samples, np.float32)
        for _ in range(ATTEMPTS):
            wav = self._draw(generator, samples, alone)
            if np.sqrt(np.square(wav).mean()) >= SILENT:
                break
        level = generator.uniform(self.config.quietest, self.config.loudest)
        sign = generator.choice([-1.0, 1.0])
        rms = max(float(np.sqrt(np.square(wav).mean())), SILENT)
        return (wav * (sign * 10 ** (level / 20) / rms)).astype(np.float32)

    def _draw(self, generator: np.random.Generator, samples: int, alone: bool) -> np.ndarray:
        song, start = self._place(generator, samples)
        count = len(song.scales)
        if alone:
            return self._crop(song, int(generator.integers(count)), start, samples)
        # Between two and all of its sources: separation is trained on such partial mixtures.
        chosen = generator.permutation(count)[: generator.integers(min(2, count), count + 1)]
        total = np.zeros(samples, np.float32)
        remix = generator.random() < self.config.remix_share
        for source in chosen:
            if remix:
                song, start = self._place(generator, samples)
                source = generator.integers(len(song.scales))
            total += self._crop(song, int(source), start, samples)
        return total

    def _place(self, generator: np.random.Generator, samples: int) -> tuple[_Song, int]:
        song = self.songs[generator.integers(len(self.songs))]
        return song, int(generator.integers(song.length - samples + 1))

    def _crop(self, song: _Song, source: int, start: int, samples: int) -> np.ndarray:
        first = song.start + source * song.length + start
        return self.samples[first : first + samples] * np.float32(song.scales[source])
