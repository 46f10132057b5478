"""Pictures for the report: spectrograms as small WebP images, charts as inline SVG.

The charts' colours are CSS variables of the page, so that one drawing serves light and dark.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from asteroid_ucr.masking import stft

# Stand-ins that matplotlib draws with and the page's variables replace.
INK, FAINT, ACCENT, SECOND = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {INK: "--ink", FAINT: "--faint", ACCENT: "--accent", SECOND: "--second"}
_ON_WHITE = {INK: "#1f2328", FAINT: "#818b98", ACCENT: "#b5432a", SECOND: "#2a6fb5"}

LOWEST_HZ = 40.0
RANGE_DB = 70.0
_ROWS = 176


def log_spectrogram(wav: Tensor, sample_rate: int) -> np.ndarray:
    """Power in dB on a logarithmic frequency axis.

    Args:
        wav: `(time,)`.
        sample_rate: in Hz.

    Returns:
        `(176, frames)`, from 40 Hz (row 0) to half the sample rate.
    """
    power = stft(wav, sample_rate).abs().square().numpy()
    bins = len(power) - 1
    edges = np.geomspace(LOWEST_HZ, sample_rate / 2, _ROWS + 1) / (sample_rate / 2) * bins
    # Low rows are narrower than a bin and interpolate; high ones take the loudest bin in them.
    centres = np.sqrt(edges[1:] * edges[:-1])
    low = np.clip(np.floor(centres).astype(int), 0, bins - 1)
    weight = (centres - low)[:, None]
    rows = (1 - weight) * power[low] + weight * power[low + 1]
    for k in np.flatnonzero(np.diff(edges) > 1):
        rows[k] = power[int(np.ceil(edges[k])) : int(np.ceil(edges[k + 1]))].max(0)
    return 10 * np.log10(rows + 1e-12)


def frequency_ticks(sample_rate: int) -> list[tuple[str, float]]:
    """Labels of the frequency axis and their height, in percent from below."""
    span = np.log(sample_rate / 2 / LOWEST_HZ)
    marks = {100: "100", 1000: "1k", 5000: "5k"}
    return [
        (text, float(100 * np.log(hz / LOWEST_HZ) / span))
        for hz, text in marks.items()
        if hz < sample_rate / 2
    ]


def spectrogram_image(wav: Tensor, sample_rate: int, top_db: float) -> str:
    """A spectrogram as a WebP data URI.

    Args:
        wav: `(time,)`.
        sample_rate: in Hz.
        top_db: level of the brightest colour; one for all pictures that are compared.
    """
    level = (log_spectrogram(wav, sample_rate) - (top_db - RANGE_DB)) / RANGE_DB
    pixels = colormaps["magma"](np.clip(level, 0, 1)[::-1], bytes=True)[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=72, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def spectrogram_page(sounds: Mapping[str, Tensor], sample_rate: int, path: Path) -> None:
    """Spectrograms of several sounds, four in a row, as a picture on white.

    Args:
        sounds: waveforms `(time,)` by title.
        sample_rate: of all, in Hz.
        path: of the picture, whose format its ending chooses.
    """
    levels = {title: log_spectrogram(wav, sample_rate) for title, wav in sounds.items()}
    top = max(level.max() for level in levels.values())
    figure = Figure(figsize=(10, 2.2 * -(-len(levels) // 4)), layout="constrained")
    grid = figure.subplots(-(-len(levels) // 4), 4, sharex=True, sharey=True, squeeze=False)
    marks = frequency_ticks(sample_rate)
    for axes in grid.flat[len(levels) :]:
        axes.set_visible(False)
    for axes, (title, wav) in zip(grid.flat, sounds.items(), strict=False):
        span = (0, wav.shape[-1] / sample_rate, 0, 100)
        axes.imshow(
            levels[title], origin="lower", extent=span, aspect="auto", cmap="magma",
            vmin=top - RANGE_DB, vmax=top,
        )  # fmt: skip
        axes.set_title(title, fontsize=8.5)
        axes.tick_params(labelsize=7.5)
        axes.set_yticks([height for _, height in marks], [text for text, _ in marks])
    figure.supxlabel("seconds", fontsize=8.5)
    figure.supylabel("Hz", fontsize=8.5)
    figure.savefig(path, dpi=110, facecolor="white")


def training_curve(logs: Mapping[str, pd.DataFrame], name: str = "curve") -> str | None:
    """The losses over training steps, from Lightning's CSV logs; None where they have none.

    Args:
        logs: for each run its log, with columns `step`, and `loss_epoch` or `val_loss` with gaps.
        name: distinguishes the drawings of one page.
    """
    styles = {"loss_epoch": (FAINT, 1.0, "training"), "val_loss": (ACCENT, 1.8, "validation")}
    curves = [
        (loss, log[["step", loss]].dropna())
        for log in logs.values()
        for loss in styles
        if loss in log and log[loss].notna().any()
    ]
    if not curves:
        return None
    figure, axes = _canvas(6.4, 2.6)
    labelled: set[str] = set()
    for loss, curve in curves:
        color, width, label = styles[loss]
        marker = "o" if len(curve) < 3 else None
        label = None if loss in labelled else label  # one entry in the legend for all runs
        axes.plot(curve["step"], curve[loss], color=color, lw=width, label=label, marker=marker)
        labelled.add(loss)
    values = pd.concat([curve[loss] for loss, curve in curves])
    if values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(frameon=False, labelcolor=INK, fontsize=8.5)
    return _svg(figure, name)


def latents_over_time(z: Tensor, sources: Sequence[str], frame_rate: float) -> str:
    """Component latents over time, a strip per source and a line per latent channel.

    Args:
        z: `(n_src, latent_dim, frames)`.
        sources: names, in order.
        frame_rate: latent frames per second.
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
    return _svg(figure, "latents")


