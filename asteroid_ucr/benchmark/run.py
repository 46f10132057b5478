"""The benchmark: all measurements, a table, and a file of them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from asteroid_ucr.benchmark.contenders import OTHERS, contenders, has_demucs
from asteroid_ucr.benchmark.memory import peak_memory
from asteroid_ucr.benchmark.speed import separation_speed, training_speed
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.device import pick_device
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.flops import gflop_per_second

MINUTE = 60.0


def run_benchmark(
    out: str | Path,
    model: str | None = None,
    against: Sequence[str] | None = None,
    seconds: float = 10.0,
    repeats: int = 5,
    threads: Sequence[int] = (),
    lengths: Sequence[float] = (10.0, MINUTE, 10 * MINUTE),
    batch: int = 4,
    crop: float = 4.0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measures what separation and training cost, and writes it as JSON.

    Args:
        out: the JSON file.
        model: a trained model; None takes the reference configuration, untrained.
        against: what to compare with; None takes all that is installed.
        seconds: of audio to separate at a time.
        repeats: rounds; in each, every network has its turn.
        threads: numbers of CPU threads; none given: one, and one for each core.
        lengths: of files, in seconds, for the peak memory.
        batch: crops per training step.
        crop: seconds per crop.
        quiet: print nothing.

    Returns:
        What the file holds.

    Raises:
        UserError: if a model or package is missing, or the file cannot be written.
    """
    if repeats < 1 or seconds <= 0 or batch < 1 or crop <= 0 or any(x <= 0 for x in lengths):
        raise UserError("--repeats, --batch, --seconds, --crop and --lengths must be positive.")
    if against is None:
        against = [name for name in OTHERS if name != "htdemucs" or has_demucs()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = list(threads) or sorted({1, cores or 1})
    console = Console(quiet=quiet)
    chosen = contenders(model, list(against))
    models = {contender: contender.build() for contender in chosen}
    costs: dict[str, dict[str, Any]] = {}
    for contender, network in models.items():
        console.print(f"counting {contender.label}", style="dim")
        costs[contender.name] = {
            "name": contender.name,
            "label": contender.label,
            "parameters": sum(p.numel() for p in network.parameters()),
            "gflops": gflop_per_second(
                network,
                contender.sample_rate,
                channels=contender.channels,
                seconds=contender.segment,
            ),
            "speed": {},
            "memory_mib": {},
        }
    runs = [(f"cpu, {n} thread{'s' * (n > 1)}", n, "cpu") for n in threads]
    if torch.cuda.is_available():
        runs.append((torch.cuda.get_device_name(), 1, "cuda"))
    for title, count, device in runs:
        console.print(f"timing on {title}", style="dim")
        speeds = separation_speed(models, seconds, repeats, count, device)
        for name, speed in speeds.items():
            costs[name]["speed"][title] = speed
    for length in lengths:
        for name, cost in costs.items():
            console.print(f"memory of {cost['label']} for {length:g} s", style="dim")
            peak = peak_memory(name, model, length, max(threads))
            cost["memory_mib"][f"{length:g}"] = peak
    console.print("timing training", style="dim")
    device = pick_device().type
    for name, speed in training_speed(models, crop, batch, repeats, device).items():
        costs[name]["training"] = speed
    results = {
        "settings": {
            "model": model or "the reference configuration, untrained",
            "seconds": seconds,
            "repeats": repeats,
            "batch": batch,
            "crop_seconds": crop,
            "training_device": device,
        },
        "machine": {
            "processor": _processor(),
            "cores": cores,
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "models": list(costs.values()),
    }
    with atomic_path(out) as temporary:
        temporary.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n")
    console.print(_rich(results))
    console.print(f"wrote {out}", style="dim")
    return results


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def benchmark_table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The measurements as a heading and rows of text; the networks are its columns.

    Args:
        results: what `run_benchmark` returns.
    """
    models = results["models"]
    settings = results["settings"]
    rows = [
        ["parameters, million", *(f"{m['parameters'] / 1e6:.1f}" for m in models)],
        ["GFLOP per second of audio", *(f"{m['gflops']:.1f}" for m in models)],
    ]
    for title in models[0]["speed"]:
        rows.append([f"times real time, {title}", *(_speed(m["speed"][title]) for m in models)])
        rows.append(["… time relative to ours", *(_ratio(m["speed"][title]) for m in models)])
    for length in models[0]["memory_mib"]:
        rows.append(
            [f"peak memory, {_duration(float(length))}", *(_mib(m, length) for m in models)]
        )
    crops = f"{settings['batch']} × {settings['crop_seconds']:g} s"
    rows += [
        [
            f"training steps per second, {crops}, {settings['training_device']}",
            *(f"{m['training']['steps_per_second']:.2f}" for m in models),
        ],
        ["… time relative to ours", *(_ratio(m["training"]) for m in models)],
    ]
    return ["", *(m["label"] for m in models)], rows


def _speed(speed: dict[str, float]) -> str:
    digits = 0 if speed["median"] >= 10 else 1
    return f"{speed['median']:.{digits}f} ({speed['low']:.{digits}f}–{speed['high']:.{digits}f})"


def _ratio(speed: dict[str, float]) -> str:
    return f"{speed['ratio']:.1f}"


def _mib(model: dict[str, Any], length: str) -> str:
    peak = model["memory_mib"][length]
    return "–" if peak is None else f"{peak:.0f} MiB"


def _duration(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < MINUTE else f"{seconds / MINUTE:.3g} min"


def _rich(results: dict[str, Any]) -> Table:
    heading, rows = benchmark_table(results)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(heading):
        table.add_column(title, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table
