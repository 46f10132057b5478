"""Solos: passages of one source are found in mixtures without labels, and become training items."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from asteroid_ucr.codecs import build_codec
from asteroid_ucr.data.cache import CacheMetadata, LatentCache
from asteroid_ucr.data.solo_sums import SoloSums
from asteroid_ucr.data.solos import WINDOW, Solos, Window, find_solos
from asteroid_ucr.errors import UserError

CODEC = build_codec("mel")
FRAMES = 1200


def write_cache(path, pauses=True, tracks=24):
    """Mixtures of a hum (steady, low) and clicks (brief, broad), and what each contributes."""
    metadata = CacheMetadata("toy", "train", CODEC.fingerprint, 75.0, 128, ("hum", "clicks"), "sum")
    cache = LatentCache(path, metadata, write=True)
    shares = {}
    for number in range(tracks):
        rng = np.random.default_rng([7, number])
        band, time = np.arange(128)[:, None], np.arange(FRAMES)
        notes = np.repeat(rng.uniform(6, 12, FRAMES // 50), 50)
        hum = np.exp(-band / 12) * (1.1 + np.cos(2 * np.pi * band / notes)) + 1e-6
        period = rng.integers(18, 30)
        clicks = np.exp(-(time % period) / 3.0) * (0.02 + band / 64) * rng.uniform(0.3, 0.6)
        powers = np.stack([hum, clicks]) * np.exp(rng.normal(0, 0.2, (2, 128, FRAMES)))
        if pauses:
            powers[0, :, 100:300] = powers[1, :, 500:700] = 0
        latents = CODEC.from_power(torch.from_numpy(powers.sum(0)).float()).numpy()
        cache.add(f"Track{number:05d}", latents, powers.mean(1))
        shares[f"Track{number:05d}"] = powers.mean(1)
    cache.finish(sorted(shares))
    return cache, shares


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    cache, shares = write_cache(tmp_path_factory.mktemp("cache"))
    return cache, shares, find_solos(cache, CODEC, 2)


def purity(windows, shares):
    """Share of each source in the power of windows, `(windows, 2)`."""
    power = [shares[w.track][:, w.start : w.start + WINDOW].mean(1) for w in windows]
    return np.array([p / p.sum() for p in power])


def test_solos_are_found_without_labels(toy):
    _, shares, solos = toy
    first, second = (purity(windows, shares).mean(0) for windows in solos.windows)
    assert first.max() > 0.9 and second.max() > 0.9
    assert first.argmax() != second.argmax()
    # Two hundred frames hold five whole windows, in 24 tracks; most of them are found.
    assert all(len(windows) > 30 for windows in solos.windows)
    assert solos.score < -3


def test_the_same_seed_finds_the_same(toy):
    cache, _, solos = toy
    assert find_solos(cache, CODEC, 2).to_dict() == solos.to_dict()
    assert Solos.from_dict(json.loads(json.dumps(solos.to_dict()))).to_dict() == solos.to_dict()


def test_codecs_without_power_are_refused(toy):
    @dataclasses.dataclass
    class Waveforms:
        name: str = "waves"
        has_power: bool = False

    with pytest.raises(UserError, match=r"training\.solo_share"):
        find_solos(toy[0], Waveforms(), 2)


def test_too_little_music_is_refused(tmp_path):
    cache, _ = write_cache(tmp_path, tracks=2)
    with pytest.raises(UserError, match="too few"):
        find_solos(cache, CODEC, 2)


def test_mixtures_without_pauses_are_refused(tmp_path):
    cache, _ = write_cache(tmp_path, pauses=False)
    with pytest.raises(UserError, match=r"ever played alone|too few passages"):
        find_solos(cache, CODEC, 2)


def test_sums_have_the_solos_as_components(toy):
    cache, _, _ = toy
    # One window each, so that what was drawn is known.
    solos = Solos([[Window("Track00000", 550)], [Window("Track00001", 150)]], -5.0)
    sums = SoloSums(cache, CODEC, solos, seed=3, items=4)
    components = CODEC.to_power(sums[0])
    assert components.shape == (2, 128, WINDOW)
    for component, (track, start) in zip(
        components, (("Track00000", 550), ("Track00001", 150)), strict=True
    ):
        source = CODEC.to_power(torch.from_numpy(cache.crop(track, start, WINDOW)))
        # A gain and an equaliser are the same at all times: time courses stay.
        heard = source.mean(1) > 1e-3 * source.mean()
        ratio = (component[heard] + 1e-9) / (source[heard] + 1e-9)
        assert (ratio.log().std(1) < 0.1).all()
    assert torch.equal(sums[2], SoloSums(cache, CODEC, solos, seed=3, items=1, first=2)[0])
    assert not torch.equal(sums[0], sums[1])
