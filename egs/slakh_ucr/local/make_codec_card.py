"""Scores a trained codec, and writes it with its card: DIR/codec_ucr_24khz.pth and .md."""

import argparse
import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import torch
import torchaudio
import yaml

from asteroid_ucr.cli import exit_code
from asteroid_ucr.codecs import build_codec
from asteroid_ucr.codecs.encodec import BANDWIDTHS
from asteroid_ucr.evaluation.statistics import t_half_width
from asteroid_ucr.files import atomic_path
from asteroid_ucr.training.codec_scores import folder_clips, score, track_clips

NAME = "codec_ucr_24khz"
SOURCES = ("drums", "bass", "piano")

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--exp_dir", type=Path, required=True, help="of train_codec.py")
parser.add_argument("--out", type=Path, required=True, help="folder of the weights and the card")
parser.add_argument("--slakh_dir", required=True, help="its test split is scored")
parser.add_argument("--real_dir", help="folder of real clips with stems, scored as well")
parser.add_argument("--threads", type=int, default=1)


def lowpass(wav: torch.Tensor) -> torch.Tensor:
    """The lower 128 of each frame's 320 frequencies: what as many numbers keep without learning."""
    down = torchaudio.functional.resample(wav, 24_000, 9600, lowpass_filter_width=64)
    return torchaudio.functional.resample(down, 9600, 24_000, lowpass_filter_width=64)[
        ..., : wav.shape[-1]
    ]


def round_trips(weights: Path):
    """Rows of the tables: names and maps from waveform to waveform."""
    for bandwidth in (0.0, *reversed(BANDWIDTHS)):
        codec = build_codec("ucr_24khz", bandwidth=bandwidth, weights=str(weights))
        name = f"{bandwidth:g} kbit/s" if bandwidth else "un-quantised"
        yield name, lambda wav, codec=codec: codec.decode(codec.encode(wav), wav.shape[-1])
    mel = build_codec("mel")
    yield "*codec `mel`*", lambda wav: mel.decode(mel.encode(wav), wav.shape[-1])
    yield "*low-pass, 4.8 kHz*", lowpass


