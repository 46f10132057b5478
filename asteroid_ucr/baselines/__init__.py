"""Separators to compare with, behind one small interface: `Row`."""

from asteroid_ucr.evaluation.rows import GROUPS, Row

__all__ = ["GROUPS", "Row"]
