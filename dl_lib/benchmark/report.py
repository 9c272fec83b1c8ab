"""Benchmark results as Markdown for people and as plain values for machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from dl_lib.benchmark.cases import EvaluationCase, TrainingCase
from dl_lib.benchmark.measure import MATMUL_SIDE, WARM_UP_ROUNDS, Measurement, Results, Timing

__all__ = ["format_markdown", "markdown_table", "results_as_dict"]

_UNITS = {
    "seconds": "of one call; quartiles, median and minimum of the timed rounds",
    "executed_gflops": "1e9 multiply-adds that ran, for one image, forward (norms and ReLUs included)",
    "gmadds_per_second": "executed_gflops / median",
    "share_of_matmul": "gmadds_per_second / that of the float32 matrix product measured in between",
    "peak_mib": "2**20 bytes; of a fresh process that runs the case twice; CPU: its largest resident set (VmHWM), with "
    "interpreter and libraries; GPU: the largest sum of torch's tensors there",
    "idle_mib": "the same before the network was built",
}
_MISSING = ""


def results_as_dict(results: Results, *, machine: Mapping[str, str], opts: Sequence[str]) -> dict[str, Any]:
    """What benchmark.json holds.

    Args:
        results: what was measured.
        machine: what it was measured on.
        opts: overrides of the default configuration.
    """
    matmul = results.matmul
    return {
        "machine": dict(machine),
        "overrides": list(opts),
        "warm_up_rounds": WARM_UP_ROUNDS,
        "units": _UNITS,
        "matmul": {
            "side": MATMUL_SIDE,
            "seconds": _seconds(matmul),
            "gmadds_per_second": matmul.gmadds_per_second,
        },
        "cases": {m.case.name: _case(m, matmul=matmul) for m in results.measurements},
    }


def _case(measurement: Measurement, *, matmul: Timing) -> dict[str, Any]:
    timing = measurement.timing
    values: dict[str, Any] = {
        **dataclasses.asdict(measurement.case),
        "seconds": _seconds(timing),
        "executed_gflops": timing.gflops,
        "peak_mib": measurement.memory.peak_mib,
        "idle_mib": measurement.memory.idle_mib,
    }
    if isinstance(measurement.case, EvaluationCase):  # a training step does more than the forward pass that is counted
        values["gmadds_per_second"] = timing.gmadds_per_second
        values["share_of_matmul"] = timing.gmadds_per_second / matmul.gmadds_per_second
    return values


def _seconds(timing: Timing) -> dict[str, Any]:
    return {
        "median": timing.median_seconds,
        "min": min(timing.seconds),
        "lower_quartile": timing.quantile(0.25),
        "upper_quartile": timing.quantile(0.75),
        "all": list(timing.seconds),
    }


def format_markdown(results: Results, *, machine: Mapping[str, str], opts: Sequence[str]) -> str:
    """What is printed, and benchmark.md holds; for the arguments see `results_as_dict`."""
    matmul = results.matmul
    head = [f"- {name}: {value}" for name, value in machine.items()]
    head.append(
        f"- {MATMUL_SIDE}x{MATMUL_SIDE} float32 matrix product: {matmul.median_seconds:.4f} s, "
        f"{matmul.gmadds_per_second:.1f} GMAC/s"
    )
    head.append(f"- network: default configuration{''.join(f' {word}' for word in opts)}")
    parts = ["# Benchmark", "\n".join(head), _explanation(results, machine=machine)]
    evaluation = [m for m in results.measurements if isinstance(m.case, EvaluationCase)]
    if evaluation:
        parts += ["## Evaluation, one image", _evaluation_table(evaluation, matmul=matmul)]
    training = [m for m in results.measurements if isinstance(m.case, TrainingCase)]
    if training:
        parts += [f"## Training step, {training[0].case.group.partition('/')[2]}", _training_table(training)]
    return "\n\n".join(parts) + "\n"


def _explanation(results: Results, *, machine: Mapping[str, str]) -> str:
    rounds = len(results.measurements[0].timing.seconds)
    idle_mib = max(m.memory.idle_mib for m in results.measurements)
    peak = (
        f"largest resident set of a fresh process that runs the case twice; {idle_mib:.0f} of them are interpreter and "
        "libraries"
        if machine["device"] == "cpu"
        else "largest sum of torch's tensors on the device in a fresh process that runs the case twice"
    )
    return (
        f"Times are medians of {rounds} rounds in which the cases of one size take turns. GFLOPs are 1e9 multiply-adds "
        "that ran, per image, forward, norms and ReLUs included; share: of the matrix product's GMAC/s. "
        f"Peak MiB: {peak}. Half: every other cell closed; closed cells still evaluate their gates. "
        "Ratios are those of sparse to dense execution, of the median times and of the GFLOPs."
    )


def _evaluation_table(measurements: Sequence[Measurement], *, matmul: Timing) -> str:
    dense = {_but_execution(m): m.timing for m in measurements if _evaluated(m).execution == "dense"}
    rows = []
    for m in measurements:
        case, timing, reference = _evaluated(m), m.timing, dense.get(_but_execution(m))
        ratios = [_MISSING] * 2
        if case.execution == "sparse" and reference is not None:
            ratios[0] = f"{timing.median_seconds / reference.median_seconds:.3f}"
            ratios[1] = f"{timing.gflops / reference.gflops:.3f}"
        share = timing.gmadds_per_second / matmul.gmadds_per_second
        names = ["{}x{}".format(*case.size), case.gates, case.variant, case.execution]
        rate = [f"{timing.gflops:.3f}", f"{timing.gmadds_per_second:.1f}", f"{share:.3f}"]
        rows.append([*names, f"{timing.median_seconds:.4f}", *ratios, *rate, f"{m.memory.peak_mib:.0f}"])
    names = ["size", "gates", "variant", "execution"]
    values = ["seconds", "time ratio", "cost ratio", "GFLOPs", "GMAC/s", "share", "peak MiB"]
    return markdown_table(rows, headers=names + values, num_names=len(names))


def _training_table(measurements: Sequence[Measurement]) -> str:
    rows = []
    for m in measurements:
        figures = [f"{m.timing.median_seconds:.4f}", f"{m.timing.gflops:.3f}", f"{m.memory.peak_mib:.0f}"]
        rows.append([*m.case.name.split("/")[2:], *figures])
    return markdown_table(rows, headers=["gate", "variant", "seconds", "GFLOPs", "peak MiB"], num_names=2)


def _evaluated(measurement: Measurement) -> EvaluationCase:
    assert isinstance(measurement.case, EvaluationCase)
    return measurement.case


def _but_execution(measurement: Measurement) -> EvaluationCase:
    """What a case has in common with the other execution of the same."""
    return dataclasses.replace(_evaluated(measurement), execution="dense")


def markdown_table(rows: Sequence[Sequence[str]], *, headers: Sequence[str], num_names: int) -> str:
    """A table whose first `num_names` columns hold names, and the others figures."""
    align = ["left"] * num_names + ["right"] * (len(headers) - num_names)
    return tabulate(rows, headers=headers, tablefmt="github", colalign=align, disable_numparse=True)
