"""Costs of separation and training, of ours and other networks side by side in one run."""

from asteroid_ucr.benchmark.run import run_benchmark

__all__ = ["run_benchmark"]
