"""Times of separation and training, measured in turns, so that load affects all networks alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from asteroid_ucr.benchmark.contenders import OURS, Contender


def in_turns(
    tasks: Mapping[str, Callable[[], Any]], seconds: float, repeats: int, device: str = "cpu"
) -> dict[str, dict[str, float]]:
    """Runs tasks in turns, once to warm up and then `repeats` times each.

    Args:
        tasks: Tasks by name, each on `seconds` of audio.
        seconds: Seconds of audio in a task.
        repeats: Number of rounds.
        device: Device that is synchronised before the clock is read.

    Returns:
        For every task `median`, `low` and `high`, in seconds of audio per second, and `ratio`, the
        median over the rounds of its time divided by that of ours in the same round.
    """
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {
        name: {
            "median": seconds / statistics.median(taken),
            "low": seconds / max(taken),
            "high": seconds / min(taken),
            "ratio": statistics.median(
                mine / ours for mine, ours in zip(taken, times[OURS], strict=True)
            ),
        }
        for name, taken in times.items()
    }


def separation_speed(
    models: Mapping[Contender, nn.Module],
    seconds: float,
    repeats: int,
    threads: int = 1,
    device: str = "cpu",
) -> dict[str, dict[str, float]]:
    """Measures the speed of separating one waveform; returns the same as `in_turns`.

    Args:
        models: The networks.
        seconds: Length of the waveform.
        repeats: Number of rounds.
        threads: Number of torch's threads on the CPU.
        device: "cpu" or "cuda".
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    tasks = {}
    for contender, model in models.items():
        moved, wav = model.to(device).eval(), contender.audio(seconds).to(device)
        tasks[contender.name] = lambda c=contender, m=moved, w=wav: c.separate(m, w)
    try:
        with torch.inference_mode():
            return in_turns(tasks, seconds, repeats, device)
    finally:
        torch.set_num_threads(before)
        for model in models.values():
            model.cpu()


def training_speed(
    models: Mapping[Contender, nn.Module],
    seconds: float,
    batch: int,
    repeats: int,
    device: str = "cpu",
) -> dict[str, dict[str, float]]:
    """Measures the speed of training steps: forward, backward and the step of AdamW.

    Ours trains on cached latents, so that encoding is not counted. Returns the same as `in_turns`,
    with `steps_per_second`.

    Args:
        models: The networks; their weights change.
        seconds: Length of a crop.
        batch: Crops per step.
        repeats: Number of rounds.
        device: "cpu" or "cuda".
    """
    tasks = {}
    for contender, model in models.items():
        model.to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
        tasks[contender.name] = _step(contender, model, optimizer, seconds, batch, device)
    speeds = in_turns(tasks, seconds * batch, repeats, device)
    for speed in speeds.values():
        speed["steps_per_second"] = speed["median"] / (seconds * batch)
    for model in models.values():
        model.cpu()
    return speeds


def _step(
    contender: Contender,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    seconds: float,
    batch: int,
    device: str,
) -> Callable[[], None]:
    wav = contender.audio(seconds, batch).to(device)
    if contender.name == OURS:
        with torch.no_grad():
            latents = model.codec.encode(wav)

    def loss() -> torch.Tensor:
        if contender.name != OURS:
            estimates = model(wav)
            return F.l1_loss(estimates, torch.zeros_like(estimates))
        noise = torch.randn_like(latents)
        return model.decomposition.loss(latents, noise, torch.rand(batch, device=device))

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step
