"""Benchmark harness: interleaved timing, peak memory of a fresh process, and the options that all scripts share.

To add a benchmark, subclass `Case`, measure with `time_cases` and `measure_memory`, and write a `report.Report`.
Measurements other than the duration of one call go through `interleave`.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from torch.utils.benchmark import timer  # synchronizes the GPU before it reads the clock

from dl_lib.cli.arg_types import comma_separated, positive_int
from dl_lib.launch import exit_with_parent
from dl_lib.modeling.build import resolve_device
from dl_lib.utils.allocator import keep_freed_memory
from dl_lib.utils.progress import progress_bar

WARMUP_ROUNDS = 2
SEED = 0

Name = TypeVar("Name", bound=Hashable)
T = TypeVar("T")
Run = Callable[[], float]


@dataclass(frozen=True)
class Settings:
    """Settings that all cases of a run share."""

    device: str = "cpu"  # or cuda
    num_threads: int | None = None  # of torch on the CPU; None for its default
    keep_memory: bool = False  # the allocator keeps freed memory, as in training and evaluation runs
    opts: tuple[str, ...] = ()  # overrides of the default configuration

    def apply(self) -> None:
        """Set threads, allocator and seed of this process."""
        if self.num_threads is not None:
            torch.set_num_threads(self.num_threads)
        if self.keep_memory:
            keep_freed_memory()
        torch.manual_seed(SEED)


class Case:
    """One line of a report. Subclasses are frozen dataclasses, so that another process can receive them."""

    name: str  # unique, with slashes from the general to the special
    group: str  # the cases of a group are interleaved; they are adjacent in a list of cases

    def prepare(self, settings: Settings) -> Run:
        """Build model and input; the returned function is timed and returns the GFLOPs of one image's forward pass."""
        raise NotImplementedError


@dataclass(frozen=True)
class Timing:
    """Seconds of each timed call, and GFLOPs (1e9 multiply-adds) of one image's forward pass."""

    seconds: tuple[float, ...]
    gflops: float

    @property
    def median_seconds(self) -> float:
        return median(self.seconds)


@dataclass(frozen=True)
class Memory:
    """Peak memory in MiB of a process, and before its model was built.

    On a CPU the resident set (with interpreter and libraries), on a GPU the allocated tensors.
    """

    peak_mib: float
    idle_mib: float


def interleave(
    measures: Mapping[Name, Callable[[], T]], *, rounds: int, warmup: int = WARMUP_ROUNDS
) -> dict[Name, tuple[T, ...]]:
    """Call each function once per round, so that other load on the machine affects all of them.

    `torch.utils.benchmark.Timer` measures one statement after the other, and warms up with two calls before each
    measurement, which can take seconds here. Returns the measurements of each function, without those of the warm-up.
    """
    results: dict[Name, list[T]] = {name: [] for name in measures}
    with progress_bar((warmup + rounds) * len(measures), description="benchmark", unit="call") as bar:
        for _ in range(warmup + rounds):
            for name, measure in measures.items():
                results[name].append(measure())
                bar.update()
    return {name: tuple(values[warmup:]) for name, values in results.items()}


def timed(run: Callable[[], T]) -> tuple[float, T]:
    """Return the duration of a call in seconds, including its work on a GPU, and its result."""
    start_seconds = timer()
    result = run()
    return timer() - start_seconds, result


def time_cases(cases: Sequence[Case], settings: Settings, *, rounds: int) -> dict[str, Timing]:
    """Return the timing of each case by name: `rounds` rounds after `WARMUP_ROUNDS`, cases of a group interleaved."""
    timings = {}
    for _, group in groupby(cases, key=lambda case: case.group):
        runs = {case.name: case.prepare(settings) for case in group}
        calls = interleave({name: lambda run=run: timed(run) for name, run in runs.items()}, rounds=rounds)
        timings |= {name: Timing(tuple(s for s, _ in own), gflops=own[-1][1]) for name, own in calls.items()}
    return timings


def seconds_of(runs: Mapping[Name, Callable[[], object]], *, rounds: int) -> dict[Name, tuple[float, ...]]:
    """Return the durations of interleaved calls, without their results."""
    return interleave({name: lambda run=run: timed(run)[0] for name, run in runs.items()}, rounds=rounds)


def measure_memory(case: Case, settings: Settings) -> Memory:
    """Return the memory of a fresh process that runs a case twice, since the first training step allocates momentum."""
    return in_fresh_process(_own_memory, case, settings)


def in_fresh_process(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function of a module in a new process, and return its result."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=exit_with_parent) as pool:
        return pool.submit(function, *args, **kwargs).result()


def _own_memory(case: Case, settings: Settings) -> Memory:
    settings.apply()
    idle_mib = _peak_mib(settings.device)
    run = case.prepare(settings)
    for _ in range(2):
        run()
    return Memory(_peak_mib(settings.device), idle_mib)


def _peak_mib(device: str) -> float:
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    # getrusage's ru_maxrss starts at the peak of the parent process; VmHWM, in KiB, does not.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


def benchmark_parser(
    script: str, *, description: str, repeats: int, epilog: str | None = None, add_help: bool = True
) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share; `add_help` is False for parents of subcommands."""
    parser = argparse.ArgumentParser(
        prog=script, description=description, epilog=epilog, allow_abbrev=False, add_help=add_help
    )
    add = parser.add_argument
    add("--output", type=Path, default=Path("output", "benchmarks"), metavar="DIR", help="(default: %(default)s)")
    add("--document", type=Path, metavar="FILE", help="also write the Markdown there, without tables of all cases")
    add("--repeats", type=positive_int, default=repeats, metavar="N", help="timed rounds (default: %(default)s)")
    add("--threads", type=positive_int, metavar="N", help="CPU threads (default: torch's)")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="(default: auto, a GPU if there is one)")
    add("--keep-memory", action="store_true", help="let the allocator keep freed memory, as training runs do")
    return parser


def add_parts_option(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add the option that selects parts of a benchmark, by default all."""

    def parts(text: str) -> list[str]:
        if unknown := [name for name in comma_separated(text) if name not in names]:
            raise argparse.ArgumentTypeError(f"must be some of {', '.join(names)}. Received: {', '.join(unknown)}")
        return comma_separated(text)

    default = ",".join(names)
    parser.add_argument("--parts", type=parts, default=default, metavar="NAMES", help="(default: %(default)s)")


def start(arguments: argparse.Namespace) -> Settings:
    """Return the settings of parsed arguments, applied to this process."""
    settings = Settings(
        device=resolve_device(arguments.device).type,
        num_threads=arguments.threads,
        keep_memory=arguments.keep_memory,
        opts=tuple(getattr(arguments, "opts", ())),
    )
    settings.apply()
    return settings
