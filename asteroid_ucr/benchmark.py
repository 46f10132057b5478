"""Costs of separation and training, of ours and other networks side by side in one run.

The others have the sizes that their authors published. Times are measured in turns, so that load
affects all networks alike, and each memory in a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import soundfile as sf
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asteroid_ucr.api import Separator
from asteroid_ucr.baselines.neural import ConvTasNetSeparator, HDemucsSeparator
from asteroid_ucr.masking import MASK_RATE
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.atomic import write_json
from asteroid_ucr.utils.device import pick_device
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.flops import gflop_per_second

OURS = "ours"
# Other networks take a whole file at once: longer ones fill the memory and take hours on a CPU.
LONGEST_OTHER = 60.0  # Seconds.
_say = partial(print, file=sys.stderr)  # Progress.


@dataclass(frozen=True)
class Contender:
    """A network to measure.

    Attributes:
        label: Name in tables.
        build: Function that builds the network; the cost does not depend on the weights.
        sample_rate: Sample rate of its input, in Hz.
        channels: Channels of its input.
        separate: Function that runs the network on waveforms `(1, channels, time)`.
        segment: Seconds of audio on which the arithmetic is counted.
    """

    label: str
    build: Callable[[], nn.Module]
    sample_rate: int = MASK_RATE
    channels: int = 1
    separate: Callable[[nn.Module, Tensor], Any] = lambda model, wav: model(wav)
    segment: float = 2.0

    def audio(self, seconds: float, batch: int = 1) -> Tensor:
        """Makes noise `(batch, channels, time)` as its input."""
        shape = (batch, self.channels, round(seconds * self.sample_rate))
        return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def contenders(model: str | Path | None, against: list[str]) -> dict[str, Contender]:
    """Lists our network, as "ours", and those of `OTHERS` that it is compared with.

    Without a trained model, ours is the reference configuration, untrained.

    Raises:
        UserError: If a name is unknown, or its package is not installed.
    """
    unknown = [name for name in against if name not in OTHERS]
    if unknown:
        raise UserError(f"{unknown[0]} cannot be measured: choose from {', '.join(OTHERS)}.")
    if "htdemucs" in against and not has_demucs():
        raise UserError("htdemucs needs the package demucs: pip install demucs, or leave it out.")
    if model is None:
        ours = Contender("Ours, reference size", UCRSeparator)
    else:
        ours = Contender("Ours", lambda: UCRSeparator.from_pretrained(model))
    return {OURS: ours} | {name: OTHERS[name] for name in against}


def has_demucs() -> bool:
    """Whether the package demucs is installed."""
    return importlib.util.find_spec("demucs") is not None


def _htdemucs() -> nn.Module:
    from demucs.htdemucs import HTDemucs

    return HTDemucs(["drums", "bass", "other", "vocals"])


def _in_segments(model: nn.Module, wav: Tensor) -> Tensor:
    from demucs.apply import apply_model

    # The overlap is the default of the command demucs.
    return apply_model(model, wav, shifts=0, overlap=0.25)


OTHERS = {
    "convtasnet": Contender("Conv-TasNet, Asteroid's size, 24 kHz mono", ConvTasNetSeparator),
    "hdemucs": Contender("HDemucs, torchaudio's size, 24 kHz mono", HDemucsSeparator),
    "htdemucs": Contender(
        "HTDemucs, published size, 44.1 kHz stereo",
        _htdemucs,
        sample_rate=44_100,
        channels=2,
        separate=_in_segments,
        segment=7.8,  # Shorter inputs are padded to this length.
    ),
}

Models = Mapping[str, tuple[Contender, nn.Module]]
Speeds = dict[str, dict[str, float]]


def separation_speed(
    models: Models, seconds: float, repeats: int, threads: int = 1, device: str = "cpu"
) -> Speeds:
    """Measures the speed of separating a waveform of some seconds, in some rounds.

    Returns:
        For every network `median`, `low` and `high`, in seconds of audio per second, and `ratio`,
        the median over the rounds of its time divided by that of ours in the same round.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    tasks = {
        name: partial(c.separate, model.to(device).eval(), c.audio(seconds).to(device))
        for name, (c, model) in models.items()
    }
    try:
        with torch.inference_mode():
            return _in_turns(tasks, seconds, repeats, device)
    finally:
        torch.set_num_threads(before)
        for _, model in models.values():
            model.cpu()


def training_speed(
    models: Models, seconds: float, batch: int, repeats: int, device: str = "cpu"
) -> Speeds:
    """Measures the speed of training steps: forward, backward and the step of AdamW.

    A step has `batch` crops of some seconds. Ours trains on cached latents, so that encoding is not
    counted. The weights change.

    Returns:
        The same as `separation_speed`, with `steps_per_second`.
    """
    tasks = {
        name: _step(name, model.to(device).train(), c.audio(seconds, batch).to(device))
        for name, (c, model) in models.items()
    }
    speeds = _in_turns(tasks, seconds * batch, repeats, device)
    for speed in speeds.values():
        speed["steps_per_second"] = speed["median"] / (seconds * batch)
    return speeds


