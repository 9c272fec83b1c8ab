"""What the experiments of playground/Zoo are: parameters, cost, time on the CPU, and the scores of their runs."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dl_lib.benchmark.report import markdown_table
from dl_lib.config import CfgNode, ConfigError
from dl_lib.modeling import build_model
from dl_lib.modeling.costs.meta_copy import meta_copy
from dl_lib.modeling.meta_arch.base import SegmentationModel
from dl_lib.utils.run_files import RESULTS_NAME

__all__ = ["ZooEntry", "format_zoo", "measure_entry", "read_scores"]

MFLOPS_PER_GFLOP = 1000
NOT_THERE = "-"


@dataclass(frozen=True)
class ZooEntry:
    """An experiment.

    Attributes:
        name: of its folder.
        parameters: how many values the model learns.
        gflops: 1e9 multiply-adds of an image with everything running, whatever its gates are.
        seconds: median time of that on the CPU; None where it was not measured.
        scores: mIoU of its runs.
    """

    name: str
    parameters: int
    gflops: float
    seconds: float | None
    scores: tuple[float, ...]


def measure_entry(
    cfg: CfgNode, *, name: str, size: tuple[int, int], repeats: int, scores: Sequence[float] = ()
) -> ZooEntry:
    """Builds the model and runs it.

    Args:
        cfg: of the experiment, on the CPU and dense.
        name: of the experiment.
        size: (height, width) in pixels of the image that cost and time are of.
        repeats: timed runs; 0 measures no time.
        scores: mIoU of its runs.
    """
    model = build_model(cfg).eval()
    assert isinstance(model, SegmentationModel)
    with torch.no_grad():
        output = meta_copy(model).run(torch.empty(1, 3, *size, device="meta"), step_rate=0.0)
    return ZooEntry(
        name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gflops=output.mflops["executed_flops"].item() / MFLOPS_PER_GFLOP,
        seconds=_median_seconds(model, size=size, repeats=repeats) if repeats else None,
        scores=tuple(scores),
    )


@torch.inference_mode()
def _median_seconds(model: SegmentationModel, *, size: tuple[int, int], repeats: int) -> float:
    """From the normalised image to the coarse logits; one run before the timed ones warms up."""
    batch = torch.randn(1, 3, *size)
    seconds = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        model.run(batch, step_rate=0.0)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def read_scores(folders: Sequence[Path]) -> list[float]:
    """The mIoU of finished runs, each on its only data set.

    Raises:
        ConfigError: for a folder whose results cannot be read.
    """
    scores = []
    for folder in folders:
        try:
            (values,) = json.loads((folder / RESULTS_NAME).read_bytes())["datasets"].values()
            scores.append(float(values["mIoU"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"expected a run's {RESULTS_NAME} with the mIoU on one data set there; evaluate the run once more, or "
                f"remove its folder. Received: {str(folder)!r} ({type(error).__name__}: {error})"
            ) from error
    return scores


def format_zoo(entries: Sequence[ZooEntry], *, size: tuple[int, int], machine: Mapping[str, Any]) -> str:
    """A table in Markdown, with a line for each experiment, and where it was measured."""
    headers = ["experiment", "parameters", f"GFLOPs at {size[0]}x{size[1]}", "s on the CPU", "mIoU (%)", "runs"]
    rows = [
        [
            entry.name,
            f"{entry.parameters:,}",
            f"{entry.gflops:.3f}",
            NOT_THERE if entry.seconds is None else f"{entry.seconds:.3f}",
            _mean_and_deviation(entry.scores),
            str(len(entry.scores)) if entry.scores else NOT_THERE,
        ]
        for entry in entries
    ]
    table = markdown_table(rows, headers=headers, num_names=1)
    return f"{table}\n\n" + "\n".join(f"- {name}: {value}" for name, value in machine.items()) + "\n"


def _mean_and_deviation(scores: Sequence[float]) -> str:
    """In percent, with the standard deviation of the runs where there are several."""
    if not scores:
        return NOT_THERE
    mean = f"{100 * statistics.mean(scores):.2f}"
    return f"{mean} ± {100 * statistics.stdev(scores):.2f}" if len(scores) > 1 else mean
