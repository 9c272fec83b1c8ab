"""Many pictures on one sheet: images with their labels over them, and a key to the colours.

All pictures are uint8 (height, width, 3), RGB.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from dl_lib.data.catalog import DatasetMeta

__all__ = ["draw_contact_sheet", "draw_key", "overlay_label"]

_OPACITY = 0.55  # of a class's colour over the image
_GAP_PX = 8
_TEXT_HEIGHT_PX = 22
_KEY_COLUMN_PX = 170
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


def overlay_label(image: np.ndarray, label: np.ndarray, *, meta: DatasetMeta) -> np.ndarray:
    """The image with each pixel tinted in the colour of its class; ignored pixels turn to dark grey.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) integers.
        meta: the classes and their colours.
    """
    tinted = np.array(image)
    for value, color in enumerate(meta.class_colors):
        tinted[label == value] = _mixed(image[label == value], color)
    tinted[label == meta.ignore_value] = _mixed(image[label == meta.ignore_value], (0, 0, 0))
    return tinted


def draw_contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    titles: Sequence[str],
    captions: Sequence[str],
    cell_width: int,
    key: np.ndarray,
) -> np.ndarray:
    """Rows of pictures, each shrunk or enlarged to one width, with a line above each row and each column.

    Args:
        rows: pictures; every row has as many.
        titles: one for each column.
        captions: one for each row.
        cell_width: pixels.
        key: goes below all of it.
    """
    width = max(len(titles) * (cell_width + _GAP_PX) + _GAP_PX, key.shape[1])
    strips = [
        _text_line([(_GAP_PX + i * (cell_width + _GAP_PX), title) for i, title in enumerate(titles)], width=width)
    ]
    for caption, pictures in zip(captions, rows, strict=True):
        strips.append(_text_line([(_GAP_PX, caption)], width=width))
        strips.append(_picture_row([_fit_width(picture, cell_width) for picture in pictures], width=width))
    strips.append(_on_paper(key, height=len(key) + 2 * _GAP_PX, width=width))
    return np.concatenate(strips)


def draw_key(meta: DatasetMeta, *, width: int) -> np.ndarray:
    """The colours of the classes with their names, in as many columns as there is room for."""
    columns = max(1, width // _KEY_COLUMN_PX)
    entries = [*zip(meta.class_names, meta.class_colors, strict=True), ("ignored", (60, 60, 60))]
    key = np.full((-(-len(entries) // columns) * _TEXT_HEIGHT_PX, columns * _KEY_COLUMN_PX, 3), _PAPER, np.uint8)
    for position, (name, color) in enumerate(entries):
        top, left = position // columns * _TEXT_HEIGHT_PX, position % columns * _KEY_COLUMN_PX + _GAP_PX
        cv2.rectangle(key, (left, top + 4), (left + 14, top + 18), color, cv2.FILLED)
        _write(key, name, at=(left + 22, top))
    return key


def _mixed(pixels: np.ndarray, color: Sequence[int]) -> np.ndarray:
    return np.rint((1 - _OPACITY) * pixels + _OPACITY * np.array(color)).astype(np.uint8)


def _fit_width(picture: np.ndarray, width: int) -> np.ndarray:
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    shrinks = width < picture.shape[1]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)


def _picture_row(pictures: Sequence[np.ndarray], *, width: int) -> np.ndarray:
    row = np.full((max(len(picture) for picture in pictures) + _GAP_PX, width, 3), _PAPER, np.uint8)
    left = _GAP_PX
    for picture in pictures:
        row[: len(picture), left : left + picture.shape[1]] = picture
        left += picture.shape[1] + _GAP_PX
    return row


def _on_paper(picture: np.ndarray, *, height: int, width: int) -> np.ndarray:
    paper = np.full((height, width, 3), _PAPER, np.uint8)
    paper[_GAP_PX : _GAP_PX + len(picture), : picture.shape[1]] = picture
    return paper


def _text_line(texts: Sequence[tuple[int, str]], *, width: int) -> np.ndarray:
    """A strip with texts, each of them beginning at so many pixels from the left."""
    line = np.full((_TEXT_HEIGHT_PX, width, 3), _PAPER, np.uint8)
    for left, text in texts:
        _write(line, text, at=(left, 0))
    return line


def _write(picture: np.ndarray, text: str, *, at: tuple[int, int]) -> None:
    """Writes into a strip whose upper left corner is `at`."""
    cv2.putText(picture, text, (at[0], at[1] + _TEXT_HEIGHT_PX - 7), _FONT, _FONT_SCALE, _INK, 1, cv2.LINE_AA)
