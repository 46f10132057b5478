"""Frozen maps between waveforms and latents, behind one interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asteroid_ucr.codecs.base import Codec
from asteroid_ucr.codecs.mdct import MdctCodec
from asteroid_ucr.codecs.mel import MelCodec
from asteroid_ucr.utils.errors import UserError


def _encodec(**options: Any) -> Codec:
    """Imports the package `encodec`, licensed CC BY-NC 4.0, only if its codec is used."""
    try:
        from asteroid_ucr.codecs.encodec import EncodecCodec
    except ModuleNotFoundError as error:
        if error.name != "encodec":
            raise
        raise UserError(
            "The codec encodec_24khz needs the package encodec, whose licence is CC BY-NC 4.0: "
            "install it with `pip install encodec`."
        ) from error
    return EncodecCodec(**options)


CODECS: dict[str, Callable[..., Codec]] = {
    "mel": MelCodec,
    "mdct": MdctCodec,
    "encodec_24khz": _encodec,
}


def build_codec(name: str, **options: Any) -> Codec:
    """Builds a codec by name.

    Args:
        name: "mel" or "mdct", which need no weights, or "encodec_24khz".
        **options: Arguments of the codec's constructor.

    Raises:
        UserError: If the codec or an option does not exist, or the weights are missing.
    """
    if name == "encodec_48khz":
        raise UserError(
            "codec 'encodec_48khz' is not supported, because it needs a scale per segment besides "
            "the latents: use 'encodec_24khz'."
        )
    if name not in CODECS:
        raise UserError(f"Unknown codec {name!r}: choose one of {', '.join(CODECS)}.")
    try:
        return CODECS[name](**options).eval()
    except TypeError as error:
        raise UserError(f"codec {name!r} does not take these options: {error}.") from error


__all__ = ["CODECS", "Codec", "MdctCodec", "MelCodec", "build_codec"]
