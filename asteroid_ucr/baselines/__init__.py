"""Separators to compare with, as functions and networks: they know audio and source names only."""
