"""Stage 5: generates with the prior, and evaluates it beside floors and ceilings."""

import sys
from pathlib import Path

from asteroid_ucr.cli import exit_code
from asteroid_ucr.config import parse_recipe, recipe_parser
from asteroid_ucr.evaluation.generation.recipe import evaluate_experiment


def main() -> None:
    """Runs the stage."""
    parser = recipe_parser(__doc__)
    parser.add_argument("--exp_dir", required=True, help="folder that holds best_model.pth")
    config, options = parse_recipe(parser)
    evaluate_experiment(config, Path(options.exp_dir))


if __name__ == "__main__":
    sys.exit(exit_code(main))
