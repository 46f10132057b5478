"""Model cards as the Hugging Face hub reads them: metadata with scores, and a page for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

METRICS = {"si_sdr": "SI-SDR", "si_sdri": "SI-SDRi", "sdr": "SDR"}
TAGS = ["asteroid", "audio", "music", "audio-source-separation", "model_hub_mixin"]


def licence_of(codec: str | None) -> tuple[str, str]:
    """The licence of a model by the name of its codec: the hub's identifier, and a sentence."""
    if codec == "encodec_24khz":
        needs = "needs EnCodec's weights, CC BY-NC 4.0 (Meta)"
        return "cc-by-nc-4.0", f"MIT (asteroid-ucr); {needs}."
    return "mit", "MIT (asteroid-ucr)."


def card_metadata(
    name: str, licence: str, evaluations: Mapping[str, Mapping[str, Any]]
) -> ModelCardData:
    """The metadata of a card, with the scores of our rows in the form of the hub's `model-index`.

    Args:
        name: Name of the model.
        licence: The hub's identifier of its licence.
        evaluations: Contents of `final_metrics.json`, by the title of the data set. The mean over
            the tracks is taken against the true stems, in dB.
    """
    found = [
        EvalResult(
            task_type="audio-to-audio",
            task_name="Source separation",
            dataset_type=re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-"),
            dataset_name=title,
            dataset_split="test",
            metric_type=metric,
            metric_name=f"{heading} in dB, {'mean' if source == 'all' else source}, {row['label']}",
            metric_value=round(scores[metric]["mean"], 1),
        )
        for title, results in evaluations.items()
        for row in results["rows"]
        if row["group"] == "ours"
        for source, scores in row["scores"]["true"].items()
        for metric, heading in METRICS.items()
        if scores[metric]["mean"] is not None
    ]
    return ModelCardData(
        model_name=name,
        license=licence,
        library_name="asteroid-ucr",
        pipeline_tag="audio-to-audio",
        tags=list(TAGS),
        eval_results=found or None,
    )


def model_card(
    conf: Mapping[str, Any],
    budget: str = "",
    evaluations: Mapping[str, Mapping[str, Any]] | None = None,
    licence: str | None = None,
) -> ModelCard:
    """A card for a model.

    Args:
        conf: Result of `SeparatorModel.serialize`.
        budget: What its training cost, as a sentence without its full stop.
        evaluations: See `card_metadata`.
        licence: The hub's identifier of its licence; None takes that of this package and its codec.
    """
    args = conf["model_args"]
    own, sentence = licence_of(args.get("codec"))
    name = "-".join(args["sources"])
    data = card_metadata(name, licence or own, evaluations or {})
    lines = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name}",
        f"This {conf['model_name']} separates mixtures of {' and '.join(args['sources'])} at "
        f"{args['sample_rate']:g} Hz, with [Asteroid](https://github.com/asteroid-team/asteroid) "
        "and its plugin `asteroid-ucr`.",
        "## Use",
        "```python\nfrom asteroid_ucr.base import SeparatorModel\n\n"
        'model = SeparatorModel.from_pretrained("user/model")  # the name of this repository\n'
        "stems = model(wav)  # (batch, 1, time) to (batch, n_src, time), in the order of "
        "model.sources\n```",
        "## Training and licence",
        f"{budget}.\n\n" * bool(budget) + f"Licence: {licence or sentence}",
    ]
    if data.eval_results:
        rows = [
            f"| {r.dataset_name} | {r.metric_name} | {r.metric_value} |" for r in data.eval_results
        ]
        lines += ["## Scores", "\n".join(["| data | measure | value |", "|---|---|---:|", *rows])]
    return ModelCard("\n\n".join(lines) + "\n")
