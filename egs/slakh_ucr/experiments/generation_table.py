"""Writes docs/generation_results.md from the evaluations of experiments/generation.sh."""

import argparse
import json
import shutil
import sys
from pathlib import Path

from asteroid_ucr import __version__
from asteroid_ucr.commands import exit_code
from asteroid_ucr.reports.generation_tables import generation_text
from asteroid_ucr.reports.tables import Table
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.errors import UserError

PICTURES = {
    "generation_steps.png": "Fréchet distance of generations from nothing by number of steps",
    "generation_random.webp": "Spectrograms of the first eight generations from nothing",
}
HEAD = """\
# Generation, measured

<!-- Written by egs/slakh_ucr/experiments/generation_table.py; do not edit. -->

Measured with version {version} by `egs/slakh_ucr/experiments/generation.sh`, on songs of the
training collection's test split. [generation.md](generation.md) explains the measures.

"""


def main() -> None:
    """Writes the page, and copies the pictures that belong to it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exp", type=Path, default=Path("exp/generation"))
    parser.add_argument("--document", type=Path, default=Path("../../docs/generation_results.md"))
    options = parser.parse_args()
    found = sorted(options.exp.glob("*/generation.json"), key=lambda path: len(path.parent.name))
    if not found:
        raise UserError(f"{options.exp} holds no evaluation: run experiments/generation.sh first.")
    parts = [HEAD.format(version=__version__)]
    for path in found:
        name = path.parent.name
        text = generation_text(json.loads(path.read_text()), Table.markdown)
        parts += [f"## {name}", "", text]
        for picture, title in PICTURES.items():
            if not path.with_name(picture).is_file():
                continue
            kind, suffix = picture.rsplit(".", 1)
            target = options.document.with_name(f"{kind}-{name}.{suffix}")
            shutil.copyfile(path.with_name(picture), target)
            parts += [f"![{title}]({target.name})", ""]
    with atomic_path(options.document) as temporary:
        temporary.write_text("\n".join(parts).rstrip() + "\n")
    print(f"wrote {options.document}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
