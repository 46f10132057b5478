"""The results of evaluating generation, as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

FIT = {
    "onset": ("onsets", 2),
    "chroma": ("chroma", 2),
    "component_mse": ("MSE of z", 2),
    "codec_mse": ("MSE of x", 2),
}


_PLAIN = {"box": None, "title_justify": "left", "padding": (0, 1)}


def frechet_rows(results: dict[str, Any]) -> list[dict[str, str]]:
    """Fréchet distances as text: who, against what, distance, interval, number of embeddings."""
    rows = []
    for line in results["frechet"]:
        known = line["infinity"] is not None
        rows.append(
            {
                "sounds": line["sounds"],
                "target": line["target"],
                "reference": line["reference"],
                "infinity": f"{line['infinity']:.1f}" if known else "–",
                "interval": f"{line['low']:.1f} … {line['high']:.1f}" if known else "–",
                "value": f"{line['value']:.1f}" if known else "–",
                "count": str(line["embeddings"]),
                "silent": str(line["silent"]),
            }
        )
    return rows


def fit_rows(results: dict[str, Any]) -> list[dict[str, str]]:
    """The fit of partners as text: measures with their intervals."""
    rows = []
    for entry in results["fit"]:
        row = {"kept": entry["kept"], "partner": entry["partner"]}
        for name, (_, digits) in FIT.items():
            mean, half = entry[name]["mean"], entry[name]["half_width"]
            text = "–" if mean is None else f"{mean:.{digits}f}"
            row[name] = text if half is None else f"{text} ± {half:.{digits}f}"
        rows.append({**row, "clips": str(entry["onset"]["clips"])})
    return rows


def sentences(results: dict[str, Any]) -> list[str]:
    """What else was measured, in words."""
    copies, protocol = results["memorisation"], results["protocol"]
    found = [
        f"Kept components: mean squared change {results['kept_mse']:g}.",
        f"{results['seconds_each']:.2f} s for each generation of {protocol['segment_seconds']:g} s "
        f"from nothing, in {protocol['steps']} steps.",
    ]
    means = [copies[name]["mean"] for name in ("generated", "test")]
    if None not in means:
        found.append(
            f"Nearest training passage of {copies['seconds']:.2g} s: generations at "
            f"{means[0]:.3f}, test clips at {means[1]:.3f}; {copies['nearer_than_any_test']} of "
            f"{protocol['unconditional']} generations are nearer than every test clip."
        )
    return found


def protocol_line(results: dict[str, Any]) -> str:
    """How it was measured."""
    p = results["protocol"]
    return (
        f"{' + '.join(p['sources'])}, mix: {p['mix']} · {p['train_clips']} training and "
        f"{p['test_clips']} test clips of {p['segment_seconds']:g} s ({p['test_tracks']} test "
        f"tracks) · {p['unconditional']} generations from nothing · {p['steps']} steps, seed "
        f"{p['seed']} · embeddings: {p['embedding']}"
    )


def to_markdown(results: dict[str, Any]) -> str:
    """The tables in Markdown, each followed by what is counted in it, and the protocol."""
    heads = ("sounds", "of", "against", "FAD∞", "95 %", "FAD", "embeddings", "silent")
    lines = _markdown(heads, [list(row.values()) for row in frechet_rows(results)], text=3)
    heads = ("kept", "partner", *(title for title, _ in FIT.values()), "clips")
    lines += _markdown(heads, [list(row.values()) for row in fit_rows(results)], text=2)
    lines += [f"- {sentence}" for sentence in sentences(results)]
    return "\n".join([*lines, "", f"*{protocol_line(results)}*", ""])


def _markdown(heads: Sequence[str], rows: list[list[str]], text: int) -> list[str]:
    """A table whose first columns are text and whose others are figures."""
    rule = "|" + "---|" * text + "---:|" * (len(heads) - text)
    lines = [f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)]
    return [*lines, ""]


def print_generation(results: dict[str, Any], console: Console | None = None) -> None:
    """Prints the tables."""
    console = console or Console()
    console.print()
    console.print(protocol_line(results), style="dim", highlight=False)
    heads = ("sounds", "of", "against", "FAD∞", "95 %", "FAD", "seconds", "silent")
    table = Table(*heads, title="Fréchet distance", **_PLAIN)
    for row in frechet_rows(results):
        table.add_row(*row.values())
    console.print(table)
    heads = [title for title, _ in FIT.values()]
    title = "Fit of the partner to the kept stem"
    table = Table("kept", "partner", *heads, "clips", title=title, **_PLAIN)
    for row in fit_rows(results):
        table.add_row(*row.values())
    console.print(table)
    console.print("\n".join(sentences(results)), highlight=False)
