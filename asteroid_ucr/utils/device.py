"""Choosing the device to compute on."""

from __future__ import annotations

import torch

from asteroid_ucr.utils.errors import UserError


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name, which is known to work.

    Args:
        name: A name of torch's, such as "cpu", "cuda" or "cuda:1", or "auto": the first GPU where
            there is one, otherwise the processor.

    Raises:
        UserError: If there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # what torch raises for missing devices
        reason = str(error).splitlines()[0]
        raise UserError(f"The device {name} cannot be used: {reason}") from error
