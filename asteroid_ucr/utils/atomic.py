"""Writing files so that a crash never leaves half of one behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    """Turns an operating-system error met while writing `path` into a sentence for people."""
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return UserError(f"Cannot write {path}: {reason}.")


def make_folder(path: str | Path) -> Path:
    """Creates a folder and its parents.

    Raises:
        UserError: If the folder cannot be created.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    return folder


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`, renamed onto it when the block succeeds.

    The temporary name keeps the suffix, since audio and plotting libraries choose the format by it.

    Raises:
        UserError: If the folder cannot be created or the file cannot be written.
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
