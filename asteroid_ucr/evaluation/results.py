"""Aggregates lines of scores into the content of `final_metrics.json`."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import pandas as pd

from asteroid_ucr.evaluation.scores import BSS_HOP, BSS_SECONDS, SCORES, SILENCE_DBFS
from asteroid_ucr.evaluation.statistics import INTERVAL_METHOD, summarise

_PACKAGES = ("asteroid-ucr", "asteroid", "torch", "fast_bss_eval", "museval", "librosa", "numpy")


def aggregate(lines: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Aggregates the lines of `all_metrics.csv` into one entry for each of the named rows.

    Returns:
        Each row with `scores[reference][source or "all"][score]` as a `Summary` dictionary,
        `frequency_r2[source]`, `runs` (training and sampling seeds), `failures`, `errors` and
        `seconds_per_clip`.
    """
    lines = lines.assign(run=lines["model"] + "|" + lines["seed"].astype(str))
    entries = []
    for row in rows:
        part = lines[lines["row"] == row["name"]]
        true = part[part["reference"] == "true"]
        failed = part[part["error"] != ""]
        runs = [
            {
                "model": model,
                "seed": int(seed),
                "si_sdr": summarise(run, "si_sdr").mean,
                "frequency_r2": run["frequency_r2"].mean(),
            }
            for (model, seed), run in true.groupby(["model", "seed"])
        ]
        entries.append(
            {
                **row,
                "scores": {kind: _by_source(some) for kind, some in part.groupby("reference")},
                "frequency_r2": dict(true.groupby("source", sort=False)["frequency_r2"].mean()),
                "runs": runs,
                "failures": failed.groupby(["run", "clip"]).ngroups,
                "errors": sorted(set(failed["error"]))[:5],
                "seconds_per_clip": true["seconds"].mean(),
            }
        )
    return entries


def _by_source(lines: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {
        source: {name: summarise(part, name)._asdict() for name in SCORES}
        for source, part in [("all", lines), *lines.groupby("source", sort=False)]
    }


def describe(
    lines: pd.DataFrame, clips: Sequence[Mapping[str, Any]], **options: Any
) -> dict[str, Any]:
    """Describes the protocol of a run: the clips, the method, the versions and the options.

    Every clip has `name`, `track`, `seconds`, `mix`, `sample_rate` and `sources`.
    """
    one = lines[(lines["row"] == lines["row"].iloc[0]) & (lines["reference"] == "true")]
    one = one.drop_duplicates(["clip", "source"])
    one = one.assign(scored=~(one["silent"] | one["alone"]))
    clips_with = one.groupby("clip")[["silent", "scored"]].any().sum()
    seconds = [clip["seconds"] for clip in clips]
    return {
        "sources": list(clips[0]["sources"]),
        "mix": "/".join(sorted({clip["mix"] for clip in clips})),
        "sample_rate": clips[0]["sample_rate"],
        "segment_seconds": max(seconds),
        "shortest_seconds": min(seconds),
        "clips": len(clips),
        "tracks": len({clip["track"] for clip in clips}),
        "silence_dbfs": SILENCE_DBFS,
        "silent_references": one.groupby("source", sort=False)["silent"].sum().to_dict(),
        "clips_with_silence": int(clips_with["silent"]),
        "clips_scored": int(clips_with["scored"]),
        "failures": lines[lines["error"] != ""].groupby(["row", "clip"]).ngroups,
        "intervals": INTERVAL_METHOD,
        "bss_eval": f"v4, {BSS_SECONDS:g} s windows, {BSS_HOP:g} s hop, median over windows",
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in _PACKAGES},
        **options,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"  # The code runs from a checkout.
