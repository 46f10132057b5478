"""Makes pages of the site from notebooks and from documents outside docs/, and adapts links."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Pages of the site, and where their text lies in the repository.
OUTSIDE = {
    "index.md": "README.md",
    "recipe.md": "egs/slakh_ucr/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
PAGES = {source: page for page, source in OUTSIDE.items()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the documents outside docs/, and a page for each notebook."""
    for page, source in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for path in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        page = f"notebooks/{path.stem}.md"
        files.append(File.generated(config, page, content=notebook_text(path)))
    return files


def notebook_text(path: Path) -> str:
    """A notebook without outputs as Markdown, with a link to the file below its title."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    cells[0]["source"].append(f"\n\n[Download this notebook]({path.name})")
    texts = ["".join(cell["source"]) for cell in cells]
    kinds = [cell["cell_type"] for cell in cells]
    marked = zip(kinds, texts, strict=True)
    return "\n\n".join(t if k == "markdown" else f"```python\n{t}\n```" for k, t in marked)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between files of the repository into links between pages of the site."""
    here = page.file.src_uri
    source = OUTSIDE.get(here, f"docs/{here}")

    def adapt(match: re.Match[str]) -> str:
        target, mark, anchor = match[1].partition("#")
        if not target or ":" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = PAGES.get(path, path.removeprefix("docs/"))
        return f"]({posixpath.relpath(place, posixpath.dirname(here) or '.')}{mark}{anchor})"

    return re.sub(r"\]\(([^)\s]+)\)", adapt, markdown)
