"""Peak memory by length of the audio, each measured in a separate process."""

from __future__ import annotations

import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import soundfile as sf
import torch

from asteroid_ucr.benchmark.contenders import OURS, contenders
from asteroid_ucr.files import separate_file
from asteroid_ucr.utils.errors import UserError

# Other networks take a whole file at once: longer ones fill the memory and take hours on a CPU.
LONGEST_OTHER = 60.0  # Seconds.


def peak_memory(name: str, model: str | None, seconds: float, threads: int) -> float | None:
    """Measures the peak resident memory of a process that separates a file.

    Ours separates the file in pieces, as the command line does. The others take the whole waveform
    at once.

    Args:
        name: Name of the contender.
        model: A trained model, as in `contenders`.
        seconds: Length of the file.
        threads: Number of torch's threads.

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
    """Runs one measurement in this process and returns its peak memory in MiB."""
    torch.set_num_threads(threads)
    contender = contenders(model, [] if name == OURS else [name])[-1]
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
