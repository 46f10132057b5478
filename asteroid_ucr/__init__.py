"""Unsupervised composable representations for audio: a source-separation plugin for Asteroid."""

from asteroid_ucr import _quiet  # noqa: F401 - before what it silences
from asteroid_ucr.errors import UserError
from asteroid_ucr.separator import UCRSeparator

__version__ = "0.1.0"
__all__ = ["UCRSeparator", "UserError", "__version__"]
