"""What a benchmark leaves behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dl_lib.utils.files import write_atomically

__all__ = ["print_and_write"]


def print_and_write(markdown: str, values: Mapping[str, Any], *, folder: Path, name: str) -> None:
    """Prints Markdown, writes <name>.md and <name>.json with the plain values, and says where they are."""
    print(markdown)
    write_atomically(folder / f"{name}.md", markdown)
    write_atomically(folder / f"{name}.json", json.dumps(values, indent=2) + "\n")
    print(f"{name}.md and {name}.json are in {folder.absolute()}")
