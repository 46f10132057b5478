"""Scores trained models, and writes them with their cards in the package's form."""

import subprocess
import sys
from pathlib import Path

import yaml

from asteroid_ucr.cli import exit_code
from asteroid_ucr.config import parse_recipe, recipe_parser
from asteroid_ucr.reports.cards import write_model
from asteroid_ucr.separator import UCRSeparator


def main() -> None:
    """Runs the step."""
    parser = recipe_parser(__doc__)
    parser.add_argument("--exp_dir", required=True, help="folder of the models' folders")
    parser.add_argument("--models", nargs="+", required=True, help="names of their folders")
    parser.add_argument("--trained", required=True, help="name of the folder of the training")
    parser.add_argument("--test_dir", required=True, help="Slakh tree whose songs they never heard")
    parser.add_argument("--clips", help="folder of CLIP/{mix,SOURCE}.wav to score besides")
    parser.add_argument("--out", required=True, help="folder for models and cards")
    parser.add_argument("--command", required=True, help="that trained them, for the cards")
    parser.add_argument("--commit", help="of the code that trained them; default the current one")
    config, options = parse_recipe(parser)
    head = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(head, cwd=Path(__file__).parent, capture_output=True, text=True)
    exp_dir = Path(options.exp_dir)
    trained = yaml.safe_load((exp_dir / options.trained / "conf.yml").read_text())
    for name in options.models:
        card = write_model(
            UCRSeparator.from_pretrained(exp_dir / name),
            {**trained, "evaluation": vars(config.evaluation)},
            Path(options.out) / name,
            exp_dir / "scores",
            options.test_dir,
            options.clips,
            options.command,
            options.commit or found.stdout.strip() or "unknown",
        )
        print(f"wrote {card}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
