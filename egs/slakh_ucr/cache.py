"""Stage 1: caches the latents of the training and validation mixtures."""

import sys

from asteroid_ucr.cli import exit_code
from asteroid_ucr.codecs import build_codec
from asteroid_ucr.config import parse_recipe, recipe_parser
from asteroid_ucr.data.encode import encode_split
from asteroid_ucr.training.train import cache_folder
from asteroid_ucr.utils.device import pick_device


def main() -> None:
    """Runs the stage."""
    config, _ = parse_recipe(recipe_parser(__doc__))
    codec = build_codec(config.codec.name, **config.codec.options()).to(pick_device())
    for split in ("train", "validation"):
        failures = encode_split(
            config.data.root,
            split,
            cache_folder(config, split),
            codec,
            config.data.sources,
            config.data.mix,
            config.data.allow_shared_midi,
            config.data.workers,
        )
        for failure in failures:
            print(f"left out: {failure}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(exit_code(main))
