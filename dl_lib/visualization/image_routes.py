"""Images with their predictions and their own routes through the lattice, one column per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dl_lib.data.catalog import Color
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.visualization.figure import (
    CAPTION_SIZE,
    COLORS,
    FAINT_COLOR,
    LABEL_SIZE,
    RAMP,
    TEXT_COLOR,
    TITLE_SIZE,
    add_text,
    figure_function,
    fit_text,
    new_figure,
    text_height,
)
from dl_lib.visualization.overlay import add_class_legend, add_image, class_legend_height
from dl_lib.visualization.routing import CLOSED_STYLE, draw_lattice

__all__ = ["draw_image_routes"]

_MARGIN, _LEFT, _GAP = 0.12, 0.75, 0.22  # left: ticks of the scales
_COLUMN_WIDTH, _IMAGE_HEIGHT = 2.5, 1.9  # an image is as large as both allow
_SMALLEST_SIDE = 0.02  # of an image
_WIDEST_STEP, _SCALE_STEP = 0.5, 0.32  # between layers, between scales
_TICKS_HEIGHT, _LEGEND_HEIGHT = 0.42, 0.46  # ticks and label of the layers; two rows of the legend of edges and cells
_LABEL_GAP = 0.05  # between the names of the rows and the first column


@figure_function
def draw_image_routes(
    lattice: Lattice,
    *,
    images: Sequence[npt.NDArray[np.uint8]],
    predictions: Sequence[npt.NDArray[np.uint8]],
    is_open: Sequence[Sequence[bool]],
    captions: Sequence[str],
    route_captions: Sequence[str],
    legend: Mapping[str, Color],
    title: str = "",
) -> Figure:
    """Draw images, predictions and routes below each other.

    Open edges are solid, closed ones dotted. Edges that some but not all of the images open are of another color. Cells
    with an open edge are filled.

    Args:
        lattice: Routing space.
        images: At least one RGB image (H, W, 3).
        predictions: Image with the prediction drawn over it, for each image.
        is_open: Whether each edge is open, in the order of `lattice.edges`, for each image.
        captions: Text above each image; lines are separated by newlines.
        route_captions: Text above each route, likewise.
        legend: RGB colors in 0..255 of the predicted classes by name.
        title: Title of the figure.
    """
    lefts = [_LEFT + column * (_COLUMN_WIDTH + _GAP) for column in range(len(images))]
    width = lefts[-1] + _COLUMN_WIDTH + _MARGIN
    room = width - 2 * _MARGIN
    header = fit_text(title, width=room, size=TITLE_SIZE)
    sizes = [_fitted_size(image) for image in images]
    texts, route_texts = ([_wrapped(text) for text in column_texts] for column_texts in (captions, route_captions))
    image_height = max(height for _, height in sizes)
    tops = _Tops.below(
        text_height(header, size=TITLE_SIZE),
        max(text_height(text, size=LABEL_SIZE) for text in texts),
        image_height + _GAP / 2,
        image_height + _GAP / 2,
        max(text_height(text, size=LABEL_SIZE) for text in route_texts),
        max(2, *lattice.cells_per_layer) * _SCALE_STEP + _TICKS_HEIGHT,
        _LEGEND_HEIGHT,
    )
    figure = new_figure(width, tops.classes + class_legend_height(legend, width=room) + _MARGIN)
    add_text(figure, header, left=_MARGIN, top=_MARGIN, size=TITLE_SIZE)
    for name, top in (("image", tops.image), ("prediction", tops.prediction)):
        middle = top + image_height / 2
        add_text(figure, name, left=_LEFT - _LABEL_GAP, top=middle, size=CAPTION_SIZE, ha="right", va="center")
    for left, size, image, prediction in zip(lefts, sizes, images, predictions, strict=True):
        add_image(figure, image, left=left, top=tops.image, width=size[0], height=size[1])
        add_image(figure, prediction, left=left, top=tops.prediction, width=size[0], height=size[1])
    for left, text, route_text in zip(lefts, texts, route_texts, strict=True):
        add_text(figure, text, left=left, top=tops.caption)
        add_text(figure, route_text, left=left, top=tops.route_caption)
    _draw_routes(figure, lattice, is_open=np.asarray(is_open, bool), lefts=lefts, top=tops.route)
    _add_route_legend(figure, num_images=len(images), top=tops.legend)
    add_class_legend(figure, legend, left=_MARGIN, top=tops.classes, width=room)
    return figure


class _Tops(NamedTuple):
    """Upper ends of the parts of the figure, in inches."""

    caption: float
    image: float
    prediction: float
    route_caption: float
    route: float
    legend: float
    classes: float

    @classmethod
    def below(cls, *heights: float) -> _Tops:
        """Place each part below the previous ones, given the height of the title and of all parts but the last."""
        return cls(*(_MARGIN + total for total in accumulate(heights)))


def _wrapped(text: str) -> str:
    return "\n".join(fit_text(line, width=_COLUMN_WIDTH, size=LABEL_SIZE) for line in text.split("\n"))


def _draw_routes(
    figure: Figure, lattice: Lattice, *, is_open: npt.NDArray[np.bool_], lefts: Sequence[float], top: float
) -> None:
    step = min(_WIDEST_STEP, _COLUMN_WIDTH / (lattice.num_layers + 2))
    for left, opened in zip(lefts, is_open, strict=True):
        axes = draw_lattice(
            figure,
            lattice,
            left=left,
            top=top,
            steps=(step, _SCALE_STEP),
            gates=opened.astype(float).tolist(),
            is_dependent=(opened & ~is_open.all(axis=0)).tolist(),
            dependent_style={"color": COLORS[1], "capstyle": "round"},
        )
        if left > lefts[0]:
            axes.set_yticks([])


def _fitted_size(image: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Return width and height in inches of an image that fits into a column and a row."""
    height, width = image.shape[:2]
    scale = min(_COLUMN_WIDTH / width, _IMAGE_HEIGHT / height)
    return max(_SMALLEST_SIDE, scale * width), max(_SMALLEST_SIDE, scale * height)


def _add_route_legend(figure: Figure, *, num_images: int, top: float) -> None:
    line = partial(Line2D, [], [], linewidth=3)
    dot = partial(Line2D, [], [], linestyle="none", marker="o", markersize=7, markeredgewidth=0.8)
    edges = {"open edge": line(color=RAMP(1.0))}
    if num_images > 1:
        edges = {"edge open for each of these images": edges["open edge"], "open for some": line(color=COLORS[1])}
    handles = edges | {
        "closed edge": Line2D([], [], **CLOSED_STYLE),
        "open cell": dot(markerfacecolor=RAMP(1.0), markeredgecolor=TEXT_COLOR),
        "closed cell: passes its input on": dot(markerfacecolor="white", markeredgecolor=FAINT_COLOR),
    }
    width, height = figure.get_size_inches()
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="upper left",
        bbox_to_anchor=(_MARGIN / width, 1 - top / height),
        borderpad=0,
        borderaxespad=0,
        ncols=-(-len(handles) // 2),
        columnspacing=1.0,
        fontsize=CAPTION_SIZE,
    )
