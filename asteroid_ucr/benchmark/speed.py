"""Times of separation and training, measured in turns, so that load affects all networks alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asteroid_ucr.benchmark.contenders import OURS, Contender

Models = Mapping[Contender, nn.Module]
Speeds = dict[str, dict[str, float]]


def separation_speed(
    models: Models, seconds: float, repeats: int, threads: int = 1, device: str = "cpu"
) -> Speeds:
    """Measures the speed of separating one waveform.

    Args:
        models: The networks.
        seconds: Length of the waveform.
        repeats: Number of rounds.
        threads: Number of torch's threads on the CPU.
        device: "cpu" or "cuda".

    Returns:
        For every network `median`, `low` and `high`, in seconds of audio per second, and `ratio`,
        the median over the rounds of its time divided by that of ours in the same round.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    tasks = {}
    for contender, model in models.items():
        moved, wav = model.to(device).eval(), contender.audio(seconds).to(device)
        tasks[contender.name] = lambda c=contender, m=moved, w=wav: c.separate(m, w)
    try:
        with torch.inference_mode():
            return _in_turns(tasks, seconds, repeats, device)
    finally:
        torch.set_num_threads(before)
        for model in models.values():
            model.cpu()


def training_speed(
    models: Models, seconds: float, batch: int, repeats: int, device: str = "cpu"
) -> Speeds:
    """Measures the speed of training steps: forward, backward and the step of AdamW.

    Ours trains on cached latents, so that encoding is not counted.

    Args:
        models: The networks; their weights change.
        seconds: Length of a crop.
        batch: Number of crops per step.
        repeats: Number of rounds.
        device: "cpu" or "cuda".

    Returns:
        The same as `separation_speed`, with `steps_per_second`.
    """
    tasks = {}
    for contender, model in models.items():
        model.to(device).train()
        tasks[contender.name] = _step(contender, model, contender.audio(seconds, batch).to(device))
    speeds = _in_turns(tasks, seconds * batch, repeats, device)
    for speed in speeds.values():
        speed["steps_per_second"] = speed["median"] / (seconds * batch)
    for model in models.values():
        model.cpu()
    return speeds


def _step(contender: Contender, model: nn.Module, wav: Tensor) -> Callable[[], None]:
    """A training step of a network on a batch of crops."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    if contender.name == OURS:
        with torch.no_grad():
            latents = model.codec.encode(wav)

    def loss() -> Tensor:
        if contender.name != OURS:
            estimates = model(wav)
            return F.l1_loss(estimates, torch.zeros_like(estimates))
        alpha = torch.rand(len(wav), device=wav.device)
        return model.decomposition.loss(latents, torch.randn_like(latents), alpha)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
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
