"""The one exception for mistakes that a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: a file, option or folder that cannot be used as it is.

    The message is a single sentence that names the file or the option and says what to do. The
    command line prints it without a traceback and exits with code 2; library users can catch it.
    """
