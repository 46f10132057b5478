import base64
import io
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import make_clip
from matplotlib.image import imread

from asteroid_ucr import UCRSeparator, UserError
from asteroid_ucr.evaluation.separation import evaluate
from asteroid_ucr.reports import figures
from asteroid_ucr.reports.page import write_report
from asteroid_ucr.reports.score_tables import summary_sentence

RATE = 24_000
SOURCES = ("drums", "bass")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return UCRSeparator(
        SOURCES, encoder_widths=(16,), denoiser_widths=(16, 16), denoiser_kernels=(3, 3)
    ).eval()


@pytest.fixture(scope="module")
def experiment(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exp")
    clips = [replace(make_clip(k, seconds=2.0), name=f"Song <{k}>") for k in range(3)]
    evaluate({"m": model}, clips, clips, folder, steps=(1,), examples=2, bss_eval=False)
    log = pd.DataFrame(
        {
            "step": [0, 10, 10, 20],
            "loss_epoch": [1.0, 0.8, np.nan, 0.7],
            "val_loss": [np.nan, np.nan, 0.9, np.nan],
        }
    )
    (folder / "logs" / "version_0").mkdir(parents=True)
    log.to_csv(folder / "logs" / "version_0" / "metrics.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def page(experiment, model):
    return write_report(experiment, model).read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Checks that elements nest, and collects attributes and headings."""

    VOID = frozenset({"meta", "img", "link", "br", "input", "hr"})

    def __init__(self):
        super().__init__()
        self.open, self.urls, self.headings = [], [], []

    def handle_starttag(self, tag, attrs):
        self.urls += [value for key, value in attrs if key in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.urls += [value for key, value in attrs if key in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def outline(page):
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_page_is_whole_and_needs_nothing_else(page):
    parsed = outline(page)
    assert parsed.headings == [
        "Scores", "Clip by clip", "Listen", "Component latents", "Training", "Protocol",
    ]  # fmt: skip
    assert all(url.startswith(("data:", "#")) for url in parsed.urls)
    assert not re.search(r"@import|url\((?!#)|<link", page)
    assert len(page) < 15e6
    assert "{{" not in page and "{%" not in page


def test_names_are_escaped(page):
    assert "Song &lt;0&gt;" in page
    assert "<0>" not in page


def test_players_hold_the_examples(page, experiment):
    audio = re.findall(r'<audio[^>]*src="data:audio/\w+;base64,([^"]+)"', page)
    # The mixture, then two sources of: truth, ours, five classical rows, static EQ, two ceilings.
    assert len(audio) == 2 * (1 + 2 * 10)
    first, rate = soundfile.read(io.BytesIO(base64.b64decode(audio[0])))
    mixture, _ = soundfile.read(experiment / "examples" / "Song <0>" / "mixture.wav")
    assert rate == RATE
    length = min(len(first), len(mixture))
    assert length >= 2 * RATE - 2000
    # Lossy coding delays and changes a little: the energy over time is what must agree.
    loudness = [
        np.sqrt(np.square(wav[: length // 2400 * 2400].reshape(-1, 2400)).mean(1))
        for wav in (first, mixture)
    ]
    assert np.corrcoef(*loudness)[0, 1] > 0.9


def test_latents_and_curve_are_left_out_where_there_are_none(experiment, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(experiment, bare, ignore=shutil.ignore_patterns("logs", "report.html"))
    headings = outline(write_report(bare, out="page.html").read_text()).headings
    assert headings == ["Scores", "Clip by clip", "Listen", "Protocol"]


def test_folder_without_results_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="run the evaluation"):
        write_report(tmp_path)


def test_summary_compares_with_floor_and_ceiling():
    def row(name, group, mean):
        summary = {"mean": mean, "half_width": None, "seed_std": None}
        return {"name": name, "label": name, "group": group,
                "scores": {"true": {"all": {"si_sdr": summary}}}}  # fmt: skip

    rows = [row("static_eq", "floor", 5.0), row("ours_1", "ours", 4.0),
            row("ours_25", "ours", 6.5), row("oracle_wiener", "ceiling", 11.0)]  # fmt: skip
    assert summary_sentence({"rows": rows}) == (
        "ours_25: 6.5 dB SI-SDR on average, 1.5 dB above a static equaliser and 4.5 dB below the "
        "oracle mask."
    )
    assert summary_sentence({"rows": rows[:1]}) == ""


def test_spectrogram_shows_a_tone_at_its_frequency():
    time = torch.arange(RATE) / RATE
    for hertz in (100.0, 1000.0, 5000.0):
        levels = figures.log_spectrogram(torch.sin(2 * torch.pi * hertz * time), RATE)
        height = 100 * (levels[:, 40].argmax() + 0.5) / len(levels)
        span = np.log(RATE / 2 / figures.LOWEST_HZ)
        assert height == pytest.approx(100 * np.log(hertz / figures.LOWEST_HZ) / span, abs=2.0)
    uri = figures.spectrogram_image(torch.sin(2000 * time), RATE, levels.max())
    image = imread(io.BytesIO(base64.b64decode(uri.split(",")[1])), format="webp")
    assert image.shape[:2] == levels.shape


def test_charts_take_their_colours_from_the_page():
    figure = figures.score_dots({"A": np.array([1.0, np.nan, 2.0]), "B": np.array([])}, {"A"})
    svg = figures.inline_svg(figure, "x")
    assert "var(--accent)" in svg and "var(--ink)" in svg
    assert not re.search(f"{figures.ACCENT}|{figures.INK}|{figures.FAINT}", svg)
    assert figures.training_curve({"run": pd.DataFrame({"step": [1], "other": [2.0]})}) is None
