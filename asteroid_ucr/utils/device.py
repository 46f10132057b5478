"""Choosing the device to compute on."""

from __future__ import annotations

import torch

from asteroid_ucr.utils.errors import UserError


def pick_device(name: str = "auto") -> torch.device:
    """Returns the device of a name such as "cpu", "cuda" or "cuda:1".

    The name "auto" stands for the first GPU if there is one, for MPS on Apple's processors, which
    nobody has tested, and otherwise for the CPU.

    Raises:
        UserError: If the device cannot be used.
    """
    if name == "auto":
        other = "mps" if torch.backends.mps.is_available() else "cpu"
        name = "cuda" if torch.cuda.is_available() else other
    if name.split(":")[0] not in ("cpu", "cuda", "mps", "xpu"):
        raise UserError(f"There is no device {name}: use auto, cpu, cuda, cuda:1 or mps.")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # raised for missing devices
        reason = str(error).splitlines()[0]
        raise UserError(f"The device {name} cannot be used: {reason}") from error
