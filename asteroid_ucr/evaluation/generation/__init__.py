"""Evaluation of generation: likeness, fit, copies."""
