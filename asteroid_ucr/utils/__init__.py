"""Functions that all layers use: audio files, atomic writing, errors, seeds, FLOPs."""
