"""What a training costs beside its bare steps, as Markdown for people and as plain values for machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dl_lib.benchmark.measure import Timing
from dl_lib.benchmark.report import markdown_table
from dl_lib.benchmark.train_measure import CHUNK, TrainResults

__all__ = ["format_train_markdown", "train_results_as_dict"]


def train_results_as_dict(results: TrainResults, *, machine: Mapping[str, str]) -> dict[str, Any]:
    """What benchmark_train.json holds.

    Args:
        results: what was measured.
        machine: what it was measured on.
    """
    timings = {"loop": results.loop, "memory_orders": results.memory_orders, "processes": results.processes}
    return {
        "machine": dict(machine),
        "images": results.images,
        "step_seconds": {part: {name: list(t.seconds) for name, t in by.items()} for part, by in timings.items()},
        "share_of_a_step_that_waits_for_data": results.data_shares,
        "peak_mib": {name: memory.peak_mib for name, memory in results.memory.items()},
        "idle_mib": {name: memory.idle_mib for name, memory in results.memory.items()},
    }


def format_train_markdown(results: TrainResults, *, machine: Mapping[str, str]) -> str:
    """What is printed, and benchmark_train.md holds; for the arguments see `train_results_as_dict`."""
    head = "\n".join(f"- {name}: {value}" for name, value in machine.items())
    explanation = (
        f"Loop, data and processes: the experiment named, {results.images} images a step; medians, after a warm-up. "
        f"The loop and the bare steps take turns, {CHUNK} steps at a time, on one batch that is there already; the "
        "trainer clips, logs, and writes metrics and TensorBoard. Memory orders and memory: the default network, two "
        "images of 256x256, and one of the size named; peak of a fresh process, of which the idle part is interpreter "
        "and libraries. One process has two threads, two have one each."
    )
    parts = ["# Training", head, explanation, "## The loop", _steps(results.loop, first="bare")]
    shares = [[workers, f"{100 * share:.1f} %"] for workers, share in results.data_shares.items()]
    parts += ["## Waiting for data", markdown_table(shares, headers=["loader processes", "of a step"], num_names=1)]
    parts += ["## Memory order", _steps(results.memory_orders, first="contiguous")]
    memory = [
        [name, f"{m.peak_mib:.0f}", f"{m.idle_mib:.0f}", f"{m.peak_mib - m.idle_mib:.0f}"]
        for name, m in results.memory.items()
    ]
    headers = ["activations", "peak MiB", "idle MiB", "difference"]
    parts += ["## Activations of the lattice", markdown_table(memory, headers=headers, num_names=1)]
    parts += ["## Processes", _steps(results.processes, first="1")]
    return "\n\n".join(parts) + "\n"


def _steps(timings: Mapping[str, Timing], *, first: str) -> str:
    """Seconds of a step, and their ratio to those of one of them."""
    base = timings[first].median_seconds
    rows = [[name, f"{t.median_seconds:.4f}", f"{t.median_seconds / base:.3f}"] for name, t in timings.items()]
    return markdown_table(rows, headers=["", "s per step", f"ratio to {first}"], num_names=1)
