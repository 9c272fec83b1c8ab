"""Label overlays, and grids of images with a class legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torchvision.utils import draw_segmentation_masks

from dl_lib.data.catalog import DatasetMeta
from dl_lib.visualization.figure import (
    CAPTION_SIZE,
    LABEL_SIZE,
    add_axes,
    figure_function,
    fit_text,
    new_figure,
    shorten,
    text_width,
)

__all__ = ["class_legend", "draw_image_grid", "overlay_labels"]

Color = tuple[int, int, int]

_ALPHA = 0.55
_IGNORED_COLOR = (0, 0, 0)  # darkens ignored pixels
_DPI = 100
_MARGIN, _GAP, _LINE = 0.1, 0.08, 0.2
_LONGEST_NAME = 36  # characters
_SWATCH = 0.6  # width of a legend entry without its text


def overlay_labels(
    image: npt.NDArray[np.uint8], label: npt.NDArray[np.integer], *, meta: DatasetMeta
) -> npt.NDArray[np.uint8]:
    """Return an image with each pixel tinted in the colour of its class; ignored pixels are darkened.

    Args:
        image: RGB image (H, W, 3).
        label: Class indices (H, W). Values that are neither a class nor the ignore value leave the image unchanged.
        meta: Classes, their colours and the ignore value.
    """
    colors = {**dict(enumerate(meta.class_colors)), meta.ignore_value: _IGNORED_COLOR}
    values = [value for value in np.unique(label).tolist() if value in colors]
    if not values:
        return image.copy()
    masks = torch.from_numpy(np.stack([label == value for value in values]))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    tinted = draw_segmentation_masks(pixels, masks, alpha=_ALPHA, colors=[colors[value] for value in values])
    return np.asarray(tinted.permute(1, 2, 0).numpy())


def class_legend(meta: DatasetMeta) -> dict[str, Color]:
    """Return the legend of overlays: colours by class name, and that of ignored pixels."""
    return {**dict(zip(meta.class_names, meta.class_colors, strict=True)), "ignored": (60, 60, 60)}


@figure_function
def draw_image_grid(
    rows: Sequence[Sequence[npt.NDArray[np.uint8]]],
    *,
    column_titles: Sequence[str],
    row_titles: Sequence[str],
    cell_width: int,
    legend: Mapping[str, Color] | None = None,
) -> Figure:
    """Draw images in rows and columns of equal width, with a legend of colours below.

    Args:
        rows: RGB images (H, W, 3); each row has one per column.
        column_titles: Title of each column.
        row_titles: Title of each row.
        cell_width: Width of every image in pixels.
        legend: RGB colours in 0..255 by what they stand for.
    """
    cell = cell_width / _DPI
    width = len(column_titles) * (cell + _GAP) - _GAP + 2 * _MARGIN
    headers = [fit_text(title, width=cell, size=LABEL_SIZE) for title in column_titles]
    captions = [fit_text(title, width=width - 2 * _MARGIN, size=LABEL_SIZE) for title in row_titles]
    heights = [max(cell * image.shape[0] / image.shape[1] for image in images) for images in rows]
    entries = {shorten(name, _LONGEST_NAME): color for name, color in (legend or {}).items()}
    legend_columns = _legend_columns(list(entries), width=width - 2 * _MARGIN)
    top = _MARGIN + _lines(max(headers, key=_lines)) * _LINE
    total = sum(heights) + sum(_lines(caption) * _LINE + _GAP for caption in captions)
    legend_height = -(-len(entries) // legend_columns) * _LINE + 2 * _MARGIN if entries else _MARGIN
    figure = new_figure(width, top + total + legend_height, dpi=_DPI)
    figure_height = figure.get_figheight()
    for column, header in enumerate(headers):
        x = (_MARGIN + column * (cell + _GAP)) / width
        figure.text(x, 1 - _MARGIN / figure_height, header, va="top", fontsize=LABEL_SIZE)
    for images, caption, height in zip(rows, captions, heights, strict=True):
        figure.text(_MARGIN / width, 1 - top / figure_height, caption, va="top", fontsize=LABEL_SIZE)
        top += _lines(caption) * _LINE
        for column, image in enumerate(images):
            image_height = cell * image.shape[0] / image.shape[1]
            left = _MARGIN + column * (cell + _GAP)
            axes = add_axes(figure, left=left, top=top, width=cell, height=image_height)
            axes.imshow(image, aspect="auto")
            axes.set_axis_off()
        top += height + _GAP
    if entries:
        figure.legend(
            [Patch(color=(red / 255, green / 255, blue / 255)) for red, green, blue in entries.values()],
            list(entries),
            loc="upper left",
            bbox_to_anchor=(_MARGIN / width, 1 - (top + _MARGIN) / figure_height),
            borderpad=0,
            borderaxespad=0,
            labelspacing=72 * _LINE / CAPTION_SIZE - 1,
            ncols=legend_columns,
            fontsize=CAPTION_SIZE,
        )
    return figure


def _lines(text: str) -> int:
    return text.count("\n") + 1


def _legend_columns(names: Sequence[str], *, width: float) -> int:
    widest = max((text_width(name, size=CAPTION_SIZE) for name in names), default=0.0)
    return max(1, min(len(names), int(width / (widest + _SWATCH))))
