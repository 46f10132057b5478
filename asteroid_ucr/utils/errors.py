"""The exception for mistakes that a user can correct."""

from __future__ import annotations

import errno
import os
import struct
from pickle import UnpicklingError

# Exceptions of `torch.load` for files that are not checkpoints, or that were changed.
UNREADABLE = (
    *(RuntimeError, ValueError, UnpicklingError, EOFError, OSError, LookupError),
    *(TypeError, AttributeError, AssertionError, ArithmeticError, MemoryError, struct.error),
)


class UserError(Exception):
    """A file, folder or option that cannot be used.

    The message names it in one sentence and says what to do. The command line prints the message
    without a traceback and exits with code 2.
    """


class AudioWarning(UserWarning):
    """A file was used, but not as it is: it is damaged, or its samples were scaled or limited."""


def check_positive(**options: int) -> None:
    """Raises a `UserError` that names the first option below 1."""
    for name, value in options.items():
        if value < 1:
            raise UserError(f"{name} must be at least 1, got {value}.")


_REASONS = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "permission is denied: choose a place that you may use, or change its mode",
    errno.EPERM: "permission is denied: choose a place that you may use, or change its mode",
    errno.ENOENT: "it does not exist: check the name",
    errno.ENOTDIR: "a part of its path is a file: choose another folder",
    errno.EEXIST: "a file of that name is in the way: choose another folder",
    errno.EISDIR: "a folder of that name is in the way: choose another name",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.ELOOP: "its links lead in a circle: name the file itself",
}


def system_error(error: OSError, path: str | os.PathLike[str] | None = None) -> UserError:
    """An error of the operating system as a `UserError` that names the path and the reason.

    Args:
        error: What the operating system reported.
        path: Path that could not be written; None takes the error's own, which was used otherwise.
    """
    place, action = (path, "write") if path is not None else (error.filename, "use")
    reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
    return UserError(f"Cannot {action} {os.fsdecode(place or 'a file')}: {reason}.")
