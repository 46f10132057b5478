"""Stage 1 for baselines: caches the stems, for models that train on waveforms or with labels."""

import sys

from asteroid_ucr.cli import exit_code
from asteroid_ucr.data.encode import store_stems
from asteroid_ucr.training.baselines import parse_baseline, stem_folder


def main() -> None:
    """Runs the stage."""
    _, config, _ = parse_baseline(__doc__)
    data = config.data
    for split in ("train", "validation"):
        failures = store_stems(
            data.root,
            split,
            stem_folder(config, split),
            data.sources,
            data.mix,
            data.allow_shared_midi,
            data.workers,
        )
        for failure in failures:
            print(f"left out: {failure}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(exit_code(main))
