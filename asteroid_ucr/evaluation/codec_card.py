"""What a trained codec costs: scores of its round trip, and the card that reports them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import torchaudio.functional as AF
import yaml
from torch import Tensor

from asteroid_ucr.audio import level_gain
from asteroid_ucr.codecs import Codec, OwnCodec, build_codec
from asteroid_ucr.codecs.encodec import BANDWIDTHS
from asteroid_ucr.data.minislakh.collection import RECORD
from asteroid_ucr.data.slakh import load_tracks, read_sources
from asteroid_ucr.errors import UserError
from asteroid_ucr.evaluation.frechet import compare, embed
from asteroid_ucr.evaluation.statistics import summarise
from asteroid_ucr.files import atomic_path, make_folder
from asteroid_ucr.seeding import generator_for
from asteroid_ucr.training.codec_scores import Clip, folder_clips, score, track_clips

RATE = OwnCodec.sample_rate
LOW_PASS = 9600  # samples per second: 128 latents 75 times a second are as many numbers
SOURCES = ("drums", "bass", "piano")
SCORES = {"si_sdr": "SI-SDR", "mel": "mel", "lsd": "LSD"}
RESAMPLES = 100
RoundTrip = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """A round trip to score: its name, what it sends per second, and itself."""

    name: str
    rate: str
    round_trip: RoundTrip


def low_pass(wav: Tensor) -> Tensor:
    """`(…, time)` at 24 kHz without what lies above 4.8 kHz: down to 9600 samples/s and back."""
    down = AF.resample(wav, RATE, LOW_PASS, lowpass_filter_width=64)
    return AF.resample(down, LOW_PASS, RATE, lowpass_filter_width=64)[..., : wav.shape[-1]]


def rows(weights: str | Path) -> list[Row]:
    """The yardstick, and the codec un-quantised and at each bandwidth."""
    made = [Row("low-pass 4.8 kHz", "9600 numbers", low_pass)]
    for bandwidth in (0.0, *BANDWIDTHS[::-1]):
        codec = build_codec("ucr_24khz", bandwidth=bandwidth, weights=str(weights))
        name = f"{bandwidth:g} kbit/s" if bandwidth else "un-quantised"
        rate = f"{bandwidth:g} kbit" if bandwidth else "9600 numbers"
        made.append(Row(name, rate, _round_trip(codec)))
    return made


def _round_trip(codec: Codec) -> RoundTrip:
    @torch.inference_mode()
    def run(wav: Tensor) -> Tensor:
        return codec.decode(codec.encode(wav), wav.shape[-1])

    return run


def score_rows(clips: list[Clip], made: Iterable[Row]) -> pd.DataFrame:
    """Scores of each row's round trip of each clip that is not silent."""
    lines = []
    for row in made:
        for line in score(clips, row.round_trip):
            lines.append({"row": row.name, "run": 0, "clip": line["track"], **line})
    return pd.DataFrame(lines)


def score_table(scores: pd.DataFrame, made: Iterable[Row]) -> str:
    """Markdown: mixtures and stems apart, means over tracks with 95 % intervals."""
    head = ["round trip", "per second"]
    head += [f"{what} {name}" for what in ("mixture", "stems") for name in SCORES.values()]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in made:
        own = scores[scores["row"] == row.name]
        mixture = own["source"] == "mixture"
        cells = [_interval(own[part], s) for part in (mixture, ~mixture) for s in SCORES]
        lines.append(_line([row.name, row.rate, *cells]))
    return "\n".join(lines)


def source_table(scores: pd.DataFrame) -> str:
    """Markdown: the un-quantised round trip of each source."""
    own = scores[scores["row"] == "un-quantised"]
    lines = [_line(["un-quantised", *SCORES.values()]), _line(["---"] * 4)]
    for source in dict.fromkeys(own["source"]):
        part = own[own["source"] == source]
        lines.append(_line([source, *(_interval(part, s) for s in SCORES)]))
    return "\n".join(lines)


def _interval(scores: pd.DataFrame, column: str) -> str:
    summary = summarise(scores, column)
    return f"{summary.mean:.1f} ± {summary.half_width:.1f}"


def frechet_table(
    root: str | Path, made: Iterable[Row], sources: tuple[str, ...] = SOURCES, seed: int = 0
) -> str:
    """Markdown: Fréchet distances to the true test mixtures, of round trips and of floors.

    Args:
        root: of a Slakh tree.
        made: rows to measure.
        sources: that make up the mixtures, which are taken whole.
        seed: of the bootstrap, and of the white noise.
    """
    test, train = (_songs(root, split, sources) for split in ("test", "train"))
    sets = {row.name: [row.round_trip(wav[None, None])[0, 0] for wav in test] for row in made}
    sets["floor: other songs (train)"] = train
    sets["floor: white noise"] = [
        0.1 * torch.randn(wav.shape, generator=generator_for(seed, n)) for n, wav in enumerate(test)
    ]
    codecs = {"ucr_24khz": build_codec("ucr_24khz"), "mel": build_codec("mel")}
    head = ["mixtures", "songs"]
    head += [f"{kind}, {name}" for name in codecs for kind in ("FD", "FD∞ [95 %]")]
    true = {n: [embed(w, codec=c) for w in test] for n, c in codecs.items()}
    lines = [_line(head), _line(["---"] * len(head))]
    for label, sounds in sets.items():
        cells = []
        for name, codec in codecs.items():
            heard = [embed(w, codec=codec) for w in sounds]
            found = compare(true[name], heard, seed, RESAMPLES, paired="floor" not in label)
            span = f"[{found.low:.2f}, {found.high:.2f}]"
            cells += [f"{found.value:.2f}", f"{found.infinity:.2f} {span}"]
        lines.append(_line([label, str(len(sounds)), *cells]))
    return "\n".join(lines)


