"""Unsupervised composable representations for audio: a source-separation plugin for Asteroid."""

from asteroid_ucr import _quiet  # noqa: F401 - before what it silences
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.errors import UserError

__version__ = "0.2.0"
__all__ = ["UCRSeparator", "UserError", "__version__"]
