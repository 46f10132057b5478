"""Scores of separation and generation, and their statistics."""
