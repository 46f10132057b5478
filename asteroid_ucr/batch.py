"""Separates many files: which ones, under which names, and what becomes of those that fail."""

from __future__ import annotations

import glob
import logging
import os
import string
import threading
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.streaming import write_stems
from asteroid_ucr.utils.atomic import refuse_inputs
from asteroid_ucr.utils.audio import AUDIO_SUFFIXES
from asteroid_ucr.utils.errors import UserError, check_positive, system_error
from asteroid_ucr.utils.stems import MARK, written_by

_FIELDS = ("track", "stem", "ext", "model", "number")
_log = logging.getLogger(__name__)


def find_songs(names: Sequence[str]) -> dict[Path, str]:
    """Sound files that names, folders and globs stand for, each with the name of its track.

    A track is named by the path of its file, without the ending, from the folder or from the fixed
    part of the glob. Where two would have one name, the tracks get more of their paths, or keep
    their endings. Hidden files and stems that this program wrote are left out of folders and globs.

    Raises:
        UserError: If a folder or a glob stands for no file, or if all are stems of ours.
    """
    bases: dict[Path, Path] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            base, found = path, _inside(path)
            if not found:
                raise UserError(f"The folder {name} holds no sound files: name another.")
        elif os.path.lexists(path) or not glob.has_magic(name):
            bases.setdefault(path, path.parent)
            continue
        else:
            parts = path.parts
            fixed = next(k for k, part in enumerate(parts) if glob.has_magic(part))
            base, found = Path(*parts[:fixed]), []
            for match in map(Path, sorted(glob.glob(name, recursive=True))):
                found += _inside(match) if match.is_dir() else [match]
            if not found:
                raise UserError(f"No file matches {name}: check the pattern.")
        for file in found:
            if written_by(file) is None:
                bases.setdefault(file, base)
    if not bases:
        raise UserError("All files are stems that asteroid-ucr wrote: name those to separate.")
    once = {os.path.abspath(file): file for file in reversed(bases)}.values()  # ../x/a.wav is a.wav
    return _track_names({file: bases[file] for file in reversed(once)})


def _inside(folder: Path) -> list[Path]:
    """Sound files in a folder and its folders, sorted, with folders that cannot be read."""
    found: list[Path] = []

    def unreadable(error: OSError) -> None:
        found.append(Path(error.filename))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(place, name) for name in files if not name.startswith(".")]
        found += [path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES]
    return sorted(found)


def _track_names(bases: Mapping[Path, Path]) -> dict[Path, str]:
    """Names of the tracks of files below their bases; see `find_songs`."""
    paths = {file: Path(os.path.relpath(file, base)) for file, base in bases.items()}
    names = {file: _without_ending(path) for file, path in paths.items()}
    if same := _of_one_name(names):
        top = os.path.commonpath([os.path.abspath(file.parent) for file in same])
        paths |= {file: Path(os.path.relpath(os.path.abspath(file), top)) for file in same}
        names |= {file: _without_ending(paths[file]) for file in same}
    return names | {file: str(paths[file]) for file in _of_one_name(names)}


def _of_one_name(names: Mapping[Path, str]) -> list[Path]:
    """Files whose names are not theirs alone."""
    counts = Counter(names.values())
    return [file for file, name in names.items() if counts[name] > 1]


def _without_ending(path: Path) -> str:
    """The path without its ending, unless nothing but dots would be left of the name."""
    return str(path.with_name(path.stem if path.stem.strip(".") else path.name))


def check_template(template: str, suffix: str) -> None:
    """Raises a `UserError` if a template cannot name the stems."""
    try:
        fields = {
            field for _, field, _, _ in string.Formatter().parse(template) if field is not None
        }
    except ValueError as error:
        raise UserError(f"--filename {template}: {error}; double a brace that is meant.") from error
    if unknown := fields - set(_FIELDS):
        known = ", ".join(f"{{{field}}}" for field in _FIELDS)
        raise UserError(f"--filename has {{{min(unknown)}}}: use {known}.")
    path = Path(template.replace("{ext}", suffix))
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"--filename {template} leads out of --out: give a path inside it.")
    if path.suffix != f".{suffix}":
        raise UserError(f"--filename {template} does not end in .{{ext}}, which is .{suffix}.")


@dataclass(frozen=True)
class Job:
    """A song to separate.

    Attributes:
        song: Path of the mixture.
        targets: Path of each file to write, and the numbers of its sources.
        siblings: Glob of all files that could be stems of this song.
    """

    song: Path
    targets: Mapping[Path, list[int]]
    siblings: str