def _songs(root: str | Path, split: str, sources: tuple[str, ...]) -> list[Tensor]:
    songs = []
    for track in load_tracks(root, split, sources=sources):
        mixture = read_sources(track, sources, RATE).mixture
        songs.append(mixture * level_gain(mixture))
    return songs


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def training_facts(exp_dir: str | Path, command: str, commit: str) -> str:
    """Markdown: how the codec was trained, from its experiment's folder.

    Raises:
        UserError: if the folder has no finished run.
    """
    folder = Path(exp_dir)
    try:
        config = yaml.safe_load((folder / "conf.yml").read_text())
        with (folder / "log.csv").open(newline="") as file:
            last = list(csv.DictReader(file))[-1]
    except (OSError, IndexError) as error:
        raise UserError(f"{folder} holds no run of train_codec.py: train one first.") from error
    data, network, training = config["data"], config["network"], config["training"]
    origin = f"the training split of {_named(data['root'])}"
    threads = training["threads"]
    kept = training["transform"]
    facts = {
        "data": origin,
        "command": f"`{command}`",
        "code": f"commit {commit}",
        "seed": training["seed"],
        "steps": f"{last['step']}, of {training['batch_size']} crops of {data['seconds']:g} s",
        "time": f"{float(last['hours']):.2f} h on "
        + (f"{threads} CPU core" + "s" * (threads > 1) if threads else "the CPU"),
        "network": f"SEANet, {network['n_filters']} filters, {network['lstm']} recurrent layers; "
        f"{network['n_q']} codebooks of {network['bins']}",
        "latents": f"128 at 75 frames/s: {kept} are the lowest cosine coefficients of their frame, "
        f"up to {kept * 12 / 320:.1f} kHz, and {128 - kept} were learnt",
        "licence": "MIT, like the package",
    }
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())


def write_card(
    exp_dir: str | Path,
    root: str | Path,
    clips: str | Path | None,
    out: str | Path,
    command: str,
    commit: str,
    sources: tuple[str, ...] = SOURCES,
) -> Path:
    """Copies `codec.pth` to `OUT.pth`, scores it, and writes `OUT.md`.

    Args:
        exp_dir: of `train_codec`.
        root: Slakh tree on whose test split to score; another than the codec was trained on.
        clips: folder of clips to score besides; see `folder_clips`.
        out: path without ending.
        command: that trained the codec.
        commit: of the code that trained it.
        sources: whose sum a mixture of the tree is.

    Returns:
        The card's path.
    """
    out = Path(out)
    make_folder(out.parent)
    facts = training_facts(exp_dir, command, commit)
    weights = out.with_name(out.name + ".pth")
    with atomic_path(weights) as temporary:
        shutil.copyfile(Path(exp_dir) / "codec.pth", temporary)
    made = rows(weights)
    parts = [f"# {out.name}\n\n{INTRODUCTION}\n\n{facts}\n- size: {_megabytes(weights)} MB"]
    parts.append(f"## Round trips\n\n{SCORES_TEXT}")
    sets = {f"Test songs of {_named(root)}": track_clips(root, sources)}
    if clips is not None:
        sets["Clips of Slakh2100's test set"] = folder_clips(clips)
    for title, sounds in sets.items():
        scores = score_rows(sounds, made)
        songs = scores["track"].nunique()
        parts.append(
            f"### {title} ({songs} tracks)\n\n{score_table(scores, made)}\n\n{source_table(scores)}"
        )
    parts.append(f"## Fréchet distances\n\n{FRECHET_TEXT}\n\n{frechet_table(root, made, sources)}")
    parts.append(f"## Limits\n\n{LIMITS}")
    card = out.with_name(out.name + ".md")
    with atomic_path(card) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n")
    return card


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f}"


def _named(root: str | Path) -> str:
    """What a Slakh tree is, and for mini-Slakh how to make it."""
    record = Path(root) / RECORD
    if not record.is_file():
        return Path(root).name
    made, songs = json.loads(record.read_text()), len(list(Path(root).glob("*/Track*")))
    return (
        f"mini-Slakh (`make_minislakh.py --songs {songs} --seconds {made['seconds']:g} "
        f"--seed {made['seed']}`)"
    )


INTRODUCTION = """A codec of EnCodec's kind (Défossez et al. 2022): 24 kHz, 128 latents,
75 frames/s, causal. `build_codec("ucr_24khz")` and `--codec.name ucr_24khz` use it.
`egs/slakh_ucr/codec_card.py` wrote this card."""
SCORES_TEXT = """Means in dB over tracks with 95 % intervals (Student's t). Higher SI-SDR, lower
mel distance and lower log-spectral distance (LSD) are better. Mixtures are at −20 dB,
and their stems at the level that they have there; 7 s from the middle of each song, clips
whole. The low-pass filter sends as many numbers per second as the codec's latents."""
FRECHET_TEXT = """Of mixtures, whole test songs: the distance of their round trips to themselves,
beside that of other songs, as good as different music gets, and of noise at the same level. FD∞ is
extrapolated to infinitely many windows. Embeddings (`asteroid_ucr.evaluation.frechet`) are made
from this codec's own latents, which cannot tell what it lacks, and from mel spectrograms, to which
bands without any sound are further from music than noise is."""
LIMITS = """Trained on music that a rule-based composer wrote and one small soundfont played;
scores on real recordings other than the clips above are not known, and speech was never seen.
Waveforms are kept up to the highest cosine coefficient; above it only the level is imitated. Frames
do not overlap, and their edges can be heard in loud pure tones. Bandwidths are those of the
codebooks, whose waveforms are poor; there is no entropy coding and no bit stream."""
