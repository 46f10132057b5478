"""Training: one loop, and a file for each kind of model."""
