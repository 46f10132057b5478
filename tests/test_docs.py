"""What the documents show is what the commands wrote, and their links lead somewhere."""

import re
from pathlib import Path

import pytest

from asteroid_ucr.cli import build_parser

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *ROOT.glob("*.md"),
    ROOT / "egs/slakh_ucr/README.md",
    *(ROOT / "docs").rglob("*.md"),
]


def table_after(text, mark):
    """The first table after a mark, as {row: {column: cell}}."""
    lines = text[text.index(mark) :].splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}


def test_the_readme_shows_the_scores_of_the_cards():
    shown = table_after((ROOT / "README.md").read_text(), "SI-SDR in dB")
    assert "**Ours, 1 step**" in shown and "HPSS" in shown
    for label, cells in shown.items():
        for model, cell in cells.items():
            card = (ROOT / "asteroid_ucr" / "models" / f"{model}.md").read_text()
            assert cell == table_after(card, "### Songs")[label]["SI-SDR"], (label, model)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document):
    targets = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    relative = [target.partition("#")[0] for target in targets if "://" not in target]
    missing = [t for t in relative if t and not (document.parent / t).exists()]
    assert not missing


@pytest.mark.parametrize(
    "page", [path for path in DOCUMENTS if "results" in path.name], ids=lambda path: path.name
)
def test_results_name_the_version_they_were_measured_with(page):
    assert re.search(r"Measured with version \d+\.\d+\.\d+", page.read_text())


def test_commands_in_the_documents_exist():
    known = build_parser().format_help()
    for document in DOCUMENTS:
        for name in re.findall(r"^asteroid-ucr ([a-z-]+)", document.read_text(), re.MULTILINE):
            assert f"\n    {name}" in known, (document, name)
