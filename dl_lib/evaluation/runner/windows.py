"""Running an image in overlapping windows: where they lie, and how what is said of them becomes one.

Windows begin at multiples of the logits' stride, such as 4 pixels, so that their logits lie on one grid. There they are
averaged, at a fraction of the pixels; upsampling is linear, and away from the windows' edges it makes no difference
whether one averages before or after it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from dl_lib.modeling.meta_arch.coarse import CoarseLogits

__all__ = ["run_in_windows", "window_starts"]


def run_in_windows(
    image: Tensor, *, run: Callable[[Tensor], CoarseLogits], window: tuple[int, int], overlap: float
) -> CoarseLogits:
    """The mean logits of all windows; an image that fits into one is run as it is.

    Args:
        image: (3, H, W).
        run: one pass of the network over an image.
        window: (height, width) in pixels.
        overlap: of neighbouring windows, at least, as a share of the window.
    """
    height, width = image.shape[-2:]
    logits = run(image[:, : window[0], : window[1]])
    stride = logits.stride
    tops = window_starts(height, window=window[0], overlap=overlap, stride=stride)
    lefts = window_starts(width, window=window[1], overlap=overlap, stride=stride)
    first, *others = itertools.product(tops, lefts)
    if not others:
        return logits
    total = logits.new_zeros((_cells(height, stride), _cells(width, stride)))
    times = total.new_zeros(total.shape[1:])
    _add_window(logits, total=total, times=times, corner=first)
    for top, left in others:
        logits = run(image[:, top : top + window[0], left : left + window[1]])
        _add_window(logits, total=total, times=times, corner=(top, left))
    return replace(logits, values=total / times, size=(height, width))


def window_starts(side: int, *, window: int, overlap: float, stride: int) -> tuple[int, ...]:
    """Where windows begin along one side, in pixels: evenly spread multiples of the stride, from 0 as far as needed.

    The last one ends at the image's edge or, where that is at no multiple, less than a stride beyond, and is cut off.

    Args:
        side: of the image, in pixels.
        window: its side, a multiple of the stride.
        overlap: of neighbours, at least, as a share of the window.
        stride: of the logits, in pixels.

    Raises:
        ValueError: if neighbours would lie less than a stride apart.
    """
    step = (window - math.ceil(overlap * window)) // stride  # in cells, as everything from here on
    if step < 1:
        raise ValueError(
            f"windows have to lie at least {stride} pixels apart; let them overlap less. "
            f"Received: window={window}, overlap={overlap}"
        )
    last = math.ceil(max(0, side - window) / stride)
    gaps = math.ceil(last / step)
    return tuple(stride * (number * last // gaps) for number in range(gaps + 1)) if gaps else (0,)


def _add_window(logits: CoarseLogits, *, total: Tensor, times: Tensor, corner: tuple[int, int]) -> None:
    """Adds a window's logits to those of the whole image, without those of its padding, and counts where."""
    rows, columns = (_cells(side, logits.stride) for side in logits.size)
    top, left = (start // logits.stride for start in corner)
    place = (..., slice(top, top + rows), slice(left, left + columns))
    total[place] += logits.values[:, :rows, :columns]
    times[place] += 1


def _cells(side: int, stride: int) -> int:
    """Logits along a side of the image, the last of which may be for less than a stride."""
    return math.ceil(side / stride)
