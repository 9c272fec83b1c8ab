"""Table, values and figure of a sweep of gate thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dl_lib.evaluation.report.formatting import format_gflops, format_table, gflops_decimals, write_measurements
from dl_lib.evaluation.report.tables import COST_LABELS
from dl_lib.evaluation.scores.threshold_sweep import SweepPoint, ThresholdSweep, pareto_optimal
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP
from dl_lib.utils.escaping import TABLE_ESCAPES, markdown_text
from dl_lib.utils.run_files import SWEEP_STEM

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["format_sweep", "sweep_as_dict", "write_sweep"]

_UNITS = {
    "threshold": "learned gates at or below it are closed, in [0, 1)",
    "mIoU": "ratio in [0, 1]",
    "costs_gflops": "GFLOPs (1e9 multiply-adds) per image, averaged over the dataset",
    "seconds_per_image": "model only; median over the images, in each of two evaluations",
    "latency_noise": "median over the thresholds of the relative difference between the two evaluations",
    "pareto_optimal": "no other threshold has at most this cost and at least this mIoU, one of them better; latency is "
    "the lower of seconds_per_image",
}
_COST_LABELS = {"GFLOPs": "real GFLOPs per image", "latency": "latency (ms per image)"}
_COLUMNS = ("threshold", "mIoU (%)", "real GFLOPs", "latency (ms)", "both evaluations (ms)", "Pareto-optimal")


def format_sweep(sweep: ThresholdSweep, *, style: str) -> str:
    """Format the table of a sweep with its legend, in a style of tabulate."""
    result = sweep.points[0].result
    fronts = _fronts(sweep)
    rows = [
        [
            f"{point.threshold:g}" + (" (default)" if point.threshold == sweep.default_threshold else ""),
            f"{100 * _score(point):.2f}",
            format_gflops(point.result.costs.average.real, gflops_decimals(result)),
            f"{1e3 * point.latency:.2f}",
            ", ".join(f"{1e3 * seconds:.2f}" for seconds in point.seconds),
            ", ".join(name for name, front in fronts.items() if front[row]) or "-",
        ]
        for row, point in enumerate(sweep.points)
    ]
    legend = (
        f"{TABLE_ESCAPES[style](result.dataset_name)}, {result.num_images} images. Learned gates at or below the "
        "threshold are closed. Real GFLOPs: as counted in the paper, per image. Latency: model only, median over the "
        "images, the faster of two evaluations, which differ by "
        f"{100 * sweep.latency_noise:.1f} % (median over the thresholds); smaller differences between thresholds may "
        "be noise. Pareto-optimal: no other threshold has a lower cost without a lower mIoU."
    )
    return f"{format_table(rows, headers=_COLUMNS, style=style)}\n\n{legend}"


def sweep_as_dict(sweep: ThresholdSweep, *, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of threshold_sweep.json, as plain values.

    Args:
        sweep: Results.
        environment: Device and versions that the latency was measured with.
    """
    result, fronts = sweep.points[0].result, _fronts(sweep)
    return {
        "units": _UNITS,
        "dataset": result.dataset_name,
        "images": result.num_images,
        "environment": dict(environment),
        "default_threshold": sweep.default_threshold,
        "latency_noise": sweep.latency_noise,
        "points": [
            {
                "threshold": point.threshold,
                "mIoU": _score(point),
                "costs_gflops": {
                    kind: getattr(point.result.costs.average, kind) / MADDS_PER_GFLOP for kind in COST_LABELS
                },
                "seconds_per_image": list(point.seconds),
                "pareto_optimal": {name: front[row] for name, front in fronts.items()},
            }
            for row, point in enumerate(sweep.points)
        ],
    }


def write_sweep(sweep: ThresholdSweep, folder: Path, *, environment: Mapping[str, str]) -> None:
    """Write threshold_sweep.json, threshold_sweep.md and the figure threshold_sweep.png; see `sweep_as_dict`."""
    from dl_lib.visualization.figure import save_figure

    figure_name = f"{SWEEP_STEM}.png"
    save_figure(_draw(sweep), folder / figure_name)
    title = markdown_text(sweep.points[0].result.dataset_name)
    write_measurements(
        folder / SWEEP_STEM,
        title=f"Gate thresholds on {title}",
        table=format_sweep(sweep, style="github"),
        values=sweep_as_dict(sweep, environment=environment),
        environment=environment,
        figure=f"![mIoU over cost on {title}]({quote(figure_name)})",
    )


def _draw(sweep: ThresholdSweep) -> Figure:
    from dl_lib.visualization.pareto import ParetoPoint, draw_pareto

    fronts = _fronts(sweep)
    return draw_pareto(
        {
            _COST_LABELS[name]: [
                ParetoPoint(f"{point.threshold:g}", cost=cost, score=100 * _score(point), is_optimal=optimal)
                for point, cost, optimal in zip(sweep.points, costs, fronts[name], strict=True)
            ]
            for name, costs in _costs(sweep).items()
        },
        score="mIoU (%)",
        title=f"Gate thresholds on {sweep.points[0].result.dataset_name} (trained with {sweep.default_threshold:g})",
    )


def _costs(sweep: ThresholdSweep) -> dict[str, list[float]]:
    """Return the costs of the points in the units of `_COST_LABELS`."""
    return {
        "GFLOPs": [point.result.costs.average.real / MADDS_PER_GFLOP for point in sweep.points],
        "latency": [1e3 * point.latency for point in sweep.points],
    }


def _fronts(sweep: ThresholdSweep) -> dict[str, list[bool]]:
    """Return which points are Pareto-optimal, by the name of the cost."""
    scores = [_score(point) for point in sweep.points]
    return {name: pareto_optimal(costs, scores=scores) for name, costs in _costs(sweep).items()}


def _score(point: SweepPoint) -> float:
    assert point.result.metrics is not None, "the dataset has ground truth"
    return point.result.metrics.mean_iou
