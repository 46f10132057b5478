"""Charts and spectrograms.

A chart is a matplotlib figure. `save` writes it to a file on a white background. `inline_svg` makes
it an element of the report page that uses the colours of the page, light or dark.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from asteroid_ucr.masking import stft
from asteroid_ucr.utils.atomic import atomic_path

INK, FAINT, ACCENT = "#1f2328", "#818b98", "#b5432a"
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--faint)", ACCENT: "var(--accent)"}
_RC = {"svg.fonttype": "none", "font.family": "sans-serif"}

LOWEST_HZ = 40.0
RANGE_DB = 70.0
_ROWS = 176
_MARKS = {100: "100", 1000: "1k", 5000: "5k"}  # Hz


def log_spectrogram(wav: Tensor, sample_rate: int) -> np.ndarray:
    """Power of `(time,)` in dB on a logarithmic frequency axis.

    Returns:
        Levels `(176, frames)`, from 40 Hz (row 0) to half the sample rate.
    """
    power = stft(wav, sample_rate).abs().square().numpy()
    bins = len(power) - 1
    edges = np.geomspace(LOWEST_HZ, sample_rate / 2, _ROWS + 1) / (sample_rate / 2) * bins
    # Low rows are narrower than a bin and are interpolated; high rows take their loudest bin.
    centres = np.sqrt(edges[1:] * edges[:-1])
    low = np.clip(np.floor(centres).astype(int), 0, bins - 1)
    weight = (centres - low)[:, None]
    smooth = (1 - weight) * power[low] + weight * power[low + 1]
    loudest = np.maximum.reduceat(power, np.ceil(edges[:-1]).astype(int))
    wide = np.diff(edges)[:, None] > 1
    return 10 * np.log10(np.where(wide, loudest, smooth) + 1e-12)


def frequency_ticks(sample_rate: int) -> dict[str, float]:
    """Labels of the frequency axis and their heights, in percent from the lower edge."""
    span = np.log(sample_rate / 2 / LOWEST_HZ)
    return {
        text: float(100 * np.log(hz / LOWEST_HZ) / span)
        for hz, text in _MARKS.items()
        if hz < sample_rate / 2
    }


def spectrogram_image(wav: Tensor, sample_rate: int, top_db: float) -> str:
    """Draws the spectrogram of `(time,)` as a WebP data URI.

    `top_db` is the level of the brightest colour, the same for all pictures that are compared.
    """
    buffer = io.BytesIO()
    matplotlib.image.imsave(
        buffer, log_spectrogram(wav, sample_rate), cmap="magma", vmin=top_db - RANGE_DB,
        vmax=top_db, origin="lower", format="webp", pil_kwargs={"quality": 72, "method": 4},
    )  # fmt: skip
    return data_uri("image/webp", buffer)


def data_uri(kind: str, buffer: io.BytesIO) -> str:
    """A file in memory as a data URI of a MIME type."""
    return f"data:{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def spectrogram_grid(sounds: Mapping[str, tuple[Tensor, int]]) -> Figure:
    """Draws spectrograms of sounds, four in a row, on one scale.

    Each sound is a waveform `(1, time)` and its sample rate in Hz, by title.
    """
    levels = {title: log_spectrogram(wav[0], rate) for title, (wav, rate) in sounds.items()}
    top = max(level.max() for level in levels.values())
    rows = -(-len(levels) // 4)
    figure = Figure(figsize=(10, 2.2 * rows), layout="constrained")
    grid = figure.subplots(rows, 4, sharex=True, sharey=True, squeeze=False).flat
    for axes in grid[len(levels) :]:
        axes.set_visible(False)
    for axes, (title, (wav, rate)) in zip(grid, sounds.items(), strict=False):
        axes.imshow(
            levels[title], origin="lower", extent=(0, wav.shape[-1] / rate, 0, 100),
            aspect="auto", cmap="magma", vmin=top - RANGE_DB, vmax=top,
        )  # fmt: skip
        axes.set_title(title, fontsize=8.5)
        axes.tick_params(labelsize=7.5)
        ticks = frequency_ticks(rate)
        axes.set_yticks(list(ticks.values()), list(ticks))
    figure.supxlabel("seconds", fontsize=8.5)
    figure.supylabel("Hz", fontsize=8.5)
    return figure


def training_curve(logs: Mapping[str, pd.DataFrame]) -> Figure | None:
    """Draws losses over training steps; None where no log has any.

    The logs are Lightning's, by run, with the columns `step`, `loss_epoch` and `val_loss`, the
    latter two with gaps or missing.
    """
    figure, axes = _canvas(6.4, 2.6)
    for loss, color, width, label in (
        ("loss_epoch", FAINT, 1.0, "training"),
        ("val_loss", ACCENT, 1.8, "validation"),
    ):
        for log in logs.values():
            curve = log[["step", loss]].dropna() if loss in log else pd.DataFrame()
            if not curve.empty:
                marker = "o" if len(curve) < 3 else None
                axes.plot(*curve.to_numpy().T, color=color, lw=width, label=label, marker=marker)
                label = None  # One entry of the legend serves all runs.
    if not axes.lines:
        return None
    values = np.concatenate([line.get_ydata() for line in axes.lines])
    if values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(frameon=False, labelcolor=INK, fontsize=8.5)
    return figure


def latents_over_time(z: Tensor, sources: Sequence[str], frame_rate: float) -> Figure:
    """Draws component latents over time: a strip per source and a line per latent channel.

    The latents `z` are `(n_src, latent_dim, frames)`, with `frame_rate` frames per second.
    """
    figure = Figure(figsize=(6.4, 0.5 + 1.0 * len(sources)), layout="constrained")
    strips = figure.subplots(len(sources), 1, sharex=True, squeeze=False)[:, 0]
    seconds = np.arange(z.shape[-1]) / frame_rate
    for axes, source, latent in zip(strips, sources, z, strict=True):
        _style(axes)
        for k, channel in enumerate(latent[:8]):
            axes.plot(seconds, channel.numpy(), color=ACCENT, lw=0.9, alpha=0.9 / (1 + k / 2))
        axes.set_ylabel(source)
        axes.margins(x=0)
    strips[-1].set_xlabel("seconds")
    return figure


def score_dots(scores: Mapping[str, np.ndarray], ours: set[str]) -> Figure:
    """Draws the score of every clip as a dot, one line per row, with the mean as a bar.

    Scores are in dB, by label; NaN is left out. The labels `ours` are highlighted.
    """
    figure, axes = _canvas(5.2, 0.65 + 0.27 * len(scores))
    shift = np.random.default_rng(0)
    for y, (label, values) in enumerate(scores.items()):
        values = values[np.isfinite(values)]
        color = ACCENT if label in ours else FAINT
        jitter = shift.uniform(-0.22, 0.22, len(values)) if len(values) > 3 else 0 * values
        axes.plot(values, y + jitter, "o", ms=3, mew=0, color=color, alpha=0.55)
        if len(values):
            axes.plot([values.mean()] * 2, [y - 0.36, y + 0.36], color=INK, lw=1.8)
    axes.set_yticks(range(len(scores)), list(scores))
    axes.set_ylim(len(scores) - 0.4, -0.6)
    axes.set_xlabel("SI-SDR in dB; a dot is a clip, a bar is the mean")
    axes.grid(axis="x", color=FAINT, alpha=0.25, lw=0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


def steps_curve(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws the Fréchet distance `infinity`, from `low` to `high`, over `steps` of the sampler."""
    curve = pd.DataFrame(points)
    figure, axes = _canvas(6.4, 2.6)
    axes.fill_between(curve["steps"], curve["low"], curve["high"], color=ACCENT, alpha=0.15, lw=0)
    axes.plot(curve["steps"], curve["infinity"], "o-", ms=4, color=ACCENT, lw=1.4)
    axes.set_xscale("log")
    axes.set_xticks(curve["steps"], curve["steps"].astype(str), minor=False)
    axes.minorticks_off()
    axes.set(xlabel="steps of the prior's sampler", ylabel="FAD∞ of the mixture")
    return figure


