"""Trains the package's own codec on a Slakh tree; call it again to go on where it stopped.

For example `python train_codec.py --config local/codec.yml --data.root data/minislakh --exp_dir
exp/codec --minutes 20`, as often as it takes.
"""

import sys

from asteroid_ucr.cli import exit_code
from asteroid_ucr.config import recipe_parser
from asteroid_ucr.training.codec import train_codec
from asteroid_ucr.training.codec_config import CodecRecipeConfig, parse_codec


def main() -> None:
    """Runs the command."""
    parser = recipe_parser(__doc__, CodecRecipeConfig)
    parser.add_argument("--exp_dir", required=True, help="folder for weights and logs")
    parser.add_argument("--minutes", type=float, default=None, help="stop after about this time")
    config, options = parse_codec(parser)
    print(f"wrote {train_codec(config, options.exp_dir, options.minutes)}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
