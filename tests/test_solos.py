"""Solos: passages of one instrument are found in mixtures, and become training items."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile as sf
import torch

from asteroid_ucr.codecs import build_codec
from asteroid_ucr.data.cache import LatentMetadata, TrackCache
from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.data.tracks import read_sources
from asteroid_ucr.masking import MASK_HOP, MASK_RATE, apply_masks, stft, wiener_masks
from asteroid_ucr.solos.find import WINDOW, Window, find_solos
from asteroid_ucr.solos.library import read_solos, write_solos, write_stems
from asteroid_ucr.solos.loss import mask_loss
from asteroid_ucr.solos.remix import write_estimates
from asteroid_ucr.solos.sums import GAIN_DB, SoloSums
from asteroid_ucr.utils.audio import read_audio
from asteroid_ucr.utils.errors import UserError

CODEC = build_codec("mel")
LENGTH = 1200
KINDS = [("hum", "clicks"), ("hum", "bells"), ("clicks", "bells")]


def instruments(rng):
    """Powers of a hum (low, steady), clicks (brief, broad) and bells (high, decaying partials)."""
    band, time = np.arange(128)[:, None], np.arange(LENGTH)
    notes = np.repeat(rng.uniform(6, 12, LENGTH // 50), 50)
    hum = np.exp(-band / 12) * (1.1 + np.cos(2 * np.pi * band / notes)) + 1e-6
    clicks = np.exp(-(time % rng.integers(18, 30)) / 3.0) * (0.02 + band / 64) * 0.5
    bells = np.exp(-((band - rng.integers(60, 90)) ** 2) / 200) * np.exp(-(time % 90) / 40) + 1e-6
    powers = {"hum": hum, "clicks": clicks, "bells": bells}
    return {name: p * np.exp(rng.normal(0, 0.2, p.shape)) for name, p in powers.items()}


def write_caches(path, tracks=90):
    """Caches of all pairs; each instrument pauses once in each track."""
    caches = {}
    for kind in KINDS:
        metadata = LatentMetadata(
            dataset="toy",
            split="train",
            sources=kind,
            mix="sum",
            codec=CODEC.fingerprint,
            frame_rate=75.0,
            channels=128,
        )
        cache = TrackCache(path / "-".join(kind), metadata, write=True)
        for number in range(tracks):
            powers = np.stack([instruments(np.random.default_rng([7, number]))[n] for n in kind])
            powers[0, :, 100:300] = powers[1, :, 500:700] = 0
            latents = CODEC.from_power(torch.from_numpy(powers.sum(0)).float()).numpy()
            cache.add(f"Track{number:05d}", latents, powers.mean(1))
        cache.finish([f"Track{number:05d}" for number in range(tracks)])
        caches[kind] = cache
    return caches


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    """Three instruments that differ this much need few examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asteroid_ucr.solos.find.DRAWS", 300)
        patch.setattr("asteroid_ucr.solos.find.ROUNDS", 3)
        yield


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    caches = write_caches(tmp_path_factory.mktemp("caches"))
    return caches, find_solos(caches, CODEC)


def test_solos_are_found_and_named(toy):
    caches, solos = toy
    assert set(solos) == {"hum", "clicks", "bells"}
    for name, windows in solos.items():
        shares = []
        for window in windows:
            power = caches[window.kind].power(window.track)
            power = power[:, window.start : window.start + WINDOW].mean(1)
            shares.append(power[window.kind.index(name)] / power.sum())
        # By chance, an instrument has about half of a window's power.
        assert len(windows) >= 20
        assert np.mean(shares) > 0.9


def test_no_track_is_used_in_two_mixtures(toy):
    kinds = {}
    for windows in toy[1].values():
        for window in windows:
            assert kinds.setdefault(window.track, window.kind) == window.kind


def test_the_same_seed_finds_the_same(toy):
    caches, solos = toy
    assert find_solos(caches, CODEC) == solos


