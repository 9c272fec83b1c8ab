"""Measuring layers: those of one shape take turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch

from dl_lib.benchmark.cases import Settings
from dl_lib.benchmark.layer_cases import LayerCase
from dl_lib.benchmark.measure import WARM_UP_ROUNDS, Timing, take_turns
from dl_lib.utils.progress import progress_bar

__all__ = ["measure_layers"]


def measure_layers(cases: Sequence[LayerCase], settings: Settings, *, repeats: int) -> Mapping[LayerCase, Timing]:
    """Times of each case, whose GFLOPs are those of one image's forward pass.

    Args:
        cases: those of a group side by side.
        settings: what they have in common.
        repeats: timed rounds, after `WARM_UP_ROUNDS` without time.
    """
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    timings: dict[LayerCase, Timing] = {}
    with progress_bar(len(cases) * (WARM_UP_ROUNDS + repeats), description="benchmark", unit="step") as bar:
        for _, group in groupby(cases, key=lambda case: case.group):
            by_name = {case.name: case for case in group}
            runs = {name: case.prepare(settings) for name, case in by_name.items()}
            timed = take_turns(runs, repeats=repeats, bar=bar, uses_gpu=settings.device != "cpu")
            timings |= {by_name[name]: timing for name, timing in timed.items()}
    return timings
