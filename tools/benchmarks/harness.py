"""Benchmark harness: interleaved timing, peak memory in a separate process, and the options that all scripts share.

To add a benchmark, subclass `Case`, pass the cases to `time_cases` (and `measure_memory`), and put the figures into a
`report.Report`. Measurements that are no plain duration go through `interleave` directly.
"""

from __future__ import annotations

import argparse
import fnmatch
import multiprocessing
import os
import platform
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
from torch.utils.benchmark import timer  # synchronizes the GPU before it reads the clock

from dl_lib.cli.arg_types import comma_separated, positive_int
from dl_lib.launch import exit_with_parent
from dl_lib.modeling.build import resolve_device
from dl_lib.utils.names import nearest_names
from dl_lib.utils.progress import progress_bar

WARMUP_ROUNDS = 2
KIB_PER_MIB, BYTES_PER_MIB = 2**10, 2**20

# glibc maps blocks over 32 MB anew at each allocation, and every page of them faults: a good part of the time at
# 1024x2048. With these limits it serves them from a heap that does not shrink.
TUNED_ALLOCATOR: Mapping[str, str] = {
    "MALLOC_MMAP_THRESHOLD_": str(8 * 2**30),
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}

Name = TypeVar("Name", bound=Hashable)
T = TypeVar("T")
Run = Callable[[], float]


@dataclass(frozen=True)
class Settings:
    """Settings that all cases of a run share.

    Attributes:
        device: `cpu` or `cuda`.
        num_threads: CPU threads of torch; None for torch's default.
        opts: Overrides of the default configuration.
    """

    device: str
    num_threads: int | None = None
    opts: tuple[str, ...] = ()

    def apply(self) -> None:
        """Set the number of threads in this process."""
        if self.num_threads is not None:
            torch.set_num_threads(self.num_threads)


class Case(ABC):
    """One line of a report; subclasses are frozen dataclasses, so that they can be sent to another process."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Unique name, with slashes from the general to the special."""

    @property
    @abstractmethod
    def group(self) -> str:
        """Name of the group whose cases are interleaved; the cases of a group are adjacent."""

    @abstractmethod
    def prepare(self, settings: Settings) -> Run:
        """Build model and input; the returned function is timed and returns the GFLOPs of one image's forward pass."""


@dataclass(frozen=True)
class Timing:
    """Seconds of each timed call, and 1e9 multiply-adds of one image's forward pass."""

    seconds: tuple[float, ...]
    gflops: float

    @property
    def median_seconds(self) -> float:
        return median(self.seconds)

    @property
    def gmadds_per_second(self) -> float:
        """1e9 multiply-adds per second, at the median."""
        return self.gflops / self.median_seconds


@dataclass(frozen=True)
class Memory:
    """Peak memory of a process, and its peak before the model was built, in MiB.

    On a CPU the resident set of the process (interpreter and libraries included), on a GPU the allocated tensors.
    """

    peak_mib: float
    idle_mib: float


def interleave(
    measures: Mapping[Name, Callable[[], T]], *, rounds: int, warmup: int = WARMUP_ROUNDS
) -> dict[Name, tuple[T, ...]]:
    """Call each function once per round, so that a disturbance of the machine affects all of them.

    `Timer.timeit` of `torch.utils.benchmark` does not interleave, and repeats its warm-up for every measurement: three
    calls for each timed one, where a call can take seconds.

    Args:
        measures: Functions that return one measurement each.
        rounds: Rounds to keep.
        warmup: Rounds before those, whose measurements are discarded.

    Returns:
        The measurements of each function, in the order of the rounds.
    """
    results: dict[Name, list[T]] = {name: [] for name in measures}
    with progress_bar((warmup + rounds) * len(measures), description="benchmark", unit="call") as bar:
        for _ in range(warmup + rounds):
            for name, measure in measures.items():
                results[name].append(measure())
                bar.update()
    return {name: tuple(values[warmup:]) for name, values in results.items()}