def test_codecs_without_power_are_refused(toy):
    @dataclasses.dataclass
    class Waveforms:
        name: str = "waves"
        has_power: bool = False

    with pytest.raises(UserError, match="codec 'mel'"):
        find_solos(toy[0], Waveforms())


def test_a_missing_pair_is_refused(toy):
    caches = {kind: toy[0][kind] for kind in KINDS[:2]}
    with pytest.raises(UserError, match="three or more"):
        find_solos(caches, CODEC)


def test_too_little_music_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"too few|more tracks"):
        find_solos(write_caches(tmp_path, tracks=4), CODEC)


@pytest.fixture(scope="module")
def library(slakh_tree, tmp_path_factory):
    """Solos of the test tree, as if they had been found: two windows that touch, and one."""
    path = tmp_path_factory.mktemp("library") / "solos"
    track, *_ = load_tracks(slakh_tree, "train", sources=("drums", "bass"))
    kind = ("drums", "bass")
    found = {
        "drums": [Window(kind, track.name, 24), Window(kind, track.name, 0)],
        "bass": [Window(kind, track.name, 100)],
    }
    write_solos(path, found, slakh_tree, record={"seed": 0})
    return path, track


def test_the_library_holds_passages_of_the_mixtures(library):
    path, track = library
    drums, bass = read_solos(path, ["drums", "bass"])
    assert [p.samples for p in (*drums, *bass)] == [(WINDOW + 24) * MASK_HOP, WINDOW * MASK_HOP]
    mixture = read_sources(track, ("drums", "bass"), MASK_RATE).mixture.numpy()
    part = mixture[100 * MASK_HOP : (100 + WINDOW) * MASK_HOP]
    assert np.corrcoef(bass[0].read(0, len(part)), part)[0, 1] > 0.999
    assert json.loads((path / "solos.json").read_text())["found"]["drums"]["windows"] == 2


def test_bad_libraries_are_refused(library, slakh_tree, tmp_path):
    with pytest.raises(UserError, match="asteroid-ucr solos"):
        read_solos(library[0], ["drums", "guitar"])
    with pytest.raises(UserError, match="exists"):
        write_solos(library[0], {}, slakh_tree)
    (tmp_path / "drums").mkdir()
    sf.write(tmp_path / "drums" / "short.flac", np.zeros(100), MASK_RATE)
    with pytest.raises(UserError, match=r"short\.flac"):
        read_solos(tmp_path, ["drums"])


@pytest.fixture
def tones(tmp_path):
    """Solos of two instruments, a tone each."""
    time = np.arange(WINDOW * MASK_HOP) / MASK_RATE
    for name, frequency in (("hum", 110.0), ("bells", 3520.0)):
        (tmp_path / name).mkdir()
        sf.write(tmp_path / name / "a.flac", 0.5 * np.sin(2 * np.pi * frequency * time), MASK_RATE)
    low, high = read_solos(tmp_path, ["hum", "bells"])
    return {"hum": [low], "bells": [high]}


@pytest.mark.parametrize("frames", [80, 200])  # the longer ones take several passages each
def test_sums_add_up_and_repeat(tones, frames):
    sums = SoloSums(CODEC, tones, 3, frames)
    level_differences, centres = [], []
    for item in (sums[i] for i in range(40)):
        assert item.shape == (3, 128, frames)
        mixture, first, second = CODEC.to_power(item)
        # Two tones far apart do not interfere: powers add up.
        assert float(mixture.sum()) == pytest.approx(float((first + second).sum()), rel=0.1)
        if first.any() and second.any():
            level_differences.append(10 * float((first.mean() / second.mean()).log10()))
        assert first.any() or second.any()
        if second.mean() > 1e-4:
            centres.append(int(second.mean(1).argmax()))
    assert len(level_differences) < 40  # now and then one is silent
    assert np.std(level_differences) > GAIN_DB / 2
    assert len(set(centres)) > 3  # transposed
    again = SoloSums(CODEC, tones, 3, frames)
    assert torch.equal(sums[2], again[2])
    assert not torch.equal(sums[0], sums[1])


