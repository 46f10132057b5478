"""Scores of separation, their statistics, the tables and the report."""
