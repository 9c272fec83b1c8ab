"""Charts side by side under one title, with a key to the colours.

All lengths are in points, that is pixels of the finished picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dl_lib.evaluation.report.canvas import Canvas, Color, Picture, text_width
from dl_lib.plots.chart import Chart, draw_chart, fitted_text

__all__ = ["draw_sheet"]

_MARGIN = 18
_GAP = 10
_TITLE_SIZE, _KEY_SIZE, _CAPTION_SIZE = 17.0, 12.0, 11.0
_TITLE_HEIGHT, _KEY_HEIGHT, _CAPTION_HEIGHT = 36, 22, 28
_SWATCH, _BEHIND_SWATCH, _BETWEEN_KEYS = 22, 7, 24


def draw_sheet(
    charts: Sequence[Chart],
    *,
    title: str,
    key: Mapping[str, Color],
    caption: str,
    columns: int,
    chart_size: tuple[int, int],
) -> Picture:
    """Draws charts row by row.

    Args:
        charts: one at least.
        title: a line above all of them.
        key: colours by what they stand for.
        caption: a line below.
        columns: charts in a row.
        chart_size: (width, height) of each.

    Returns:
        uint8 (height, width, 3), RGB.
    """
    width = 2 * _MARGIN + columns * (chart_size[0] + _GAP) - _GAP
    room = width - 2 * _MARGIN
    lines = _key_lines(key, room=room)
    top = _MARGIN + _TITLE_HEIGHT + len(lines) * _KEY_HEIGHT + _GAP
    rows = -(-len(charts) // columns)
    height = top + rows * (chart_size[1] + _GAP) + _CAPTION_HEIGHT
    canvas = Canvas.blank(height, width)
    fitted = fitted_text(title, size=_TITLE_SIZE, room=room)
    canvas.text(fitted, at=(_MARGIN, _MARGIN + _TITLE_HEIGHT / 2 - 4), align="left", size=_TITLE_SIZE)
    for number, line in enumerate(lines):
        y = _MARGIN + _TITLE_HEIGHT + (number + 0.5) * _KEY_HEIGHT
        for x, name in line:
            canvas.line((x, y), (x + _SWATCH, y), width=4, color=key[name])
            text = fitted_text(name, size=_KEY_SIZE, room=room - _SWATCH - _BEHIND_SWATCH)
            canvas.text(text, at=(x + _SWATCH + _BEHIND_SWATCH, y), align="left", size=_KEY_SIZE)
    for number, chart in enumerate(charts):
        left = _MARGIN + number % columns * (chart_size[0] + _GAP)
        draw_chart(canvas, chart, corner=(left, top + number // columns * (chart_size[1] + _GAP)), size=chart_size)
    fitted = fitted_text(caption, size=_CAPTION_SIZE, room=room)
    canvas.text(fitted, at=(_MARGIN, height - _MARGIN), align="left", size=_CAPTION_SIZE)
    return canvas.finished()


def _key_lines(key: Mapping[str, Color], *, room: float) -> list[list[tuple[float, str]]]:
    """Where each entry of the key begins, in as many lines as they need."""
    lines: list[list[tuple[float, str]]] = []
    x = float("inf")
    for name in key:
        width = _SWATCH + _BEHIND_SWATCH + text_width(name, size=_KEY_SIZE)
        if x + width > _MARGIN + room:
            lines.append([])
            x = float(_MARGIN)
        lines[-1].append((x, name))
        x += width + _BETWEEN_KEYS
    return lines
