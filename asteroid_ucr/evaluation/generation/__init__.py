"""Evaluation of generation: likeness, fit, copies; tables and a section of the report."""
