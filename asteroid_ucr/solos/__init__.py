"""Solos: passages of one instrument, found in mixtures, kept as audio, and summed for training."""
