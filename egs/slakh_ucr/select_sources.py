"""Makes a model of some of another one's sources, for mixtures that hold no others."""

import argparse
import sys
from pathlib import Path

from asteroid_ucr.cli import exit_code
from asteroid_ucr.separator import UCRSeparator

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", required=True, help="file, or folder that holds best_model.pth")
parser.add_argument("--sources", required=True, nargs="+", help="in the order of the new outputs")
parser.add_argument("--exp_dir", required=True, help="folder for the new best_model.pth")


def main() -> None:
    """Runs the step."""
    options = parser.parse_args()
    model = UCRSeparator.from_pretrained(options.model).select(options.sources)
    model.save(Path(options.exp_dir) / "best_model.pth")


if __name__ == "__main__":
    sys.exit(exit_code(main))
