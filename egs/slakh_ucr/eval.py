"""Stage 3: scores the trained models beside floors, classical methods and ceilings.

Fits each model's assignment of components to sources on the validation split, stores it in the
model, and writes the model that is best on that split as `best_model.pth`.
"""

import sys
from pathlib import Path

from asteroid_ucr.cli import exit_code
from asteroid_ucr.config import parse_recipe, recipe_parser
from asteroid_ucr.evaluation.recipe import evaluate_runs


def main() -> None:
    """Runs the stage."""
    parser = recipe_parser(__doc__)
    parser.add_argument("--exp_dir", required=True, help="folder for the results")
    parser.add_argument("--runs", nargs="+", required=True, help="training seeds")
    parser.add_argument(
        "--compare", nargs="*", default=[], help="trained baselines' best_model.pth"
    )
    parser.add_argument("--pretrained", help="published Demucs weights, such as htdemucs")
    config, options = parse_recipe(parser)
    evaluate_runs(
        config,
        Path(options.exp_dir),
        [f"seed{run}" for run in options.runs],
        options.compare,
        options.pretrained,
    )


if __name__ == "__main__":
    sys.exit(exit_code(main))
