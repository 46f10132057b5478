"""The exception for mistakes that a user can correct."""

from __future__ import annotations

from pickle import UnpicklingError

# Exceptions of `torch.load` for files that are not checkpoints.
UNREADABLE = (RuntimeError, ValueError, UnpicklingError, EOFError, OSError, LookupError)


class UserError(Exception):
    """A file, folder or option that cannot be used.

    The message names it in one sentence and says what to do. The command line prints the message
    without a traceback and exits with code 2.
    """


def check_positive(**options: int) -> None:
    """Raises a `UserError` that names the first option below 1."""
    for name, value in options.items():
        if value < 1:
            raise UserError(f"{name} must be at least 1, got {value}.")
