"""What every layer uses: audio files, atomic writes, errors, seeds, counting of arithmetic."""
