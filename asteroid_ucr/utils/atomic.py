"""Atomic writing: a crash never leaves an incomplete file behind."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asteroid_ucr.utils.errors import UserError, system_error

_numbers = itertools.count()  # one for each temporary file of this process


def make_folder(path: str | Path) -> Path:
    """Creates a folder and its parents; raises a `UserError` if that fails."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise system_error(error, folder) from error
    return folder


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path, which is renamed to `path` when the block succeeds.

    The temporary name has the same ending, because audio and plotting libraries derive the format
    from it, and is short, because the target's may be as long as the file system allows.

    Raises:
        UserError: If the folder or the file cannot be written.
    """
    target = Path(path)
    make_folder(target.parent)
    temporary = target.with_name(f".{os.getpid()}-{next(_numbers)}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise system_error(error, target) from error
    except RuntimeError as error:  # of torch.save, which hides what the operating system said
        if reason := refusal(temporary):
            raise system_error(reason, target) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def refusal(path: Path) -> OSError | None:
    """Why nothing more can be written to a temporary file, such as a full disk, or None.

    Libraries that write in C report only that they failed. The question is put to the operating
    system by appending to the file, which is useless after this.
    """
    try:
        with open(path, "ab") as file:
            file.write(bytes(2**16))
    except OSError as error:
        return error
    return None


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yields a temporary folder, which replaces the folder `path` when the block succeeds.

    Raises:
        UserError: If a folder or file cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    replaced = temporary.with_name(f"{temporary.name}.old")  # nobody sees a half-removed folder
    shutil.rmtree(temporary, ignore_errors=True)
    make_folder(temporary)
    try:
        yield temporary
        if target.exists():
            target.rename(replaced)
        temporary.rename(target)
    except OSError as error:
        raise system_error(error, target) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def is_file_name(name: str) -> bool:
    """Whether a name from a file of others can be that of a file in a folder, and not elsewhere."""
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError:
        return False
    return 0 < size <= 200 and name == Path(name).name != ".." and "\0" not in name


def refuse_inputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Raises a `UserError` if a file to write is one to read, under whatever name or link."""
    read = {(os.stat(path).st_dev, os.stat(path).st_ino) for path in inputs if os.path.exists(path)}
    for path in outputs:
        if os.path.exists(path) and (os.stat(path).st_dev, os.stat(path).st_ino) in read:
            raise UserError(f"{path} would replace an input: choose another output folder.")


def write_json(path: str | Path, content: Any) -> Any:
    """Writes plain values as JSON, with null for NaN and infinity, which JSON does not have.

    Returns:
        The content as it was written.

    Raises:
        UserError: If the file cannot be written.
    """
    written = _plain(content)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(written, indent=2, allow_nan=False) + "\n")
    return written


def _plain(value: Any) -> Any:
    """The same value with None for NaN and infinity."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
