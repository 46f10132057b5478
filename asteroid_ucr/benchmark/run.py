"""The benchmark: runs all measurements and writes them to a file."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from asteroid_ucr.benchmark.contenders import OTHERS, contenders, has_demucs
from asteroid_ucr.benchmark.measure import peak_memory, separation_speed, training_speed
from asteroid_ucr.utils.atomic import write_json
from asteroid_ucr.utils.device import pick_device
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.flops import gflop_per_second

_say = partial(print, file=sys.stderr)  # Progress.


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
