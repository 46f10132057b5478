"""Atomic writing: a crash never leaves an incomplete file behind."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asteroid_ucr.utils.errors import UserError

_REASONS = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "permission is denied: choose a folder that you may write to",
    errno.EPERM: "permission is denied: choose a folder that you may write to",
    errno.ENOTDIR: "a part of its path is a file: choose another folder",
    errno.EEXIST: "a file of that name is in the way: choose another folder",
    errno.EISDIR: "a folder of that name is in the way: choose another name",
}


def write_error(path: Path, error: OSError) -> UserError:
    """Turns an operating-system error that occurred while writing `path` into a `UserError`."""
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return UserError(f"Cannot write {path}: {reason}.")


def make_folder(path: str | Path) -> Path:
    """Creates a folder and its parents; raises a `UserError` if that fails."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    return folder


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path, which is renamed to `path` when the block succeeds.

    The temporary name has the same ending, because audio and plotting libraries derive the format
    from it.

    Raises:
        UserError: If the folder or the file cannot be written.
    """
    target = Path(path)
    make_folder(target.parent)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Writes plain values as JSON, with null for NaN and infinity, which JSON does not have.

    Raises:
        UserError: If the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """The same value with None for NaN and infinity."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
