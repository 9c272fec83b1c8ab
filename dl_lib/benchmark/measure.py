"""Measuring: times of cases that take turns, and the memory of each in a process of its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from tqdm import tqdm

from dl_lib.benchmark.cases import Case, Run, Settings
from dl_lib.launch import exit_with_parent
from dl_lib.utils.progress import progress_bar

__all__ = ["MATMUL_SIDE", "Measurement", "Memory", "Results", "Timing", "measure", "measure_memory", "take_turns"]

WARM_UP_ROUNDS = 2
MATMUL_SIDE = 2048
MATMUL = "matmul"
BYTES_PER_MIB, KIB_PER_MIB = 2**20, 2**10


@dataclass(frozen=True)
class Timing:
    """Attributes: `seconds` of each call, in the order of measurement; `gflops` (1e9 multiply-adds) of one call."""

    seconds: tuple[float, ...]
    gflops: float

    def quantile(self, share: float) -> float:
        """Seconds that this share of the calls stayed below; 0.5 is the median."""
        return torch.tensor(self.seconds, dtype=torch.float64).quantile(share).item()

    @property
    def median_seconds(self) -> float:
        return self.quantile(0.5)

    @property
    def gmadds_per_second(self) -> float:
        """Multiply-adds per second (median), in 1e9."""
        return self.gflops / self.median_seconds


@dataclass(frozen=True)
class Memory:
    """Attributes: MiB at the peak, and MiB before the network was built (interpreter and libraries; on a GPU nothing).

    On the CPU the resident set of the process, on a GPU the sum of torch's tensors there.
    """

    peak_mib: float
    idle_mib: float


@dataclass(frozen=True)
class Measurement:
    """Attributes: the `case`; its `timing` (GFLOPs: one image, forward); the `memory` of a process of its own."""

    case: Case
    timing: Timing
    memory: Memory


@dataclass(frozen=True)
class Results:
    """Attributes: a measurement of each case; the float32 product of two square matrices, measured in between."""

    measurements: tuple[Measurement, ...]
    matmul: Timing


def measure(cases: Sequence[Case], settings: Settings, *, repeats: int) -> Results:
    """Measures memory first, then times: round after round, each case of a group once, and a matrix product.

    Args:
        cases: those of a group side by side.
        settings: what they have in common.
        repeats: timed rounds, after `WARM_UP_ROUNDS` without time.
    """
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    groups = [list(group) for _, group in groupby(cases, key=lambda case: case.group)]
    steps = len(cases) + sum(len(group) + 1 for group in groups) * (WARM_UP_ROUNDS + repeats)
    timings: dict[str, Timing] = {}
    matmul_seconds: list[float] = []
    with progress_bar(steps, description="benchmark", unit="step") as bar:
        memory = {}
        for case in cases:
            memory[case.name] = measure_memory(case, settings)
            bar.update()
        for group in groups:
            runs = {MATMUL: _matmul(settings)} | {case.name: case.prepare(settings) for case in group}
            timed = take_turns(runs, repeats=repeats, bar=bar, uses_gpu=settings.device != "cpu")
            matmul = timed.pop(MATMUL)
            matmul_seconds += matmul.seconds
            timings |= timed
    return Results(
        measurements=tuple(Measurement(case, timings[case.name], memory[case.name]) for case in cases),
        matmul=Timing(tuple(matmul_seconds), matmul.gflops),
    )


def _matmul(settings: Settings) -> Run:
    a, b = torch.rand(2, MATMUL_SIDE, MATMUL_SIDE, device=settings.device)
    product = torch.empty_like(a)

    def run() -> float:
        torch.mm(a, b, out=product)
        return MATMUL_SIDE**3 / 1e9

    return run


def take_turns(runs: Mapping[str, Run], *, repeats: int, bar: tqdm, uses_gpu: bool) -> dict[str, Timing]:
    """Calls each run once a round, so that what disturbs the machine disturbs all of them.

    Args:
        runs: what is called, by name; each gives the GFLOPs of one image.
        repeats: timed rounds, after `WARM_UP_ROUNDS` without time.
        bar: goes on by one with each call.
        uses_gpu: whether a call is over only when the GPU is done.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    gflops = {}
    for _ in range(WARM_UP_ROUNDS + repeats):
        for name, run in runs.items():
            start = _now(uses_gpu)
            gflops[name] = run()
            seconds[name].append(_now(uses_gpu) - start)
            bar.update()
    return {name: Timing(tuple(seconds[name][WARM_UP_ROUNDS:]), gflops[name]) for name in runs}


def _now(uses_gpu: bool) -> float:
    """Seconds, when everything that was asked of a GPU is done."""
    if uses_gpu:
        torch.cuda.synchronize()
    return time.perf_counter()


def measure_memory(case: Case, settings: Settings) -> Memory:
    """Runs a case twice in a fresh process: a second training step finds the optimizer's momentum in place."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=exit_with_parent) as pool:
        return pool.submit(_own_memory, case, settings).result()


def _own_memory(case: Case, settings: Settings) -> Memory:
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    idle_mib = _peak_mib(settings)
    run = case.prepare(settings)
    for _ in range(2):
        run()
    return Memory(_peak_mib(settings), idle_mib)


def _peak_mib(settings: Settings) -> float:
    """The most that this process has used so far."""
    if settings.device != "cpu":
        return torch.cuda.max_memory_allocated() / BYTES_PER_MIB
    # Not getrusage: its ru_maxrss starts from the peak of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / KIB_PER_MIB
