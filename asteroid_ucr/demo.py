"""The command `demo`: a page in the browser that separates and generates."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from asteroid_ucr.commands import CODEC_DIR, DEVICE, command, option
from asteroid_ucr.config import load_model
from asteroid_ucr.utils.errors import UserError

if TYPE_CHECKING:
    from gradio import Blocks
    from torch import Tensor

    from asteroid_ucr.api import Stems
    from asteroid_ucr.separator import UCRSeparator

MAX_SECONDS = 60.0


@command(
    option("models", nargs="*", metavar="MODEL", help="Models to offer (default: the bundled)."),
    option("--port", type=int, help="Port of the page (default: a free one from 7860)."),
    option("--max_seconds", type=float, default=MAX_SECONDS, help="Longest audio that is taken."),
    option("--no_browser", action="store_true", help="Only print the address of the page."),
    DEVICE,
    CODEC_DIR,
)
def demo(models: list[str], port: int | None, no_browser: bool, **options: Any) -> None:
    """Open a page in the browser that separates recordings and generates stems.

    The page is served by this computer and for this computer only, and needs no network. Ctrl-C
    ends it and removes the sounds that it made.
    """
    from asteroid_ucr.store import bundled_models

    offered = models or sorted(bundled_models(), key=lambda name: name != "drums-bass")
    with tempfile.TemporaryDirectory(prefix="asteroid_ucr_") as folder:
        page = build_page(Studio(Path(folder), **options), offered)
        serve(page, folder, port, inbrowser=not no_browser)


@dataclass(frozen=True)
class Studio:
    """What the buttons of the page do.

    Each action returns HTML with a player and a spectrogram for each stem, which it writes into a
    new folder below `folder`.

    Attributes:
        folder: Folder of the sounds.
        device: Name of the device.
        codec_dir: Folder of the codec's weights, for models whose codec has weights.
        max_seconds: Longest audio that is taken.
    """

    folder: Path
    device: str = "auto"
    codec_dir: str | None = None
    max_seconds: float = MAX_SECONDS

    @lru_cache(maxsize=2)  # noqa: B019 - a page has one studio
    def model(self, name: str) -> UCRSeparator:
        """A model by its name; the last two are kept."""
        return load_model(name, self.device, self.codec_dir)

    def separate(self, name: str, seed: int, path: str | None) -> str:
        """Separates a file.

        Raises:
            UserError: If there is no file, or it is too long or cannot be read.
        """
        from asteroid_ucr.api import Separator

        path = self._check(path)
        return self._show(Separator(self.model(name), seed=seed).separate(path))

    def accompany(self, name: str, seed: int, path: str | None, source: str) -> str:
        """Keeps a stem, and generates the model's other sources.

        Raises:
            UserError: If there is no file, it is too long or cannot be read, or the model has no
                prior.
        """
        wav = self._mono(name, self._check(path))
        return self._generated(name, wav, keep={source: wav}, seed=seed)

    def vary(self, name: str, seed: int, path: str | None, strength: float) -> str:
        """Varies a mixture; see `UCRSeparator.generate`.

        Raises:
            UserError: As `accompany` does.
        """
        wav = self._mono(name, self._check(path))
        return self._generated(name, wav, mixture=wav, strength=strength, seed=seed)

    def _check(self, path: str | None) -> str:
        """The path of a file that is short enough."""
        from asteroid_ucr.utils.decoding import open_audio

        if not path:
            raise UserError("There is no sound yet: choose a file, or record something.")
        with open_audio(path, lambda file: file.frames / file.samplerate) as (_, seconds):
            if seconds > self.max_seconds:
                raise UserError(
                    f"{path} has {seconds:.0f} s, and this page takes {self.max_seconds:g} s at "
                    "most: cut it, or use `asteroid-ucr separate`, which has no limit."
                )
        return path

    def _mono(self, name: str, path: str) -> Tensor:
        """A file as `(time,)` at the model's rate."""
        from asteroid_ucr.utils.audio import read_audio

        return read_audio(path, int(self.model(name).sample_rate), mono=True)[0][0]

    def _generated(self, name: str, wav: Tensor, **request: Any) -> str:
        from asteroid_ucr.api import Stems

        model = self.model(name)
        made = model.generate(wav.shape[-1] / model.sample_rate, **request)[0]
        return self._show(Stems(dict(zip(model.sources, made, strict=True)), model.sample_rate))

    def _show(self, stems: Stems) -> str:
        """Writes stems and their sum, and returns the HTML of their players."""
        import torch

        from asteroid_ucr.reports.figures import spectrogram_image
        from asteroid_ucr.reports.players import loudest
        from asteroid_ucr.reports.tables import TEMPLATES
        from asteroid_ucr.utils.audio import write_audio
        from asteroid_ucr.utils.stems import MARK

        rate, target = int(stems.sample_rate), Path(tempfile.mkdtemp(dir=self.folder))
        mono = {name: torch.atleast_2d(wav).mean(0) for name, wav in stems.items()}
        top_db = max(loudest(wav, rate) for wav in mono.values())
        rows = []
        for name, wav in {**stems, "mix": torch.stack(list(stems.values())).sum(0)}.items():
            path = target / f"{name}.wav"
            write_audio(path, wav, rate, "FLOAT", f"{MARK}by its demo")
            rows.append({"name": name, "url": f"/gradio_api/file={quote(str(path))}"})
            if name in mono:
                rows[-1]["image"] = spectrogram_image(mono[name], rate, top_db)
        return TEMPLATES.get_template("mixer.html").render(stems=rows[:-1], mix=rows[-1])


