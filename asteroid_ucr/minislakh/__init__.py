"""mini-Slakh: composed or given songs, rendered per stem, in the layout of Slakh2100.

Composition: `song` chooses a style from `styles` and lets `drums`, `bass` and `comping` play; they
share `harmony` and the sections and bars of `score`. Sounds: `render` draws instruments through
`sounds`, which `player` (for a `soundfont`) and `kits` play, and applies `effects`. Collection:
`collection` composes songs or reads them with `midi_files`, and `write` stores each as a track.
`notes` holds what these three exchange.
"""

from asteroid_ucr.minislakh.collection import build

__all__ = ["build"]
