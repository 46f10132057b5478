"""Stage 2 for baselines: trains what ours is compared with, on the same passages."""

import sys

from asteroid_ucr.cli import exit_code
from asteroid_ucr.training.baselines import parse_baseline, train_baseline
from asteroid_ucr.utils.errors import UserError


def main() -> None:
    """Runs the stage."""
    kind, config, options = parse_baseline(__doc__)
    if options.exp_dir is None:
        raise UserError("--exp_dir is missing: name the folder for weights and logs.")
    print(f"wrote {train_baseline(kind, config, options.exp_dir, options.resume)}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
