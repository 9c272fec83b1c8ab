"""Subcommand `dl_lib compare-runs`: scores and costs of several runs in one table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from dl_lib.cli.arg_types import local_path, user_path
from dl_lib.cli.errors import user_errors
from dl_lib.utils.escaping import TABLE_ESCAPES
from dl_lib.utils.files import write_atomically
from dl_lib.utils.run_files import RESULTS_NAME, run_name

__all__ = ["main"]

_MISSING = "-"
_SCORES = ("mIoU", "fwIoU", "mACC", "pACC")
_COSTS = {"expected": "expected", "real": "real", "real_complete": "complete", "executed": "executed"}
_LEGEND = (
    "Scores in percent. GFLOPs (1e9 multiply-adds) per image, averaged over the dataset: expected; real, as counted in "
    "the paper; complete, with every module that runs; executed. s: median seconds per image on the machine of each "
    "evaluation."
)


@dataclass(frozen=True)
class _Run:
    """Results of one run on one dataset.

    Attributes:
        name: Name of the run folder, followed by that of the evaluation if it is not the training's own.
        dataset: Name of the dataset.
        values: Entry of the dataset in results.json.
        parameters: Number of learnable parameters; None if results.json does not contain it.
    """

    name: str
    dataset: str
    values: Mapping[str, Any]
    parameters: int | None


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib compare-runs") -> None:
    """Print a table with a row for each run and dataset; see `dl_lib compare-runs --help`."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Print scores and costs of several evaluated runs as one table: a run's last evaluation during "
        "training, and its evaluations with dl_lib evaluate.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("runs", nargs="+", type=user_path, metavar="RUN", help=f"run or evaluation folder with a {RESULTS_NAME}")
    add("--classes", action="store_true", help="also print the IoU of each class")
    add("--output", type=local_path, metavar="DIR", help="also write comparison.md and comparison.json to this folder")
    arguments = parser.parse_args(argv)
    with user_errors(prog):
        runs = [run for folder in arguments.runs for run in _read(folder, among=arguments.runs)]
        print(_format(runs, classes=arguments.classes, style="simple"))
        if arguments.output is not None:
            markdown = f"# Comparison\n\n{_format(runs, classes=arguments.classes, style='github')}\n"
            write_atomically(arguments.output / "comparison.md", markdown)
            write_atomically(arguments.output / "comparison.json", json.dumps(_as_list(runs), indent=2) + "\n")
            print(f"\nWrote comparison.md and comparison.json to {arguments.output.absolute()}")


def _read(folder: Path, *, among: Sequence[Path]) -> list[_Run]:
    """Read the results of a run and its evaluations."""
    from dl_lib.evaluation.report.results_file import evaluation_folders

    name = run_name(folder, among=among)
    evaluations = evaluation_folders(folder)
    own = _read_results(folder, name=name) if (folder / RESULTS_NAME).exists() or not evaluations else []
    return own + [run for path in evaluations for run in _read_results(path, name=f"{name}/{path.name}")]


def _read_results(folder: Path, *, name: str) -> list[_Run]:
    from dl_lib.evaluation.report.results_file import read_results

    results = read_results(folder)
    return [_Run(name, dataset, values, results.parameters) for dataset, values in results.datasets.items()]


def _format(runs: Sequence[_Run], *, classes: bool, style: str) -> str:
    headers = ["dataset", "run", *_SCORES, *_COSTS.values(), "s", "parameters"]
    # Rows of the same dataset are comparable and stay together.
    order = {name: position for position, name in enumerate(dict.fromkeys(run.dataset for run in runs))}
    by_dataset = sorted(runs, key=lambda run: order[run.dataset])
    decimals = 4 if any(run.values["costs_gflops"]["real_complete"]["avg"] >= 1 for run in runs) else 6
    parts = [
        _table([_row(run, decimals=decimals) for run in by_dataset], headers=headers, style=style, text_columns=2),
        _LEGEND,
    ]
    if classes:
        for dataset in order:
            same = [run for run in runs if run.dataset == dataset]
            headers = [f"IoU (%) on {dataset}", *(run.name for run in same)]
            if rows := _class_rows(same):
                parts.append(_table(rows, headers=headers, style=style, text_columns=1))
    return "\n\n".join(parts)


def _row(run: _Run, *, decimals: int) -> list[str]:
    costs = [f"{run.values['costs_gflops'][kind]['avg']:.{decimals}f}" for kind in _COSTS]
    parameters = _MISSING if run.parameters is None else f"{run.parameters:,}"
    scores = [_percent(run.values.get(score)) for score in _SCORES]
    return [run.dataset, run.name, *scores, *costs, f"{run.values['seconds_per_image']:.4f}", parameters]


def _class_rows(runs: Sequence[_Run]) -> list[list[str]]:
    """Return one row for each class that occurs in a run."""
    classes = [run.values.get("classes", {}) for run in runs]
    names = dict.fromkeys(name for known in classes for name in known)
    return [[name, *(_percent(known.get(name, {}).get("IoU")) for known in classes)] for name in names]


def _table(rows: Sequence[Sequence[str]], *, headers: Sequence[str], style: str, text_columns: int) -> str:
    align = ["left"] * text_columns + ["right"] * (len(headers) - text_columns)
    escape = TABLE_ESCAPES[style]
    cells = [[escape(cell) for cell in row] for row in rows]
    return tabulate(cells, headers=list(map(escape, headers)), tablefmt=style, colalign=align, disable_numparse=True)


def _percent(ratio: float | None) -> str:
    return _MISSING if ratio is None else f"{100 * ratio:.2f}"


def _as_list(runs: Sequence[_Run]) -> list[dict[str, Any]]:
    return [
        {"run": run.name, "dataset": run.dataset, "parameters": run.parameters, "results": run.values} for run in runs
    ]