def quality_against_cost(points: pd.DataFrame) -> Figure:
    """Draws SI-SDR against GFLOP per second of audio.

    A row of `points` is a system: `label`, `gflops` (NaN draws a level line), `si_sdr` in dB,
    `half_width` of its interval (or NaN) and `ours`, whether it is highlighted.
    """
    figure, axes = _canvas(6.8, 4.0)
    shift = {"textcoords": "offset points"}
    for point in points.itertuples():
        if np.isnan(point.gflops):
            axes.axhline(point.si_sdr, color=FAINT, lw=0.8, ls="--")
            place = {"xycoords": ("axes fraction", "data"), "xytext": (-2, 2), "ha": "right"}
            axes.annotate(point.label, (1, point.si_sdr), size=8, color=FAINT, **place, **shift)
            continue
        color, at = ACCENT if point.ours else INK, (point.gflops, point.si_sdr)
        axes.errorbar(*at, np.nan_to_num(point.half_width), fmt="o", color=color, ms=5, lw=1)
        axes.annotate(point.label, at, xytext=(6, 4), size=8.5, color=color, **shift)
    axes.margins(x=0.25, y=0.08)
    axes.set(xscale="log", xlabel="GFLOP per second of audio (logarithmic)")
    axes.set_ylabel("SI-SDR in dB, mean over the sources, 95 % interval")
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _style(axes)
    return figure, axes


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set(color=FAINT, linewidth=0.7)
    axes.tick_params(color=FAINT, labelcolor=INK, labelsize=8.5, width=0.7, length=3)
    axes.xaxis.label.set(color=INK, size=8.5)
    axes.yaxis.label.set(color=INK, size=8.5)
    axes.patch.set_alpha(0)


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure on white, in the format that the ending of the path names.

    Raises:
        UserError: If the file cannot be written.
    """
    path = Path(path)
    dated = {"metadata": {"Date": None}} if path.suffix == ".svg" else {}
    with atomic_path(path) as temporary, rc_context({**_RC, "svg.hashsalt": path.stem}):
        figure.savefig(temporary, dpi=130, facecolor="white", **dated)


def inline_svg(figure: Figure, name: str) -> str:
    """Converts a figure to an `svg` element that uses the colours and font of the page.

    A unique `name` makes the ids of the element unique within the page.
    """
    figure.patch.set_alpha(0)
    buffer = io.StringIO()
    with rc_context({**_RC, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r'<svg role="img" \1', svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    return svg
