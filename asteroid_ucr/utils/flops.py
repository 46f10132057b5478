"""Floating-point operations per second of audio, counted by torch while a model runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def gflop_per_second(
    model: nn.Module,
    sample_rate: int,
    run: Callable[[nn.Module, Tensor], Any] = lambda model, wav: model(wav),
    channels: int = 1,
    seconds: float = 2.0,
) -> float:
    """Number of operations that a model needs for a second of audio, in GFLOP.

    Convolutions, matrix products, attention and LSTMs are counted, with two operations per
    multiplication and addition; Fourier transforms and elementwise functions are not counted. The
    count runs on the CPU, on a copy of the model, which `run` calls with a waveform `(1, channels,
    time)` that is long enough for padding to have little effect.
    """
    copied = copy.deepcopy(model).cpu().eval()
    wav = torch.randn(1, channels, round(seconds * sample_rate), generator=torch.Generator())
    counter = FlopCounterMode(display=False, custom_mapping={_LSTM: _lstm_flops})
    # The fused inference path of attention is not counted.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), counter:
            run(copied, 0.1 * wav)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.get_total_flops() / 1e9 / seconds


_LSTM = torch.ops.aten.mkldnn_rnn_layer  # one layer and direction of an nn.LSTM on the CPU


def _lstm_flops(steps_batch_inputs: Any, weights: Any, *_: Any, **__: Any) -> int:
    """Counts from the shapes of the input and of the input weights `(4 · hidden, inputs)`."""
    steps, batch, inputs = steps_batch_inputs
    gates = weights[0]
    return 2 * steps * batch * gates * (inputs + gates // 4)
