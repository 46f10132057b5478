"""Stage 4: trains the masking prior of the model that stage 3 chose, on its component latents."""

import sys

from asteroid_ucr.cli import exit_code
from asteroid_ucr.config import parse_recipe, recipe_parser
from asteroid_ucr.training.train_prior import train_prior


def main() -> None:
    """Runs the stage."""
    parser = recipe_parser(__doc__)
    parser.add_argument("--exp_dir", required=True, help="folder that holds best_model.pth")
    parser.add_argument("--resume", default="auto", help="auto, none, or a checkpoint")
    config, options = parse_recipe(parser)
    print(f"wrote {train_prior(config, options.exp_dir, options.resume)}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
