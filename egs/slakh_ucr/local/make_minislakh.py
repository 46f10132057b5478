"""Stage 0 without data: composes and renders mini-Slakh."""

import argparse
import sys

from asteroid_ucr.cli import exit_code
from asteroid_ucr.minislakh import build

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", required=True, help="folder of the collection")
parser.add_argument("--songs", type=int, default=60)
parser.add_argument("--seconds", type=float, default=30.0, help="length of a song")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--midi_dir", help="multi-track MIDI files to render instead")
parser.add_argument("--soundfont", nargs="*", default=[], help=".sf2 or .sf3 files to render with")
parser.add_argument("--workers", type=int, default=2)


def main() -> None:
    """Runs the stage."""
    options = parser.parse_args()
    build(
        options.out,
        options.songs,
        options.seconds,
        options.seed,
        options.midi_dir,
        options.soundfont,
        options.workers,
    )


if __name__ == "__main__":
    sys.exit(exit_code(main))