def timed(run: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds of a call, up to the end of its work on a GPU, and its result."""
    start = timer()
    result = run()
    return timer() - start, result


def time_cases(cases: Sequence[Case], settings: Settings, *, rounds: int) -> dict[str, Timing]:
    """Time cases by name; those of a group are interleaved, one group after the other.

    Args:
        cases: Cases, those of a group adjacent.
        settings: Settings of all cases.
        rounds: Timed rounds, after `WARMUP_ROUNDS`.
    """
    timings = {}
    for _, group in groupby(cases, key=lambda case: case.group):
        runs = {case.name: case.prepare(settings) for case in group}
        measures = {name: lambda run=run: timed(run) for name, run in runs.items()}
        for name, calls in interleave(measures, rounds=rounds).items():
            timings[name] = Timing(tuple(seconds for seconds, _ in calls), gflops=calls[-1][1])
    return timings


def measure_memory(case: Case, settings: Settings) -> Memory:
    """Return the memory of a case that runs twice in a fresh process.

    The second call of a training step includes the momentum that the first one allocates.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=exit_with_parent) as pool:
        return pool.submit(_own_memory, case, settings).result()


def _own_memory(case: Case, settings: Settings) -> Memory:
    settings.apply()
    idle_mib = _peak_mib(settings)
    run = case.prepare(settings)
    for _ in range(2):
        run()
    return Memory(_peak_mib(settings), idle_mib)


def _peak_mib(settings: Settings) -> float:
    if settings.device != "cpu":
        return torch.cuda.max_memory_allocated() / BYTES_PER_MIB
    # getrusage's ru_maxrss starts at the peak of the parent process; VmHWM does not.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / KIB_PER_MIB


def benchmark_parser(
    script: str, *, description: str, repeats: int, epilog: str | None = None, add_help: bool = True
) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share.

    Args:
        script: File name of the script.
        description: What it measures.
        repeats: Default number of timed rounds.
        epilog: Text below the options.
        add_help: Whether it has `--help`; False for the parent of a subcommand.
    """
    parser = argparse.ArgumentParser(
        prog=script, description=description, epilog=epilog, allow_abbrev=False, add_help=add_help
    )
    add = parser.add_argument
    add("--output", type=Path, default=Path("output", "benchmarks"), metavar="DIR", help="(default: %(default)s)")
    add("--document", type=Path, metavar="FILE", help="also write the Markdown there, without tables of all cases")
    add("--repeats", type=positive_int, default=repeats, metavar="N", help="timed rounds (default: %(default)s)")
    add("--threads", type=positive_int, metavar="N", help="CPU threads (default: torch's)")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="(default: auto, a GPU if there is one)")
    add(
        "--allocator",
        choices=["as-is", "tuned"],
        default="as-is",
        help="tuned: restart with settings that make glibc reuse large blocks (default: as-is)",
    )
    return parser


def start(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Settings:
    """Apply the shared options, restarting the process for another allocator, and return the settings."""
    if arguments.allocator == "tuned":
        _restart_with_tuned_allocator(parser)
    opts = tuple(getattr(arguments, "opts", ()))
    settings = Settings(resolve_device(arguments.device).type, num_threads=arguments.threads, opts=opts)
    settings.apply()
    return settings


def _restart_with_tuned_allocator(parser: argparse.ArgumentParser) -> None:
    """Replace this process by the same command with other environment variables, which glibc reads at its start."""
    if platform.libc_ver()[0] != "glibc":
        parser.error("--allocator tuned sets options of glibc, which this Python does not use. Received: tuned")
    if any(os.environ.get(name) != value for name, value in TUNED_ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **TUNED_ALLOCATOR})


def add_case_option(parser: argparse.ArgumentParser) -> None:
    """Add `--cases PATTERNS`, for `choose`."""
    help_ = "comma-separated patterns of case names (default: all)"
    parser.add_argument("--cases", type=comma_separated, default=["*"], metavar="PATTERNS", help=help_)


def choose(cases: Sequence[Case], patterns: Sequence[str], *, parser: argparse.ArgumentParser) -> list[Case]:
    """Return the cases whose names match a pattern; exit with a message if a pattern matches none."""
    names = [case.name for case in cases]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            parser.error(f"--cases must match case names; {nearest_names(pattern, names)}. Received: {pattern}")
    return [case for case in cases if any(fnmatch.fnmatchcase(case.name, pattern) for pattern in patterns)]
