"""Frozen maps between waveforms and latents, behind one interface."""

from __future__ import annotations

from typing import Any

from asteroid_ucr.codecs.base import Codec
from asteroid_ucr.codecs.encodec import EncodecCodec, OwnCodec
from asteroid_ucr.codecs.mel import MelCodec
from asteroid_ucr.errors import UserError

CODECS: dict[str, type[Codec]] = {
    "mel": MelCodec,
    "encodec_24khz": EncodecCodec,
    "ucr_24khz": OwnCodec,
}


def build_codec(name: str, **options: Any) -> Codec:
    """Builds a codec by name.

    Args:
        name: "mel" (needs no weights), "encodec_24khz", or "ucr_24khz" (bundled).
        **options: of the codec's constructor.

    Raises:
        UserError: if there is no such codec or option, or its weights are missing.
    """
    if name == "encodec_48khz":
        raise UserError(
            "codec 'encodec_48khz' is not supported: it normalises each one-second segment by a "
            "scale of its own, so its latents alone do not give the audio; use 'encodec_24khz'."
        )
    if name not in CODECS:
        raise UserError(f"Unknown codec {name!r}: choose one of {', '.join(CODECS)}.")
    try:
        return CODECS[name](**options).eval()
    except TypeError as error:
        raise UserError(f"codec {name!r} does not take these options: {error}.") from error


__all__ = ["CODECS", "Codec", "EncodecCodec", "MelCodec", "OwnCodec", "build_codec"]
