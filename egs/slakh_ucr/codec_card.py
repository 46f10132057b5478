"""Scores a codec that `train_codec.py` trained, and writes it with its card to a folder.

For example `python codec_card.py --exp_dir exp/codec --root data/minislakh --out exp/codec/card`.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from asteroid_ucr.cli import exit_code
from asteroid_ucr.evaluation.codec_card import write_card

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--exp_dir", required=True, help="folder of train_codec.py")
parser.add_argument("--root", required=True, help="Slakh tree whose test songs it never saw")
parser.add_argument("--clips", help="folder of CLIP/{mix,SOURCE}.wav to score besides")
parser.add_argument("--out", required=True, help="path of the weights and the card, no ending")
parser.add_argument("--command", required=True, help="that trained it, for the card")
parser.add_argument("--commit", help="of the code that trained it; default the current one")


def main() -> None:
    """Runs the command."""
    options = parser.parse_args()
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    card = write_card(
        options.exp_dir,
        options.root,
        options.clips,
        options.out,
        options.command,
        options.commit or found.stdout.strip() or "unknown",
    )
    print(f"wrote {card}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
