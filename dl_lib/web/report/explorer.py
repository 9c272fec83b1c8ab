"""Images of the report to explore: cost and score of each image as a scatter plot, and its route in each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from dl_lib.evaluation.report.csv_files import ImageRow
from dl_lib.utils.escaping import csv_text
from dl_lib.web.pages.embedding import data_uri
from dl_lib.web.report.routing import route_values, routed_images
from dl_lib.web.report.run_data import DatasetResult
from dl_lib.web.report.values import image_text

__all__ = ["MOST_IMAGES", "explorer"]

MOST_IMAGES = 1000  # on the page; evenly spaced ones of a larger dataset
_WIDTH, _HEIGHT = 640, 360  # of the plot area, in units of the view box like all lengths
_LEFT, _BOTTOM, _MARGIN = 64, 48, 12  # for tick labels and axis labels, and around the plot area
_TICKS = 5


def explorer(results: Mapping[str, DatasetResult]) -> dict[str, Any] | None:
    """Return the scatter plot, and the images with their gate values in each run, as JSON values.

    Args:
        results: Evaluation on one dataset by run.
    """
    rows = {run: {row.image_id: row for row in result.images} for run, result in results.items()}
    names = list(dict.fromkeys(name for run, result in results.items() for name in rows[run] or routed_images(result)))
    thumbnails = _thumbnails(results)
    shown = [name for name in names if name in thumbnails] or names  # of many images, some have a thumbnail
    image_ids = _evenly_spaced(shown)
    if not image_ids:
        return None
    points = [
        {
            "run": number,
            "image": index,
            "cost": row.real_gflops,
            "score": row.mean_iou,
            "text": f"{name}: {image_text(row)} ({run})",
        }
        for number, (run, by_id) in enumerate(rows.items())
        for index, name in enumerate(image_ids)
        if (row := by_id.get(name)) is not None and row.mean_iou is not None
    ]
    return {
        "plot": _plot(points, runs=[*results]) if points else None,
        "num_images": len(names),
        "data": {
            "images": image_ids,
            "thumbnails": [
                data_uri(thumbnails[name], media_type="image/jpeg") if name in thumbnails else None
                for name in image_ids
            ],
            "runs": [
                {
                    "name": run,
                    "texts": [_text_in_run(name, rows[run]) for name in image_ids],
                    **route_values(result, image_ids),
                }
                for run, result in results.items()
            ],
        },
    }


def _text_in_run(name: str, by_id: Mapping[str, ImageRow]) -> str:
    if name in by_id:
        return image_text(by_id[name])
    return "not evaluated" if by_id else "score and cost not available"


def _thumbnails(results: Mapping[str, DatasetResult]) -> dict[str, bytes]:
    """Return the JPEG of each image that has one, of the first run that has it."""
    found: dict[str, bytes] = {}
    for result in results.values():
        if result.data is not None:
            found = {csv_text(name): jpeg for name, jpeg in result.data.thumbnails.items()} | found
    return found


def _evenly_spaced(names: Sequence[str]) -> list[str]:
    count = min(len(names), MOST_IMAGES)
    return [names[index * len(names) // count] for index in range(count)]


def _plot(points: Sequence[dict[str, Any]], *, runs: Sequence[str]) -> dict[str, Any]:
    costs, scores = _Axis([p["cost"] for p in points]), _Axis([p["score"] for p in points])

    def x(cost: float) -> float:
        return round(_LEFT + costs.position(cost) * _WIDTH, 1)

    def y(score: float) -> float:
        return round(_MARGIN + (1 - scores.position(score)) * _HEIGHT, 1)

    return {
        "width": _LEFT + _WIDTH + _MARGIN,
        "height": _MARGIN + _HEIGHT + _BOTTOM,
        "left": _LEFT,
        "right": _LEFT + _WIDTH,
        "top": _MARGIN,
        "bottom": _MARGIN + _HEIGHT,
        "x_ticks": [(x(value), f"{value:g}") for value in costs.ticks],
        "y_ticks": [(y(value), f"{100 * value:g}") for value in scores.ticks],
        "runs": [(number, runs[number]) for number in sorted({point["run"] for point in points})],
        "points": [{**point, "x": x(point["cost"]), "y": y(point["score"])} for point in points],
    }


class _Axis:
    """Linear axis over values, with round ticks inside its range."""

    def __init__(self, values: Sequence[float]) -> None:
        low, high = min(values), max(values)
        margin = 0.04 * (high - low) or abs(high) / 2 or 1.0
        self._low, self._high = low - margin, high + margin
        ticks = MaxNLocator(_TICKS).tick_values(self._low, self._high)
        self.ticks = [round(float(tick), 12) for tick in ticks if self._low <= tick <= self._high]

    def position(self, value: float) -> float:
        """Return the position of a value between the ends of the axis, in [0, 1]."""
        return (value - self._low) / (self._high - self._low)
