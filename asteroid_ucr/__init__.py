"""Unsupervised composable representations for audio: a source-separation plugin for Asteroid."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from asteroid_ucr import _plugin, _quiet  # noqa: F401 - silences before anything is imported
from asteroid_ucr.utils.errors import UserError

if TYPE_CHECKING:
    from asteroid_ucr.api import Separator
    from asteroid_ucr.separator import UCRSeparator

__version__ = "0.2.0"
__all__ = ["Separator", "UCRSeparator", "UserError", "__version__"]

_MODULES = {
    "Separator": "api",
    "UCRSeparator": "separator",
}  # imported on first use, which takes seconds


def __getattr__(name: str) -> Any:
    """A class that needs torch and Asteroid."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"asteroid_ucr.{_MODULES[name]}"), name)


_plugin.register()