def table(scores: pd.DataFrame) -> str:
    """Markdown: a row for each round trip."""
    isolated = [s for s in SOURCES if (scores["source"] == s).any()]
    head = ["", "SI-SDR, all", "mixture", *isolated, "mel distance", "log-spectral distance"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    for name, rows in scores.groupby("codec", sort=False):
        by_source = rows.groupby("source")["si_sdr"].mean()
        # The sounds of one track are not independent: the interval is over tracks.
        spread = t_half_width(rows.groupby("track")["si_sdr"].mean())
        cells = [name, f"{rows['si_sdr'].mean():.1f} ± {spread:.1f}"]
        cells += [f"{by_source[s]:.1f}" for s in ("mixture", *isolated)]
        cells += [f"{rows['mel'].mean():.1f}", f"{rows['lsd'].mean():.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


CARD = """# {name}

A neural codec for music at 24 kHz, mono: 128 channels at 75 frames/s, un-quantised or at 1.5 to
24 kbit/s. It is a small EnCodec (Défossez et al. 2022) trained from nothing on rendered music, on
one CPU core; no one else's weights are in it. `build_codec("ucr_24khz", bandwidth=…)` loads it.
This page was written by `egs/slakh_ucr/local/make_codec_card.py`.

It is a small model after a short training: {verdict}

| | |
|---|---|
| network | SEANet encoder and decoder, {network} |
| size | {parameters:.2f} M parameters, and {codebooks:.1f} M in the codebooks; file {size:.1f} MB, half precision |
| training | {steps} steps of {batch} crops of {seconds:g} s in {hours:.2f} hours, then {codebook_steps} steps of the codebooks alone |
| data | mini-Slakh: {songs} composed songs, rendered with General MIDI sounds (TimGM6mb); mixtures and isolated sources |
| losses | error-to-signal ratio, L1, multi-scale mel; from step {adversarial_from} on a multi-scale STFT discriminator |

## Round trip

Means in dB over all sounds that are not silent, with 95 % confidence intervals over tracks. Higher
SI-SDR is better, lower distances are. Mixtures have an RMS of −20 dB of full scale, their sources
their level beside them. The rows in italics are for comparison: the codec `mel` keeps no phase, and
the low-pass keeps the lower 128 of each frame's 320 frequencies, as many numbers as the
un-quantised latents have.

### mini-Slakh, test split: {test_count} sounds of {test_tracks} songs of another seed than the training's

{test_table}
{real}
## Training curve

SI-SDR in dB on validation crops of 2 s.

{curve}
"""

REAL = """
### Real Slakh2100, test split: {count} sounds of {tracks} clips that were neither trained nor tuned on

{table}
"""


def verdict(real: pd.DataFrame | None, test: pd.DataFrame) -> str:
    """One sentence on the goal of 8 dB, whichever way it came out."""
    scores, place = (test, "mini-Slakh's test split") if real is None else (real, "real clips")
    mean = scores[scores["codec"] == "un-quantised"]["si_sdr"].mean()
    if mean >= 8:
        return f"un-quantised it keeps waveforms at {mean:.1f} dB SI-SDR on {place} (goal: 8 dB)."
    return f"un-quantised it reaches {mean:.1f} dB SI-SDR on {place}, **below its goal of 8 dB**."


def curve(log: pd.DataFrame) -> str:
    """Markdown: a line for each validation."""
    columns = {
        "step": "step",
        "hours": "hours",
        "val_si_sdr_unquantised": "un-quantised",
        "val_si_sdr_kbps_24": "24 kbit/s",
        "val_si_sdr_kbps_6": "6 kbit/s",
    }
    columns = {k: v for k, v in columns.items() if k in log}
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "--:|" * len(columns)]
    for _, row in log.iterrows():
        cells = [f"{row['step']:.0f}", f"{row['hours']:.2f}"]
        cells += [f"{row[k]:.1f}" if pd.notna(row[k]) else "" for k in list(columns)[2:]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs the command."""
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = yaml.safe_load((options.exp_dir / "conf.yml").read_text())
    log = pd.read_csv(options.exp_dir / "log.csv")
    weights = options.out / f"{NAME}.pth"
    with atomic_path(weights) as temporary:
        shutil.copyfile(options.exp_dir / "codec.pth", temporary)

    sets = {"test": track_clips(options.slakh_dir, SOURCES)}
    if options.real_dir:
        sets["real"] = folder_clips(options.real_dir)
    scores = {
        name: pd.DataFrame(
            {"codec": codec, **line}
            for codec, round_trip in round_trips(weights)
            for line in score(clips, round_trip)
        )
        for name, clips in sets.items()
    }
    for name, lines in scores.items():
        lines.to_csv(options.exp_dir / f"round_trip_{name}.csv", index=False)

    test, real = scores["test"], scores.get("real")
    model = build_codec("ucr_24khz", weights=str(weights)).model
    network, training = config["network"], config["training"]
    stored = model.quantizer.vq.layers
    listing = Path(config["data"]["store"]) / "train.json"
    card = CARD.format(
        name=NAME,
        verdict=verdict(real, test),
        network=f"{network['n_filters']} filters, {network['n_residual_layers']} residual layer(s), "
        f"{network['lstm']} LSTM layers; {network['n_q']} codebooks of {network['bins']}",
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        codebooks=sum(layer.codebook.numel() for layer in stored) / 1e6,
        size=weights.stat().st_size / 1e6,
        steps=min(int(log["step"].iloc[-1]), training["steps"]),
        batch=training["batch_size"],
        seconds=config["data"]["seconds"],
        hours=log["hours"].iloc[-1],
        codebook_steps=max(0, int(log["step"].iloc[-1]) - training["steps"]),
        songs=len(json.loads(listing.read_text())["songs"]),
        adversarial_from=training["discriminate_from"],
        test_count=(test["codec"] == "un-quantised").sum(),
        test_tracks=test["track"].nunique(),
        test_table=table(test),
        real=(
            ""
            if real is None
            else REAL.format(
                count=(real["codec"] == "un-quantised").sum(),
                tracks=real["track"].nunique(),
                table=table(real),
            )
        ),
        curve=curve(log),
    )
    with atomic_path(options.out / f"{NAME}.md") as temporary:
        temporary.write_text(card)
    print(f"wrote {weights} and {NAME}.md")


if __name__ == "__main__":
    sys.exit(exit_code(main))