def plan_jobs(
    songs: Mapping[Path, str],
    stems: Mapping[str, list[int]],
    out: Path | None,
    template: str,
    suffix: str,
    model: str,
) -> list[Job]:
    """What is written for each song.

    Args:
        songs: Songs, each with the name of its track.
        stems: Numbers of the sources in each stem, by its name.
        out: Folder that the template starts from; None is each song's own.
        template: Path with fields such as {track}; see `check_template`.
        suffix: Format of the stems.
        model: Result of `model_mark`.

    Raises:
        UserError: If the template is not valid, or a file would be written twice or is a song.
    """
    check_template(template, suffix)
    jobs: list[Job] = []
    owners: dict[str, Path] = {}
    about = {"model": model.rsplit(" ", 1)[0]}
    for song, track in songs.items():
        folder, targets = out, {}
        if folder is None:
            folder, track = song.parent, Path(track).name
        for number, (stem, sources) in enumerate(stems.items(), 1):
            fields = {**about, "track": track, "stem": stem, "ext": suffix, "number": number}
            path = folder / template.format(**fields)
            owner = owners.setdefault(os.path.abspath(path), song)
            if owner != song or path in targets:
                whom = f"{owner} and {song}" if owner != song else f"two stems of {song}"
                raise UserError(
                    f"{path} would be written twice, for {whom}: put {{track}} and {{stem}} into "
                    "--filename."
                )
            targets[path] = sources
        wild = {**about, "track": glob.escape(track), "stem": "*", "ext": "*", "number": "*"}
        jobs.append(Job(song, targets, f"{glob.escape(str(folder))}/{template.format(**wild)}"))
    refuse_inputs([path for job in jobs for path in job.targets], songs)
    return jobs


def choose_stems(
    sources: Sequence[str], chosen: Sequence[str] | None, residual: bool
) -> dict[str, list[int]]:
    """Numbers of the sources in each stem that is written.

    Args:
        sources: Sources of the model.
        chosen: Sources that are written; None takes all.
        residual: Whether all others are written as well, as one stem such as "no_drums".

    Raises:
        UserError: If a source is unknown, or nothing is left for the residual.
    """
    if unknown := [name for name in chosen or () if name not in sources]:
        raise UserError(f"--stems {unknown[0]}: the model has {', '.join(sources)}.")
    stems = {name: [sources.index(name)] for name in chosen or sources}
    if residual:
        rest = [k for k, name in enumerate(sources) if name not in stems]
        if not rest:
            raise UserError("--residual needs --stems that leave something: name fewer of them.")
        stems[f"no_{'_'.join(stems)}"] = rest
    return stems


def model_mark(model: UCRSeparator, name: str) -> str:
    """The model's name and a checksum of its weights, which tells models of one name apart."""
    checksum = 0
    for value in model.state_dict().values():
        checksum = zlib.crc32(value.cpu().float().numpy().tobytes(), checksum)
    return f"{Path(name).stem} {checksum:08x}"


def separate_all(
    model: UCRSeparator,
    jobs: Sequence[Job],
    mark: str,
    existing: str = "refuse",
    parallel: int = 1,
    **settings: Any,
) -> int:
    """Separates songs; one that fails is reported, and the others go on.

    Args:
        model: Model on the device to use.
        jobs: Result of `plan_jobs`.
        mark: Result of `model_mark`.
        existing: What to do about files that exist: "refuse", "skip" or "replace" them.
        parallel: Songs that are separated at the same time.
        **settings: Options of `asteroid_ucr.streaming.write_stems`.

    Returns:
        The number of songs that failed.
    """
    check_positive(jobs=parallel)
    stop = threading.Event()
    hidden = None if _log.isEnabledFor(logging.INFO) else True  # None shows bars in a terminal

    def one(job: Job) -> bool:
        bar = tqdm(total=100, desc=job.song.name, unit="%", disable=parallel > 1 or hidden)

        def progress(fraction: float) -> None:
            if stop.is_set():
                raise KeyboardInterrupt
            bar.update(round(100 * fraction) - bar.n)

        with bar:
            try:
                _separate(model, job, mark, existing, **settings, progress=progress)
            except (UserError, OSError, RuntimeError, MemoryError) as error:
                _log.debug("%s failed", job.song, exc_info=True)
                text = str(system_error(error) if isinstance(error, OSError) else error)
                _log.error("error: %s", text or f"{job.song} needs more memory: lower --chunk.")
                return False
        return True

    with ThreadPoolExecutor(parallel) as pool:
        try:
            done = pool.map(one, jobs) if parallel > 1 else map(one, jobs)
            every = tqdm(done, total=len(jobs), unit="song", disable=parallel == 1 or hidden)
            failed = sum(not good for good in every)
        except BaseException:
            stop.set()  # ends the other songs after their chunk
            pool.shutdown(cancel_futures=True)
            raise
    if failed and len(jobs) > 1:
        _log.error("%d of %d files failed.", failed, len(jobs))
    return failed


def _separate(
    model: UCRSeparator,
    job: Job,
    mark: str,
    existing: str,
    **settings: Any,
) -> None:
    """Separates a song, unless its stems exist or would stand beside those of another model."""
    if job.song.is_dir():
        os.listdir(job.song)  # a folder that could not be searched says why
    there = [path for path in job.targets if path.exists()]
    if existing == "skip" and len(there) == len(job.targets):
        _log.info("%s: its stems exist", job.song)
        return
    if existing == "refuse" and there:
        raise UserError(
            f"{there[0]} exists: give --overwrite to replace it, or --skip-existing to keep it."
        )
    for other in map(Path, sorted(glob.glob(job.siblings))):
        if other not in job.targets and written_by(other) not in (None, mark):
            raise UserError(
                f"{other} is a stem of another model: remove it, choose another folder, or put "
                "{model} into --filename."
            )
    groups = list(job.targets.values())
    write_stems(
        model, job.song, list(job.targets), groups=groups, comment=f"{MARK}{mark}", **settings
    )
