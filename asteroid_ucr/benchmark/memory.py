"""Peak memory by length of the audio, each measured in a separate process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import soundfile as sf
import torch

from asteroid_ucr.benchmark.contenders import OURS, Contender, contenders
from asteroid_ucr.utils.errors import UserError

# Other networks take a whole file at once: longer ones fill the memory and take hours on a CPU.
LONGEST_OTHER = 60.0  # seconds


def peak_memory(name: str, model: str | None, seconds: float, threads: int) -> float | None:
    """Measures the peak resident memory of a process that separates a file.

    Ours separates the file in pieces, as the command line does; the others take the whole waveform
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
    settings = {"name": name, "model": model, "seconds": seconds, "threads": threads}
    command = [sys.executable, "-m", "asteroid_ucr.benchmark.memory", json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"{name} could not separate {seconds:g} s in a process: {last}")
    return float(done.stdout.strip().splitlines()[-1])


def _peak_mib() -> float:
    status = Path("/proc/self/status")
    if status.is_file():
        # Unlike getrusage's maximum, this one starts at zero with the program.
        line = next(text for text in status.read_text().splitlines() if text.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


@torch.inference_mode()
def _separate(contender: Contender, seconds: float) -> None:
    model = contender.build().eval()
    if contender.name != OURS:
        contender.separate(model, contender.audio(seconds))
        return
    from asteroid_ucr.files import separate_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.wav"
        piece = contender.audio(1.0)[0, 0].numpy()
        with sf.SoundFile(path, "w", contender.sample_rate, 1) as file:
            for _ in range(max(1, round(seconds))):
                file.write(piece)
        separate_file(model, path, Path(folder) / "stems")


def main() -> None:
    """Runs one measurement for `peak_memory` and prints the MiB."""
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    others = [] if settings["name"] == OURS else [settings["name"]]
    _separate(contenders(settings["model"], others)[-1], settings["seconds"])
    print(_peak_mib())


if __name__ == "__main__":
    main()
