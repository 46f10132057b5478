"""Drum kits, drawn sounds and effects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from asteroid_ucr.minislakh.effects import (
    Effects,
    apply_effects,
    compress,
    draw_effects,
    reverb,
    shape_kick,
)
from asteroid_ucr.minislakh.kits import Kit
from asteroid_ucr.minislakh.notes import SAMPLE_RATE, Note, Part, Wave
from asteroid_ucr.minislakh.sounds import default_soundfont, describe, draw_preset, open_sounds
from asteroid_ucr.utils.errors import UserError

RNG = np.random.default_rng


def level(wave: Wave) -> float:
    return float(10 * np.log10(np.mean(np.square(wave)) + 1e-20))


def below(wave: Wave, corner: float) -> float:
    spectrum = np.abs(np.fft.rfft(wave)) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    return float(10 * np.log10(spectrum[frequency < corner].sum()))


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """A kit whose samples are constants, so that one hears which is played."""
    folder = tmp_path / "kits" / "Mine"
    folder.mkdir(parents=True)
    layers = {"soft": (0, 0.5), "hard": (0.5, 1)}
    for name, value in {"soft": 0.1, "hard": 0.4, "snare": 0.2, "closed": 0.0, "open": 0.3}.items():
        sf.write(folder / f"{name}.wav", np.full(SAMPLE_RATE, value), SAMPLE_RATE)
    kick = "".join(
        f"<layer><filename>{n}.wav</filename><min>{a}</min><max>{b}</max></layer>"
        for n, (a, b) in layers.items()
    )
    rest = "".join(
        f"<instrument><name>{name}</name><filename>{file}.wav</filename></instrument>"
        for name, file in (("Snare 1", "snare"), ("Hat Closed", "closed"), ("Hat Open", "open"))
    )
    (folder / "drumkit.xml").write_text(
        '<drumkit_info xmlns="http://www.hydrogen-music.org/drumkit"><name>My kit</name>'
        "<license>CC0</license><instrumentList><instrument><name>Kick</name>"
        f"{kick}</instrument>{rest}</instrumentList></drumkit_info>"
    )
    return folder


def test_kits_play_layers_and_cut_the_open_hat(kit: Path) -> None:
    drums = Kit(kit)
    assert drums.usable and drums.info["copyright"] == "CC0"
    soft, hard = (
        drums.play([Note(0, 0.1, 36, v)], 100).max() / (v / 127) ** 1.5 for v in (60, 120)
    )
    assert (soft, hard) == pytest.approx((0.1, 0.4), rel=0.01)
    hats = drums.play([Note(0, 0.1, 46, 127), Note(0.5, 0.1, 42, 127)], SAMPLE_RATE)
    assert hats[20000] > 0.29 and np.abs(hats[-10000:]).max() < 1e-3
    # An electric snare is played by the acoustic one; a cuica by nothing.
    assert drums.play([Note(0, 0.1, 40, 127)], 100).max() == pytest.approx(0.2, rel=0.01)
    assert not drums.play([Note(0, 0.1, 79, 127)], 100).any()


def test_sounds_come_from_files_and_folders(kit: Path, tmp_path: Path) -> None:
    sources = open_sounds([default_soundfont(), kit.parent])
    assert [describe(source)["file"] for source in sources] == ["TimGM6mb.sf2", "Mine"]
    assert len({describe(source)["sha256"] for source in sources}) == 2
    (tmp_path / "empty").mkdir()
    for paths, words in (
        ([kit], "no melodic instruments"),
        ([tmp_path / "empty"], "no Hydrogen drum kit"),
        ([tmp_path / "absent"], "does not exist"),
    ):
        with pytest.raises(UserError, match=words):
            open_sounds(paths)
    (kit / "drumkit.xml").write_text("<drumkit_info>")
    with pytest.raises(UserError, match="Mine is not a Hydrogen drum kit"):
        open_sounds([kit])


def test_stems_draw_their_sounds(kit: Path) -> None:
    sources = open_sounds([default_soundfont(), kit])
    bass, drums = Part(33, False, ()), Part(0, True, ())
    exact = {draw_preset(bass, sources, RNG(i), varied=False).program for i in range(20)}
    varied = {draw_preset(bass, sources, RNG(i), varied=True).program for i in range(60)}
    assert exact == {33} and len(varied) > 4 and varied <= set(range(32, 40))
    names = {draw_preset(drums, sources, RNG(i), varied=True).name for i in range(60)}
    assert {"Mine", "TimGM6mb.sf2: Standard"} < names


def test_kicks_go_from_a_click_to_a_boom() -> None:
    notes = (Note(0.0, 0.1, 36, 120),)
    wave = (RNG(0).normal(0, 0.1, SAMPLE_RATE) * np.exp(-np.arange(SAMPLE_RATE) / 2000)).astype("f")
    click = shape_kick(wave, notes, Effects(kick=(0.0, -20.0, 0.0, 0.1)))
    boom = shape_kick(wave, notes, Effects(kick=(0.0, 10.0, 1.0, 0.5)))
    assert below(click, 40) < below(wave, 40) - 6
    assert below(boom, 80) > below(wave, 80) + 6
    assert level(boom[8000:16000]) > level(wave[8000:16000]) + 20


def test_effects_do_what_they_are_named_for() -> None:
    noise = RNG(1).normal(0, 0.1, 2 * SAMPLE_RATE).astype(np.float32)
    burst = noise * (np.arange(len(noise)) < SAMPLE_RATE // 4)
    room = reverb(RNG(2), plate=False)

    def apply(wave: Wave, **settings: float) -> Wave:
        return apply_effects(wave, Effects(**settings), room, RNG(3))

    assert level(apply(noise)) == pytest.approx(level(noise), abs=0.2)
    assert below(apply(noise, low_cut=400.0), 100) < below(noise, 100) - 15
    assert level(apply(noise, high_cut=2000.0)) < level(noise) - 6
    assert below(apply(noise, tilt=-3.0), 300) > below(noise, 300) + 3
    after = slice(SAMPLE_RATE // 4 + 2000, SAMPLE_RATE // 4 + 6000)
    assert level(apply(burst)[after]) < -80 < level(apply(burst, wet=0.2)[after])
    loud = np.concatenate([noise[:SAMPLE_RATE], 0.1 * noise[SAMPLE_RATE:]])
    squeezed = compress(loud, ratio=4.0, attack=0.01)
    ranges = [level(w[:SAMPLE_RATE]) - level(w[SAMPLE_RATE + 20000 :]) for w in (loud, squeezed)]
    assert ranges[1] < ranges[0] - 1.5
    sine = np.sin(2 * np.pi * 100 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    driven = np.abs(np.fft.rfft(apply(sine, drive=3.0)))
    assert driven[300] > 0.02 * driven[100]
    assert not apply(np.zeros(1000, np.float32), drive=1.0, wet=0.3).any()


@pytest.mark.parametrize("program", [0, 30, 33, 48, -1])
def test_drawn_effects_keep_sound_finite_and_repeatable(program: int) -> None:
    stem = Part(max(0, program), program < 0, ())
    wave = RNG(1).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    drawn = [draw_effects(RNG(i), stem) for i in range(8)]
    assert len(set(drawn)) == 8
    for i, effects in enumerate(drawn):
        first, second = (apply_effects(wave, effects, wave[:999], RNG(i)) for _ in range(2))
        assert np.array_equal(first, second) and np.isfinite(first).all() and first.any()