def _step(name: str, model: nn.Module, wav: Tensor) -> Callable[[], None]:
    """A training step of a network on a batch of crops."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    if name == OURS:
        with torch.no_grad():
            latents = model.codec.encode(wav)

    def step() -> None:
        optimizer.zero_grad()
        if name == OURS:
            alpha = torch.rand(len(wav), device=wav.device)
            loss = model.decomposition.loss(latents, torch.randn_like(latents), alpha)
        else:
            estimates = model(wav)
            loss = F.l1_loss(estimates, torch.zeros_like(estimates))
        loss.backward()
        optimizer.step()

    return step


def _in_turns(
    tasks: Mapping[str, Callable[[], Any]], seconds: float, repeats: int, device: str
) -> Speeds:
    """Runs tasks on `seconds` of audio in turns, once to warm up and then `repeats` times each."""

    def timed(task: Callable[[], Any]) -> float:
        start = time.perf_counter()
        task()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    rounds = [{name: timed(task) for name, task in tasks.items()} for _ in range(repeats + 1)]
    times = pd.DataFrame(rounds[1:])
    figures = {
        "median": seconds / times.median(),
        "low": seconds / times.max(),
        "high": seconds / times.min(),
        "ratio": times.div(times[OURS], axis=0).median(),
    }
    return pd.DataFrame(figures).to_dict("index")


def peak_memory(name: str, model: str | None, seconds: float, threads: int) -> float | None:
    """Measures the peak resident memory of a process that separates a file.

    Ours separates the file in pieces, as the command line does. The others take the whole waveform
    at once.

    Returns:
        The peak in MiB, libraries included; None for a length that is measured for ours only.

    Raises:
        UserError: If the process fails, for example because it runs out of memory.
    """
    if name != OURS and seconds > LONGEST_OTHER:
        return None
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        try:
            return process.submit(_separate, name, model, seconds, threads).result()
        except (BrokenProcessPool, MemoryError, RuntimeError, OSError) as error:
            raise UserError(f"{name} could not separate {seconds:g} s: {error}") from error


@torch.inference_mode()
def _separate(name: str, model: str | None, seconds: float, threads: int) -> float:
    """Separates noise in this process and returns its peak memory in MiB."""
    torch.set_num_threads(threads)
    contender = contenders(model, [] if name == OURS else [name])[name]
    network = contender.build().eval()
    if name != OURS:
        contender.separate(network, contender.audio(seconds))
        return _peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.wav"
        piece = contender.audio(1.0)[0, 0].numpy()
        with sf.SoundFile(path, "w", contender.sample_rate, 1) as file:
            for _ in range(max(1, round(seconds))):
                file.write(piece)
        Separator(network).separate_file(path, Path(folder) / "stems")
    return _peak_mib()


def _peak_mib() -> float:
    status = Path("/proc/self/status")
    if status.is_file():
        # Unlike the maximum of getrusage, this one starts at zero with the program.
        line = next(text for text in status.read_text().splitlines() if text.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def run_benchmark(
    out: str | Path,
    model: str | None = None,
    against: Sequence[str] | None = None,
    seconds: float = 10.0,
    repeats: int = 5,
    threads: Sequence[int] = (),
    lengths: Sequence[float] = (10.0, 60.0, 600.0),
    batch: int = 4,
    crop: float = 4.0,
) -> dict[str, Any]:
    """Measures the cost of separation and training, and writes it as JSON.

    The arguments are the options of the command `asteroid-ucr benchmark`, which describes them.

    Returns:
        The content of the file.

    Raises:
        UserError: If a model or package is missing, or the file cannot be written.
    """
    if repeats < 1 or seconds <= 0 or batch < 1 or crop <= 0 or any(x <= 0 for x in lengths):
        raise UserError("--repeats, --batch, --seconds, --crop and --lengths must be positive.")
    if against is None:
        against = [name for name in OTHERS if name != "htdemucs" or has_demucs()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = list(threads) or sorted({1, cores or 1})
    models = {name: (c, c.build()) for name, c in contenders(model, list(against)).items()}
    costs: dict[str, dict[str, Any]] = {}
    for name, (c, network) in models.items():
        _say(f"counting {c.label}")
        shape = {"channels": c.channels, "seconds": c.segment}
        costs[name] = {
            "name": name,
            "label": c.label,
            "parameters": sum(p.numel() for p in network.parameters()),
            "gflops": gflop_per_second(network, c.sample_rate, **shape),
            "speed": {},
            "memory_mib": {},
        }
    runs = [(f"cpu, {n} thread{'s' * (n > 1)}", n, "cpu") for n in threads]
    if torch.cuda.is_available():
        runs.append((torch.cuda.get_device_name(), 1, "cuda"))
    for title, count, device in runs:
        _say(f"timing on {title}")
        for name, speed in separation_speed(models, seconds, repeats, count, device).items():
            costs[name]["speed"][title] = speed
    for length in lengths:
        for name, cost in costs.items():
            _say(f"memory of {cost['label']} for {length:g} s")
            cost["memory_mib"][f"{length:g}"] = peak_memory(name, model, length, max(threads))
    _say("timing training")
    device = pick_device().type
    for name, speed in training_speed(models, crop, batch, repeats, device).items():
        costs[name]["training"] = speed
    settings = {
        "model": model or "the reference configuration, untrained",
        "seconds": seconds,
        "repeats": repeats,
        "batch": batch,
        "crop_seconds": crop,
        "training_device": device,
    }
    machine = {
        "processor": _processor(),
        "cores": cores,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
    results = {"settings": settings, "machine": machine, "models": list(costs.values())}
    return write_json(out, results)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