def build_page(studio: Studio, models: Sequence[str]) -> Blocks:
    """The page, with its inputs on the left and one tab for each action of the studio.

    Raises:
        UserError: If Gradio is not installed, or the first model cannot be loaded.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # nothing is sent anywhere
    try:
        import gradio as gr
    except ImportError:
        raise UserError("The demo needs Gradio: run `pip install 'asteroid-ucr[demo]'`.") from None

    def safely(action: Callable[..., str]) -> Callable[..., str]:
        """Shows mistakes as the page does, with the name of the file and not its place."""

        def run(name: str, seed: int | None, path: str | None, *more: Any) -> str:
            try:
                return action(name, seed or 0, path, *more)
            except UserError as error:
                raise gr.Error(
                    str(error).replace(f"{Path(path or '').parent}{os.sep}", "")
                ) from None

        return run

    with gr.Blocks(title="asteroid-ucr") as page:
        gr.Markdown(
            "# asteroid-ucr\nSeparates music into stems, and generates stems, with models that "
            f"learnt from mixtures alone. Sounds may have {studio.max_seconds:g} s at most."
        )
        with gr.Row():
            with gr.Column():
                model = gr.Dropdown(list(models), value=models[0], label="Model")
                seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                sound = gr.Audio(
                    label="Sound",
                    type="filepath",
                    sources=["upload", "microphone"],
                    elem_id="sound",
                )
            with gr.Column():
                with gr.Tab("Separate"):
                    gr.Markdown("Separates a mixture. The stems add up to it.")
                    split = gr.Button("Separate", variant="primary")
                with gr.Tab("Keep a stem"):
                    gr.Markdown("Keeps the sound as one stem, in mono, and generates the others.")
                    names = studio.model(models[0]).sources
                    source = gr.Dropdown(names, value=names[0], label="The sound is")
                    fill = gr.Button("Generate the others", variant="primary")
                with gr.Tab("Vary"):
                    gr.Markdown("Makes a variation of a mixture, in mono.")
                    strength = gr.Slider(0.05, 0.95, 0.4, step=0.05, label="Strength")
                    change = gr.Button("Make a variation", variant="primary")
        result = gr.HTML()
        common, alone = [model, seed, sound], {"concurrency_id": "model", "concurrency_limit": 1}
        split.click(safely(studio.separate), common, result, **alone)
        fill.click(safely(studio.accompany), [*common, source], result, **alone)
        change.click(safely(studio.vary), [*common, strength], result, **alone)

        def sources_of(name: str) -> Any:
            names = studio.model(name).sources
            return gr.Dropdown(names, value=names[0])

        model.change(sources_of, model, source, **alone)
    return page


def serve(page: Blocks, folder: str | Path, port: int | None = None, **options: Any) -> str:
    """Serves a page to this computer until it is interrupted.

    Args:
        page: Page of `build_page`.
        folder: Folder of its sounds.
        port: Port; None takes a free one.
        **options: Further arguments of Gradio's `launch`.

    Returns:
        The address of the page, if it is served without waiting (`prevent_thread_lock`).

    Raises:
        UserError: If the port is in use.
    """
    import gradio as gr

    from asteroid_ucr.reports.tables import TEMPLATES

    script = TEMPLATES.get_template("mixer.js").render()
    try:
        return page.launch(
            server_name="127.0.0.1",
            server_port=port,
            allowed_paths=[str(folder)],
            footer_links=[],
            theme=gr.themes.Default(font="system-ui", font_mono="monospace"),  # of the computer
            head=f"<script>{script}</script>",
            **options,
        )[1]
    except OSError as error:
        raise UserError(f"Port {port} cannot be used: choose another one by --port.") from error
