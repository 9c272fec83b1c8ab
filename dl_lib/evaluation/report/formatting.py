"""Tables and numbers of reports as text, and the files of measured tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP
from dl_lib.utils.escaping import markdown_text
from dl_lib.utils.files import write_atomically

__all__ = ["decimals_of", "format_gflops", "format_table", "gflops_decimals", "write_measurements"]


def format_table(rows: Sequence[Sequence[str]], *, headers: Sequence[str], style: str) -> str:
    """Format a table in a style of tabulate; all cells are text, so that tabulate does not reformat numbers."""
    align = ["left", *["right"] * (len(headers) - 1)] if len(rows) > 1 else ["right"] * len(headers)
    return tabulate(rows, headers=headers, tablefmt=style, colalign=align, disable_numparse=True)


def gflops_decimals(result: EvaluationResult) -> int:
    """Return the decimals of a result's costs, see `decimals_of`."""
    return decimals_of(result.costs.maximum.real_complete)


def decimals_of(madds: float) -> int:
    """Return the decimals of costs up to a number of multiply-adds in GFLOPs: four, or six below 1 GFLOP."""
    return 4 if madds >= MADDS_PER_GFLOP else 6


def format_gflops(madds: float, decimals: int) -> str:
    """Format multiply-adds as GFLOPs."""
    return f"{madds / MADDS_PER_GFLOP:.{decimals}f}"


def write_measurements(
    path: Path,
    *,
    title: str,
    table: str,
    values: Mapping[str, Any],
    environment: Mapping[str, str],
    figure: str | None = None,
) -> None:
    """Write a measured table as Markdown and its values as JSON.

    Args:
        path: Path of both files without their suffixes.
        title: Title of the Markdown document, in Markdown.
        table: Table with its legend, in Markdown.
        values: Content of the JSON file, as plain values.
        environment: Device and versions that the measurements depend on.
        figure: Link to a figure, in Markdown.
    """
    facts = ", ".join(f"{name}: {value}" for name, value in environment.items())
    parts = [f"# {title}", table, f"{markdown_text(facts)}.", *([] if figure is None else [figure])]
    write_atomically(path.with_name(f"{path.name}.md"), "\n\n".join(parts) + "\n")
    write_atomically(path.with_name(f"{path.name}.json"), json.dumps(values, indent=2, allow_nan=False) + "\n")