def score_dots(scores: Mapping[str, np.ndarray], ours: set[str], name: str) -> str:
    """Every clip's score as a dot, one line per row, the mean as a bar.

    Args:
        scores: label to scores in dB, in the order of the table; NaN is left out.
        ours: labels that are highlighted.
        name: distinguishes the drawings of one page.
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
    axes.set_xlabel("SI-SDR in dB, one dot per clip; the bar is their mean")
    axes.grid(axis="x", color=FAINT, alpha=0.25, lw=0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return _svg(figure, name)


def _draw_steps(axes: Axes, points: Sequence[Mapping[str, float | None]]) -> None:
    known = [point for point in points if point.get("infinity") is not None]
    steps = [point["steps"] for point in known]
    low, high = ([point[end] for point in known] for end in ("low", "high"))
    axes.fill_between(steps, low, high, color=ACCENT, alpha=0.15, lw=0)
    axes.plot(steps, [point["infinity"] for point in known], "o-", ms=4, color=ACCENT, lw=1.4)
    axes.set_xscale("log")
    axes.set_xticks(steps, list(map(str, steps)), minor=False)
    axes.minorticks_off()
    axes.set_xlabel("steps of the prior's sampler")
    axes.set_ylabel("FAD∞ of the mixture")


def steps_curve(points: Sequence[Mapping[str, float | None]]) -> str:
    """Fréchet distance by number of sampler steps, with its interval.

    Args:
        points: with `steps`, `infinity`, `low` and `high`.
    """
    figure, axes = _canvas(5.2, 2.6)
    _draw_steps(axes, points)
    return _svg(figure, "steps")


def steps_picture(points: Sequence[Mapping[str, float | None]], path: Path) -> None:
    """`steps_curve` as a picture on white, whose format the path's ending chooses."""
    figure, axes = _canvas(5.2, 2.6)
    _draw_steps(axes, points)
    figure.savefig(path, dpi=160, facecolor="white")


@dataclass(frozen=True)
class CostPoint:
    """A row of the plot of quality against cost.

    Attributes:
        label: for people.
        gflops: GFLOP per second of audio; None draws a level line.
        si_sdr: in dB.
        half_width: of its interval, if known.
        ours: whether it is highlighted.
    """

    label: str
    gflops: float | None
    si_sdr: float
    half_width: float | None
    ours: bool


def quality_against_cost(points: Sequence[CostPoint]) -> str:
    """SI-SDR against GFLOP per second of audio, as an SVG file of its own.

    Args:
        points: at least one of them with a cost.
    """
    figure, axes = _canvas(6.8, 4.0)
    for point in points:
        color = ACCENT if point.ours else INK
        if point.gflops is None:
            axes.axhline(point.si_sdr, color=FAINT, lw=0.8, ls="--")
            axes.annotate(
                point.label,
                (1, point.si_sdr),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 2),
                textcoords="offset points",
                ha="right",
                size=8,
                color=FAINT,
            )
            continue
        error = None if point.half_width is None else [point.half_width]
        axes.errorbar([point.gflops], [point.si_sdr], error, fmt="o", color=color, ms=5, lw=1)
        axes.annotate(
            point.label,
            (point.gflops, point.si_sdr),
            xytext=(6, 4),
            textcoords="offset points",
            size=8.5,
            color=color,
        )
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.08)
    axes.set_xlabel("GFLOP per second of audio (logarithmic)")
    axes.set_ylabel("SI-SDR in dB, mean over the sources, 95 % interval")
    return _standalone(figure)


def _standalone(figure: Figure) -> str:
    """The drawing as an SVG file on white, for pages that bring no colours of their own."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "standalone", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    svg = buffer.getvalue()
    for color, shown in _ON_WHITE.items():
        svg = svg.replace(color, shown)
    return svg


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


def _svg(figure: Figure, name: str) -> str:
    """The drawing as an `svg` element that takes its colours and font from the page."""
    figure.patch.set_alpha(0)
    buffer = io.StringIO()
    # The salt makes the ids of clip paths reproducible, and different between drawings.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", svg, count=1)
    svg = re.sub(r'<svg ([^>]*?)height="[^"]*"', r'<svg role="img" \1', svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg


def mp3_or_flac(wav: Tensor, sample_rate: int) -> str:
    """Audio as a data URI: MP3, which every browser plays, or FLAC where libsndfile lacks it."""
    samples = torch.clamp(wav, -1, 1).numpy()
    buffer = io.BytesIO()
    if "MP3" in soundfile.available_formats():
        # About 90 kbit/s, ample for mono at 24 kHz: artefacts heard are the separator's.
        soundfile.write(
            buffer,
            samples,
            sample_rate,
            format="MP3",
            subtype="MPEG_LAYER_III",
            bitrate_mode="CONSTANT",
            compression_level=0.45,
        )
        kind = "mpeg"
    else:
        soundfile.write(buffer, samples, sample_rate, format="FLAC")
        kind = "flac"
    return f"data:audio/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()
