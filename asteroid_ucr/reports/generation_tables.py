"""Tables, sentences and figures of the evaluation of generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from asteroid_ucr.evaluation.accompaniment import EXAMPLES
from asteroid_ucr.reports import figures
from asteroid_ucr.reports.tables import Cell, Table
from asteroid_ucr.utils.audio import read_audio

_FIT = {
    "onset": ("onsets", "Correlation of the onset strengths of partner and kept stem."),
    "chroma": ("chroma", "Agreement of the pitch classes of partner and kept stem."),
    "level": ("level, dB", "Power of the partner, relative to that of the true partner."),
    "leakage": ("leakage", "Share of the partner that the separator takes for the kept source."),
    "component_mse": ("MSE of z", "Squared distance of component latents to the true partner's."),
    "codec_mse": ("MSE of x", "Squared distance of codec latents to the true partner's."),
}
_RENDERING_HELP = {
    "pitch": "Share of voiced frames whose pitch is right within half a semitone (for a bass).",
    "onsets": "Share of onsets that are within 20 ms.",
    "chroma": "Agreement of the pitch classes.",
}
_FRECHET_HELP = {
    "FAD∞": "Fréchet audio distance, extrapolated to infinitely many embeddings; lower is better.",
    "95 %": "Bootstrap interval of FAD∞.",
    "FAD": "Fréchet audio distance computed from all embeddings.",
    "embeddings": "Number of windows with an embedding.",
    "silent": "Number of silent recordings, which are excluded.",
}


def frechet_table(results: Mapping[str, Any]) -> Table:
    """Fréchet distances of collections of sounds to the training or the test split."""
    lines = pd.DataFrame(results["frechet"]).set_index(["sounds", "target", "reference"])
    lines.index.names = ["sounds", "of", "against"]
    low, high = lines["low"].map(Cell), lines["high"].map(Cell)
    ends = [f"{a} … {b}" if pd.notna(a.value) else "–" for a, b in zip(low, high, strict=True)]
    frame = pd.DataFrame(
        {
            "FAD∞": lines["infinity"].map(Cell),
            "95 %": ends,
            "FAD": lines["value"].map(Cell),
            "embeddings": lines["embeddings"].map(str),
            "silent": lines["silent"].map(str),
        }
    )
    return Table(frame, help=_FRECHET_HELP)


def rendering_table(results: Mapping[str, Any]) -> Table:
    """What is heard of a stem that is rendered from its component latent."""
    entries = results["rendering"]
    cells = {
        name: [Cell(e[name]["mean"], e[name]["half_width"], digits=2) for e in entries]
        for name in _RENDERING_HELP
    }
    labels = [(entry["source"], entry["from"]) for entry in entries]
    index = pd.MultiIndex.from_tuples(labels, names=["source", "rendered from"])
    return Table(pd.DataFrame(cells, index=index), help=_RENDERING_HELP)


def fit_table(results: Mapping[str, Any]) -> Table:
    """Fit of generated, true and shuffled partners to the kept stem."""
    entries = results["fit"]
    cells: dict[str, list[Any]] = {
        title: [Cell(e[key]["mean"], e[key]["half_width"], digits=2) for e in entries]
        for key, (title, _) in _FIT.items()
    }
    cells["clips"] = [str(entry["onset"]["clips"]) for entry in entries]
    labels = [(entry["kept"], entry["partner"]) for entry in entries]
    index = pd.MultiIndex.from_tuples(labels, names=["kept", "partner"])
    return Table(pd.DataFrame(cells, index=index), help=dict(_FIT.values()))


def sentences(results: Mapping[str, Any]) -> list[str]:
    """The remaining measurements, in words."""
    copies, protocol = results["memorisation"], results["protocol"]
    found = [
        f"Mean squared change of the kept components: {results['kept_mse']:g}.",
        f"Generating {protocol['segment_seconds']:g} s from nothing in {protocol['steps']} steps "
        f"takes {results['seconds_each']:.2f} s.",
    ]
    means = [copies[name]["mean"] for name in ("generated", "test")]
    if None not in means:
        found.append(
            f"Distance to the nearest training passage of {copies['seconds']:.2g} s: "
            f"{means[0]:.3f} for generations and {means[1]:.3f} for test clips; "
            f"{copies['nearer_than_any_test']} of {protocol['unconditional']} generations are "
            "nearer than every test clip."
        )
    return found


def protocol_line(results: Mapping[str, Any]) -> str:
    """The protocol in one line."""
    p = results["protocol"]
    return (
        f"{' + '.join(p['sources'])}, mix: {p['mix']} · {p['train_clips']} training and "
        f"{p['test_clips']} test clips of {p['segment_seconds']:g} s ({p['test_tracks']} test "
        f"tracks) · {p['unconditional']} generations from nothing · {p['steps']} steps, "
        f"guidance {p['guidance']:g}, seed {p['seed']} · embeddings: {p['embedding']}"
    )


def generation_text(results: Mapping[str, Any], form: Callable[[Table], str] = Table.text) -> str:
    """Tables in the given form, sentences and protocol."""
    words = [f"- {sentence}" for sentence in sentences(results)]
    tables = [frechet_table(results), rendering_table(results), fit_table(results)]
    parts = [*map(form, tables), *words]
    return "\n".join([*parts, "", f"*{protocol_line(results)}*", ""])


def draw_generation(results: Mapping[str, Any], folder: Path) -> None:
    """Writes `generation_random.webp` and, with a curve, `generation_steps.png` into the folder.

    Raises:
        UserError: If an example cannot be read, or a picture cannot be written.
    """
    seed = results["protocol"]["seed"]
    sounds = {
        f"seed {seed + k}": read_audio(folder / EXAMPLES / "random" / f"{k}.wav", mono=True)
        for k in range(results["random_examples"])
    }
    figures.save(figures.spectrogram_grid(sounds), folder / "generation_random.webp")
    curve = known_curve(results)
    if curve:
        figures.save(figures.steps_curve(curve), folder / "generation_steps.png")


def known_curve(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The points of the curve over sampler steps whose distance is known."""
    return [point for point in results["curve"] if point.get("infinity") is not None]
