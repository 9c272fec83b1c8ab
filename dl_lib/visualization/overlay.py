"""Label overlays, and grids of images with a class legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dl_lib.data.catalog import Color, DatasetMeta
from dl_lib.visualization.figure import (
    CAPTION_SIZE,
    LABEL_SIZE,
    add_axes,
    add_text,
    figure_function,
    fit_text,
    new_figure,
    shorten,
    text_width,
)

__all__ = [
    "add_class_legend",
    "add_image",
    "class_legend",
    "class_legend_height",
    "draw_image_grid",
    "overlay_labels",
]

_ALPHA = 0.55
_IGNORED_COLOR = (0, 0, 0)  # darkens ignored pixels
_IGNORED_LEGEND_COLOR = (60, 60, 60)
_DPI = 100
_MARGIN, _GAP, _LINE_HEIGHT = 10, 8, 20  # pixels
_INSET = 1e-4  # pixels; rounding errors must not enlarge an image by a pixel
_SWATCH_WIDTH = 60  # pixels of a legend entry around its text
_LONGEST_NAME = 36  # characters
_LEAST_WIDTH = 360


def overlay_labels(
    image: npt.NDArray[np.uint8], label: npt.NDArray[np.integer], *, meta: DatasetMeta
) -> npt.NDArray[np.uint8]:
    """Return an image with each pixel tinted in the color of its class; ignored pixels are darkened.

    Args:
        image: RGB image (H, W, 3).
        label: Class indices (H, W). Values that are neither a class nor the ignore value leave the image unchanged.
        meta: Classes, their colors and the ignore value.
    """
    num_classes = len(meta.class_colors)
    other = num_classes  # index in the table of colors, followed by that of ignored pixels
    index_HW = np.where((label >= 0) & (label < num_classes), label, other)
    index_HW[label == meta.ignore_value] = other + 1
    colors = np.array([*meta.class_colors, _IGNORED_COLOR, _IGNORED_COLOR], np.uint8)
    tinted = cv2.addWeighted(np.ascontiguousarray(image), 1 - _ALPHA, colors.take(index_HW, axis=0), _ALPHA, 0)
    is_other_HW = index_HW == other
    tinted[is_other_HW] = image[is_other_HW]
    return np.asarray(tinted)


def class_legend(meta: DatasetMeta) -> dict[str, Color]:
    """Return the legend of overlays: the color of each class name and of ignored pixels."""
    return {**dict(zip(meta.class_names, meta.class_colors, strict=True)), "ignored": _IGNORED_LEGEND_COLOR}


@figure_function
def draw_image_grid(
    rows: Sequence[Sequence[npt.NDArray[np.uint8]]],
    *,
    column_titles: Sequence[str],
    row_titles: Sequence[str],
    cell_width: int,
    legend: Mapping[str, Color],
) -> Figure:
    """Draw images in rows and columns, with a legend of colors below.

    Args:
        rows: RGB images (H, W, 3); one per column in each row. They are resized to the cell width.
        column_titles: Title of each column.
        row_titles: Title of each row.
        cell_width: Width of every image in pixels of the figure.
        legend: RGB colors in 0..255 by name.
    """
    width = max(2 * _MARGIN + len(column_titles) * (cell_width + _GAP) - _GAP, _LEAST_WIDTH)
    room = (width - 2 * _MARGIN) / _DPI
    headers = [fit_text(title, width=cell_width / _DPI, size=LABEL_SIZE) for title in column_titles]
    captions = [fit_text(title, width=room, size=LABEL_SIZE) for title in row_titles]
    heights = [[max(1, round(cell_width * image.shape[0] / image.shape[1])) for image in images] for images in rows]
    legend_top = _MARGIN + max(map(_lines_height, headers))
    legend_top += sum(map(_lines_height, captions)) + sum(max(row) + _GAP for row in heights)
    height = legend_top + class_legend_height(legend, width=room) * _DPI + 2 * _MARGIN

    figure = new_figure(width / _DPI, height / _DPI, dpi=_DPI)
    lefts = [_MARGIN + column * (cell_width + _GAP) for column in range(len(column_titles))]
    for left, header in zip(lefts, headers, strict=True):
        add_text(figure, header, left=left / _DPI, top=_MARGIN / _DPI)
    top = _MARGIN + max(map(_lines_height, headers))
    for images, caption, row_heights in zip(rows, captions, heights, strict=True):
        add_text(figure, caption, left=_MARGIN / _DPI, top=top / _DPI)
        top += _lines_height(caption)
        for image, left, image_height in zip(images, lefts, row_heights, strict=True):
            size = {"width": cell_width / _DPI, "height": image_height / _DPI}
            add_image(figure, image, left=left / _DPI, top=top / _DPI, **size)
        top += max(row_heights) + _GAP
    add_class_legend(figure, legend, left=_MARGIN / _DPI, top=(legend_top + _MARGIN) / _DPI, width=room)
    return figure


def add_image(
    figure: Figure, image: npt.NDArray[np.uint8], *, left: float, top: float, width: float, height: float
) -> None:
    """Add an image at a position in inches from the upper left corner of the figure; enlarged pixels stay sharp."""
    inset = _INSET / figure.dpi
    axes = add_axes(figure, left=left + inset, top=top + inset, width=width - 2 * inset, height=height - 2 * inset)
    enlarged = image.shape[1] <= round(width * figure.dpi)
    axes.imshow(image, aspect="auto", interpolation="nearest" if enlarged else "antialiased")
    axes.set_axis_off()


def class_legend_height(legend: Mapping[str, Color], *, width: float) -> float:
    """Return the height of `add_class_legend` in inches."""
    return -(-len(legend) // _legend_columns(legend, width=width)) * _LINE_HEIGHT / _DPI


def add_class_legend(figure: Figure, legend: Mapping[str, Color], *, left: float, top: float, width: float) -> None:
    """Add a legend of colors by name at a position in inches from the upper left corner, at most `width` wide."""
    total_width, total_height = figure.get_size_inches()
    figure.legend(
        [Patch(color=(red / 255, green / 255, blue / 255)) for red, green, blue in legend.values()],
        [shorten(name, _LONGEST_NAME) for name in legend],
        loc="upper left",
        bbox_to_anchor=(left / total_width, 1 - top / total_height),
        borderpad=0,
        borderaxespad=0,
        labelspacing=0.7,  # with the height of a line of text this is a little less than _LINE_HEIGHT
        ncols=_legend_columns(legend, width=width),
        fontsize=CAPTION_SIZE,
    )


def _legend_columns(legend: Mapping[str, Color], *, width: float) -> int:
    widest = max(text_width(shorten(name, _LONGEST_NAME), size=CAPTION_SIZE) for name in legend)
    return max(1, min(len(legend), int(width / (widest + _SWATCH_WIDTH / _DPI))))


def _lines_height(text: str) -> int:
    return (text.count("\n") + 1) * _LINE_HEIGHT
