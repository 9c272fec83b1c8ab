"""Some images of an evaluation with their predictions, costs and routes: choice and figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dl_lib.evaluation.report.formatting import format_gflops, gflops_decimals
from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.evaluation.scores.routes import example_images
from dl_lib.modeling.dynamic.lattice import Lattice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ShownImage", "draw_shown_images", "shown_positions"]

_LONGEST_ID = 32  # characters


@dataclass(frozen=True, eq=False)
class ShownImage:
    """Image of an evaluation for the figure of routes, reduced to the size of the figure.

    Attributes:
        position: Position in `EvaluationResult.images`.
        image: RGB image, uint8 (H, W, 3).
        prediction: The image with the predicted classes drawn over it, uint8 (H, W, 3).
        colors: RGB colors in 0..255 of the predicted classes by name, in the order of the classes.
        real_all_open_madds: Real cost with all gates open, in multiply-adds.
    """

    position: int
    image: npt.NDArray[np.uint8]
    prediction: npt.NDArray[np.uint8]
    colors: Mapping[str, tuple[int, int, int]]
    real_all_open_madds: float


def shown_positions(result: EvaluationResult) -> tuple[int, ...]:
    """Return the positions of the images to show, from the cheapest to the most expensive one; none without gates.

    The cost is that per pixel, because larger images cost more.
    """
    if result.routes is None:
        return ()
    return example_images([image.real_madds_per_pixel for image in result.images], routes=result.routes.numbers)


def draw_shown_images(result: EvaluationResult, shown: Sequence[ShownImage], *, lattice: Lattice, title: str) -> Figure:
    """Draw at least one image with its prediction and its route."""
    from dl_lib.visualization.figure import shorten
    from dl_lib.visualization.image_routes import draw_image_routes

    assert result.gates is not None, "only images with gates are shown"
    is_open = [(result.gates[image.position] > 0).tolist() for image in shown]
    names = [shorten(result.images[image.position].image_id, _LONGEST_ID) for image in shown]
    costs = [result.images[image.position].costs.real for image in shown]
    decimals = gflops_decimals(result)
    colors = {name: color for image in shown for name, color in image.colors.items()}
    return draw_image_routes(
        lattice,
        images=[image.image for image in shown],
        predictions=[image.prediction for image in shown],
        is_open=is_open,
        captions=[_rank(result, image.position) + name for image, name in zip(shown, names, strict=True)],
        route_captions=[
            f"real cost: {format_gflops(cost, decimals)} GFLOPs\n"
            f"{100 * cost / image.real_all_open_madds:.0f} % of full cost, {sum(edges)} of {len(edges)} edges"
            for image, cost, edges in zip(shown, costs, is_open, strict=True)
        ],
        legend={name: colors[name] for name in result.class_names if name in colors},
        title=title,
    )


def _rank(result: EvaluationResult, position: int) -> str:
    """Return a prefix that compares the cost of an image with that of the others; empty if all are equal."""
    costs = sorted(image.real_madds_per_pixel for image in result.images)
    cost, count = result.images[position].real_madds_per_pixel, len(costs)
    if costs[0] == costs[-1]:
        return ""
    cheapest, *_, most_expensive = shown_positions(result)
    if position in (cheapest, most_expensive):
        return "cheapest: " if position == cheapest else "most expensive: "
    if cost in (costs[(count - 1) // 2], costs[count // 2]):
        return "median cost: "
    return f"cost rank {costs.index(cost) + 1} of {count}: "
