"""mini-Slakh: composed or given songs, rendered per stem, in the layout of Slakh2100."""

from asteroid_ucr.minislakh.collection import build

__all__ = ["build"]
