"""Separators to compare with: functions and networks that take audio and names of sources."""
