"""Shared fixtures: a small Slakh tree of real audio, and a small model."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml

from asteroid_ucr import Separator, UCRSeparator
from asteroid_ucr.data.clips import Clip

# Scoring in further processes costs more than it saves in tests.
os.environ["LOKY_MAX_CPU_COUNT"] = "1"
# Processes of tests are forks of one that has imported everything and has computed nothing: the
# threads of autograd and OpenMP do not survive a fork.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [f"asteroid_ucr.{name}" for name in ("cli", "reports.page", "training.baselines")]
)

SMALL = {"encoder_widths": (16, 32), "denoiser_widths": (32, 64), "denoiser_kernels": (5, 3)}
SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture
def small_model() -> UCRSeparator:
    torch.manual_seed(0)
    return UCRSeparator(sources=("drums", "bass"), **SMALL).eval()


def draw_latents(model, seconds=10.0, keep=None, *, steps=25, seed=0, **request):
    """The component latents that `model.generate` would render."""
    return model.generator.sample(model.generator.plan(seconds, keep, **request), steps, seed)


def separate_file(model, path, folder, suffix="wav", bits=None, clip="rescale", **settings):
    """Separates a file with a model; returns the paths of its stems."""
    return Separator(model, **settings).separate_file(path, folder, suffix, bits, clip)


def make_clip(seed=0, pitch=110.0, sources=("drums", "bass"), seconds=3.0):
    """Clicks against tones that share their low frequencies with the clicks."""
    time = torch.arange(int(seconds * 24_000)) / 24_000
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(seed))
    waves = [noise * torch.exp(-25 * (time % 0.5)) * 0.3]
    for k in range(1, len(sources)):
        waves.append(sum(torch.sin(2 * torch.pi * pitch * k * h * time) / h for h in (1, 2, 3)) / 9)
    references = torch.stack(waves)
    return Clip(f"c{seed}", f"c{seed}", references.sum(0), references, tuple(sources))


def write_track(folder: Path, seconds: float, seed: int, rate: int = 44_100) -> None:
    """A Slakh track with drums (decaying noise bursts) and bass (a gliding sawtooth)."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    beat = generator.uniform(0.3, 0.6)
    drums = 0.3 * generator.standard_normal(len(time)) * np.exp(-12 * (time % beat))
    pitch = generator.uniform(45, 90) * (1 + 0.3 * np.sin(2 * np.pi * 0.2 * time))
    bass = 0.2 * (2 * (np.cumsum(pitch) / rate % 1) - 1)
    (folder / "stems").mkdir(parents=True)
    stems = {}
    for number, (name, wav, program) in enumerate([("Drums", drums, 128), ("Bass", bass, 33)]):
        sf.write(folder / "stems" / f"S{number:02d}.flac", wav, rate)
        stems[f"S{number:02d}"] = {
            "inst_class": name,
            "audio_rendered": True,
            "is_drum": name == "Drums",
            "program_num": program,
        }
    sf.write(folder / "mix.flac", drums + bass, rate)
    metadata = {"UUID": f"{seed:032x}", "stems": stems}
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))


@pytest.fixture(scope="session")
def slakh_tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tree") / "tiny_slakh"
    splits = {"train": 3, "validation": 2, "test": 2}
    number = 0
    for split, tracks in splits.items():
        for _ in range(tracks):
            number += 1
            write_track(root / split / f"Track{number:05d}", seconds=6.0, seed=number)
    return root


def in_a_process(function, *arguments):
    """Starts a function in a process of its own, which need not import the package again."""
    process = FORKS.Process(target=function, args=arguments)
    process.start()
    return process


CLIENT = """#!{python} -SE
import json, os, socket, sys
if sys.argv[1:3] != ["-m", "asteroid_ucr"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    request = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)])
    socket.send_fds(server, [request.encode()], [0, 1, 2])
    sys.exit(server.recv(1)[0])
"""


@pytest.fixture(scope="session")
def quick_python(tmp_path_factory):
    """A Python whose `-m asteroid_ucr` is a fork of a process that has imported the package."""
    folder = tmp_path_factory.mktemp("python")
    client, address = folder / "python", str(folder / "socket")
    client.write_text(CLIENT.format(python=sys.executable, address=address))
    client.chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        server = in_a_process(_serve, listener)
        yield str(client)
        server.terminate()
        server.join()


def _serve(listener):
    while True:
        connection, _ = listener.accept()
        request, files, _, _ = socket.recv_fds(connection, 2**20, 3)
        about = (files, *json.loads(request))
        command = multiprocessing.get_context("fork").Process(target=_command, args=about)
        command.start()
        command.join()
        connection.send(bytes([command.exitcode % 256]))
        for file in [*files, connection.detach()]:
            os.close(file)


def _command(files, words, folder, environment):
    for number, file in enumerate(files):
        os.dup2(file, number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = words
    try:
        runpy.run_module("asteroid_ucr", run_name="__main__")
    finally:
        for worker in multiprocessing.active_children():  # joblib's wait for more work
            worker.terminate()
