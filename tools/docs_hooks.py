"""MkDocs hooks: pages made from READMEs and examples outside docs/, and links from pages to files of the repository.

README.md, datasets/README.md and examples/ have one copy, which is also readable in the repository. Other files that
pages link to, such as templates for clusters, are copied into the site.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
README_SECTIONS = ("Installation", "Quickstart", "Python API")  # on the page "Getting started", the rest on "Home"
GENERATED = {
    "index.md": "README.md",
    "getting_started.md": "README.md",
    "datasets.md": "datasets/README.md",
    "examples.md": "examples",
}
PAGE_OF = {"README.md": "index.md", "datasets/README.md": "datasets.md", "examples": "examples.md"}
FOLDER_OF_COPIES = "repository"  # in the site
LINK = re.compile(r"(\]\()([^)#\s:]+)([^):\s]*\))")  # relative links; those with a colon are addresses


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and the files that pages link to."""
    for page, source in GENERATED.items():
        files.append(File.generated(config, page, content=_content(page, source)))
    linked = {target for file in files.documentation_pages() for target in _repository_targets(file)}
    for target in sorted(linked):
        copy = f"{FOLDER_OF_COPIES}/{target}"
        files.append(File.generated(config, copy, content=(ROOT / target).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links to files of the repository as links within the site."""
    source = _source(page.file.src_uri)

    def rewrite(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        uri = _site_uri(target)
        link = posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".") if uri else match[2]
        return f"{match[1]}{link}{match[3]}"

    return LINK.sub(rewrite, markdown)


def _content(page: str, source: str) -> str:
    if page == "examples.md":
        scripts = sorted((ROOT / source).glob("*.py"))
        blocks = [f"## {script.name}\n\n```python\n{script.read_text(encoding='utf-8')}```\n" for script in scripts]
        return "# Examples\n\n" + "\n".join(blocks)
    text = (ROOT / source).read_text(encoding="utf-8")
    if source != "README.md":
        return text
    head, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    is_moved = [section.removeprefix("## ").partition("\n")[0] in README_SECTIONS for section in sections]
    if page == "index.md":
        return head + "".join(section for section, moved in zip(sections, is_moved, strict=True) if not moved)
    moved_sections = [section for section, moved in zip(sections, is_moved, strict=True) if moved]
    return "# Getting started\n\n" + "".join(moved_sections)


def _source(uri: str) -> str:
    """Return the path in the repository that a page was made from."""
    return GENERATED.get(uri, f"docs/{uri}")


def _site_uri(target: str) -> str | None:
    """Return the path in docs/ of a file of the repository; None if there is no such file."""
    if target in PAGE_OF:
        return PAGE_OF[target]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return f"{FOLDER_OF_COPIES}/{target}" if (ROOT / target).is_file() else None


def _repository_targets(file: File) -> set[str]:
    """Return the files outside docs/ that a page links to."""
    source = _source(file.src_uri)
    targets = (
        os.path.normpath(os.path.join(os.path.dirname(source), m[2])) for m in LINK.finditer(file.content_string)
    )
    return {target for target in targets if (_site_uri(target) or "").startswith(FOLDER_OF_COPIES)}
