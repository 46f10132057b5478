"""Times and memory of separation and training.

Times are measured in turns, so that load affects all networks alike, and each memory in a process
of its own.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import soundfile as sf
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asteroid_ucr.benchmark.contenders import OURS, Contender, contenders
from asteroid_ucr.files import separate_file
from asteroid_ucr.utils.errors import UserError

# Other networks take a whole file at once: longer ones fill the memory and take hours on a CPU.
LONGEST_OTHER = 60.0  # Seconds.

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
        separate_file(network, path, Path(folder) / "stems")
    return _peak_mib()


def _peak_mib() -> float:
    status = Path("/proc/self/status")
    if status.is_file():
        # Unlike the maximum of getrusage, this one starts at zero with the program.
        line = next(text for text in status.read_text().splitlines() if text.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
