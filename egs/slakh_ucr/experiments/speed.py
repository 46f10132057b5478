"""How many steps per second a training makes, and which share of its time it waits for data.

Trains without saving anything, on the caches and solos of a configuration, once for each number of
workers, and prints a table. Options of the configuration are those of `asteroid-ucr train`:

    python experiments/speed.py --config local/bundled.yml --numbers 0 1
    python experiments/speed.py --config local/reference.yml --numbers 0 4 --compile
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import pandas as pd
import torch
from lightning_fabric.utilities import move_data_to_device

from asteroid_ucr.commands import exit_code
from asteroid_ucr.config import RecipeConfig, open_cache, parse_recipe, recipe_parser
from asteroid_ucr.training.decomposition import build_model, load_batches, loss_step
from asteroid_ucr.utils.device import pick_device
from asteroid_ucr.utils.seeding import generator_for

WARM_UP = 5  # steps that are not measured: compiling, filling queues


def main() -> None:
    """Measures and prints a table."""
    parser = recipe_parser(__doc__)
    parser.add_argument("--numbers", type=int, nargs="+", default=[0, 1], help="of workers")
    parser.add_argument("--steps", type=int, default=50, help="that are measured")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    config, given = parse_recipe(parser)
    rows = [
        {"workers": number, "compiled": compiled, **measure(config, number, compiled, given.steps)}
        for compiled in ([False, True] if given.compile else [False])
        for number in given.numbers
    ]
    print(pd.DataFrame(rows).round(3).to_string(index=False))


def measure(config: RecipeConfig, workers: int, compiled: bool, steps: int) -> dict[str, float]:
    """Trains for some steps; a step ends when the device has done all its work."""
    device = pick_device("auto")
    settings = replace(config.training, epoch_steps=steps + WARM_UP, accumulate=1)
    config = replace(config, data=replace(config.data, workers=workers), training=settings)
    caches = [open_cache(config, split) for split in ("train", "validation")]
    model = build_model(config).to(device)
    model.decomposition.set_statistics(*map(torch.from_numpy, caches[0].statistics()))
    if compiled:
        model.decomposition.denoiser.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr)
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    waited = worked = 0.0
    start = time.perf_counter()
    for number, item in enumerate(load_batches(config, *caches)[0]):
        ready = time.perf_counter()
        # With sums of solos, Lightning's loader adds the batch's number.
        batch = move_data_to_device(item[0] if isinstance(item, tuple) else item, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = loss_step(model, batch, generator_for(0, number), settings.mask_weight)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        end = time.perf_counter()
        if number >= WARM_UP:
            waited, worked = waited + ready - start, worked + end - ready
        start = end
    memory = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else float("nan")
    return {
        "steps/s": steps / (waited + worked),
        "share of waiting": waited / (waited + worked),
        "device memory, MiB": memory,
    }


if __name__ == "__main__":
    sys.exit(exit_code(main))