def test_drums_are_also_deep_and_heavy(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, WINDOW * MASK_HOP)
    lows = {}
    for name in ("drums", "bells"):
        (tmp_path / name).mkdir()
        sf.write(tmp_path / name / "a.flac", noise, MASK_RATE)
        sums = SoloSums(CODEC, {name: [read_solos(tmp_path, [name])[0]]}, 0, 80)
        powers = (CODEC.to_power(sums[i][1]).mean(1) for i in range(30))
        lows[name] = np.mean([float((p[:3].mean() / p[8:40].mean()).log10()) for p in powers])
    assert lows["drums"] > lows["bells"] + 0.2


def test_estimates_are_passages_too(slakh_tree, small_model, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("asteroid_ucr.solos.remix._keep_clean_passages", interrupted)
        write_estimates(tmp_path, small_model, "teacher", slakh_tree, progress=False)
    songs = [
        {file.stem: read_audio(file)[0][0] for file in (tmp_path / "whole" / name).iterdir()}
        for name in ("drums", "bass")
    ]
    tracks = load_tracks(slakh_tree, "train")
    mixture = read_sources(tracks[0], ("drums", "bass"), MASK_RATE).mixture
    total = sum(song[tracks[0].name] for song in songs)
    assert np.corrcoef(total, mixture)[0, 1] > 0.999
    # An interrupted call separates what is missing, and nothing else.
    names = [song.name for song in tracks]
    files = [tmp_path / "whole" / "bass" / f"{name}.flac" for name in names]
    before = files[0].stat().st_mtime_ns
    files[1].unlink()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("asteroid_ucr.solos.remix._keep_clean_passages", interrupted)
        write_estimates(tmp_path, small_model, "teacher", slakh_tree, progress=False)
    assert files[1].is_file() and files[0].stat().st_mtime_ns == before
    # Of the passages of 4 s, one in each of three songs, the cleaner half is kept.
    for _ in range(2):
        write_estimates(tmp_path, small_model, "teacher", slakh_tree, progress=False)
        for passages, song, other in zip(
            read_solos(tmp_path, ["drums", "bass"]), songs, songs[::-1], strict=True
        ):
            assert {p.samples for p in passages} == {4 * MASK_RATE}
            overlap = {}
            for name in names:
                one, two = (stft(s[name][: 4 * MASK_RATE]).abs() for s in (song, other))
                overlap[f"{name}_0"] = float((one * two).sum() / one.square().sum())
            assert {p.path.stem for p in passages} == set(sorted(overlap, key=overlap.get)[:2])
    assert not (tmp_path / "whole").exists()
    with pytest.raises(UserError, match="other estimates"):
        write_estimates(tmp_path, small_model, "another", slakh_tree, progress=False)


def test_masks_of_the_parts_of_a_sum_make_the_smallest_error():
    """No other mask on the same bands comes nearer to the parts than those of their latents."""
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(2, MASK_RATE, generator=generator) * torch.tensor([[0.1], [0.05]])
    total, *latents = CODEC.encode_sum(parts)
    assert torch.allclose(total, CODEC.encode(parts.sum(0)[None, None])[0], atol=1e-5)
    powers = [CODEC.spectrogram(part[None], MASK_RATE) for part in latents]
    direct = [CODEC.spectrogram(CODEC.encode(part[None, None]), MASK_RATE) for part in parts]

    def error(powers):
        masks = wiener_masks(torch.stack(powers, 1))
        return float((apply_masks(parts.sum(0)[None, None], masks)[0, :, 0] - parts).square().sum())

    assert error(powers) < 0.98 * error(direct)
    # Powers of the parts add up, and a silent part stays silent.
    assert torch.allclose(sum(map(CODEC.to_power, latents)), CODEC.to_power(total), rtol=1e-3)
    assert float(CODEC.encode_sum(parts * torch.tensor([[1.0], [0.0]]))[2].abs().max()) == 0


class Ears:
    """Hears an instrument in the bands where it is loudest: a model that knows the toy's truth."""

    sources = ("hum", "clicks", "bells")

    def __init__(self, caches):
        self.caches, self.kind = caches, None

    def select(self, kind):
        self.kind = kind
        return self

    def latent_energy(self, latents):
        cache = self.caches[self.kind]
        for track in cache.tracks:
            if np.array_equal(cache.whole(track), latents[0].numpy()):
                return torch.from_numpy(cache.power(track))[None]
        raise AssertionError("latents of no track")


def test_a_model_helps_to_find_solos(toy):
    caches, without = toy
    solos = find_solos(caches, CODEC, model=Ears(caches))
    for name, windows in solos.items():
        shares = []
        for window in windows:
            power = caches[window.kind].power(window.track)
            power = power[:, window.start : window.start + WINDOW].mean(1)
            shares.append(power[window.kind.index(name)] / power.sum())
        assert min(shares) > 0.93
        assert len({window.kind for window in windows}) == 2  # of all kinds that have it
        assert len(windows) > len(without[name])
    deaf = Ears(caches)
    deaf.sources = ("hum", "clicks")
    with pytest.raises(UserError, match="bells"):
        find_solos(caches, CODEC, model=deaf)


def test_stems_can_stand_for_solos(slakh_tree, tmp_path):
    write_stems(tmp_path / "stems", ["drums", "bass"], slakh_tree, every_seconds=2.0)
    drums, bass = read_solos(tmp_path / "stems", ["drums", "bass"])
    assert len(drums) == len(bass) == 3 * 3  # tracks of six seconds
    track = load_tracks(slakh_tree, "train", sources=("drums", "bass"))[0]
    stem = read_sources(track, ("drums", "bass"), MASK_RATE).references[1].numpy()
    assert np.corrcoef(bass[0].read(0, WINDOW * MASK_HOP), stem[: WINDOW * MASK_HOP])[0, 1] > 0.999


def test_mask_loss_is_the_energy_that_masks_misplace():
    components = CODEC.from_power(torch.rand(2, 2, 128, 10) * 100)
    mixture = CODEC.from_power(CODEC.to_power(components).sum(1))
    assert float(mask_loss(CODEC, components, components, mixture)) < 1e-9
    # Louder estimates with the same shares are as good.
    louder = CODEC.from_power(7 * CODEC.to_power(components))
    assert float(mask_loss(CODEC, louder, components, mixture)) < 1e-6
    swapped = mask_loss(CODEC, components.flip(1), components, mixture)
    power = CODEC.to_power(components)
    error = (2 * power[:, 0] / power.sum(1) - 1).abs()
    energy, loud = power.sum(1) * CODEC.widths, power.sum(1) ** 0.3
    misplaced, soft = (
        2 * (w * e).sum((1, 2)) / w.sum((1, 2)) for w, e in ((energy, error**2), (loud, error))
    )
    expected = misplaced + 0.2 * torch.log1p(1e4 * misplaced) + 0.3 * soft
    assert float(swapped) == pytest.approx(float(expected.mean()), rel=1e-3)


def test_every_other_item_forgives_estimates_of_silent_components():
    components = CODEC.from_power(torch.rand(2, 3, 128, 10) * 100)
    components[:, 2] = 0
    mixture = CODEC.from_power(CODEC.to_power(components).sum(1))
    estimates = components.clone()
    estimates[:, 2] = estimates[:, 0]
    assert float(mask_loss(CODEC, estimates[:1], components[:1], mixture[:1])) < 1e-3
    both = float(mask_loss(CODEC, estimates, components, mixture))
    assert both > 0.1  # the second item is not forgiven
