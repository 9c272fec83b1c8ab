"""Tables and numbers of reports as text."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP

__all__ = ["format_gflops", "format_table", "gflops_decimals"]


def format_table(rows: Sequence[Sequence[str]], *, headers: Sequence[str], style: str) -> str:
    """Format a table in a style of tabulate; all cells are text, so that tabulate does not reformat numbers."""
    align = ["left", *["right"] * (len(headers) - 1)] if len(rows) > 1 else ["right"] * len(headers)
    return tabulate(rows, headers=headers, tablefmt=style, colalign=align, disable_numparse=True)


def gflops_decimals(result: EvaluationResult) -> int:
    """Return the decimals of a result's costs: four, or six for networks below 1 GFLOP."""
    return 4 if result.costs.maximum.real_complete >= MADDS_PER_GFLOP else 6


def format_gflops(madds: float, decimals: int) -> str:
    """Format multiply-adds as GFLOPs."""
    return f"{madds / MADDS_PER_GFLOP:.{decimals}f}"
