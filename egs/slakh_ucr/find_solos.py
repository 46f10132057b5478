"""Finds passages in which one instrument plays alone, and writes them as audio.

Caches the latents of the mixtures of all pairs of the instruments, and compares them.
"""

import sys
from dataclasses import replace
from itertools import combinations

from asteroid_ucr.cli import exit_code
from asteroid_ucr.codecs import build_codec
from asteroid_ucr.config import parse_recipe, recipe_parser
from asteroid_ucr.data.cache import LatentCache
from asteroid_ucr.data.encode import cache_metadata, encode_split
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.solos.find import find_solos
from asteroid_ucr.solos.library import write_solos, write_stems
from asteroid_ucr.training.train import cache_folder


def main() -> None:
    """Runs the step."""
    parser = recipe_parser(__doc__)
    parser.add_argument("--instruments", nargs="+", default=["drums", "bass", "piano"])
    parser.add_argument("--teacher", help="model that learnt from solos found without it")
    parser.add_argument(
        "--from_stems", action="store_true", help="take true stems instead, for a ceiling"
    )
    config, parsed = parse_recipe(parser)
    if parsed.from_stems:
        data = config.data
        write_stems(data.solos, parsed.instruments, data.root, data.mix, data.allow_shared_midi)
        return
    data, codec = config.data, build_codec(config.codec.name, **config.codec.options())
    caches = {}
    for kind in combinations(parsed.instruments, 2):
        folder = cache_folder(replace(config, data=replace(data, sources=list(kind))), "train")
        failures = encode_split(
            data.root, "train", folder, codec, kind, data.mix, data.allow_shared_midi, data.workers
        )
        for failure in failures:
            print(f"left out: {failure}", file=sys.stderr)
        metadata = cache_metadata(data.root, "train", codec, kind, data.mix)
        caches[kind] = LatentCache(folder, metadata)
    model = UCRSeparator.from_pretrained(parsed.teacher) if parsed.teacher else None
    solos = find_solos(caches, codec, config.training.seed, model)
    for instrument, windows in solos.items():
        tracks = {window.track for window in windows}
        print(f"{instrument}: {len(windows)} windows in {len(tracks)} tracks")
    record = {"dataset": data.root, "seed": config.training.seed, "teacher": parsed.teacher}
    write_solos(data.solos, solos, data.root, data.mix, data.allow_shared_midi, record)
    print(f"Wrote {data.solos}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
