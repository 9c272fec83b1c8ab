"""Sliding-window inference.

Windows start at multiples of the output stride, e.g. 4 pixels, so that their logits share one grid, on which they are
averaged. Since upsampling is linear, averaging the logits before or after upsampling gives the same result, except at
window borders.
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
    """Return the mean logits over all windows; an image that fits into one window is run directly.

    Args:
        image: Image (3, H, W).
        run: Forward pass of the network.
        window: (height, width) in pixels.
        overlap: Minimum overlap of adjacent windows, as a ratio of the window.
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
    counts = total.new_zeros(total.shape[1:])
    _add_window(logits, total=total, counts=counts, corner=first)
    for top, left in others:
        logits = run(image[:, top : top + window[0], left : left + window[1]])
        _add_window(logits, total=total, counts=counts, corner=(top, left))
    return replace(logits, values=total / counts, size=(height, width))


def window_starts(side: int, *, window: int, overlap: float, stride: int) -> tuple[int, ...]:
    """Return the start positions of the windows along one side: evenly spaced multiples of the stride, from 0.

    The last window ends at the image border or less than a stride beyond it, and is truncated there.

    Args:
        side: Side of the image in pixels.
        window: Side of the window in pixels, a multiple of the stride.
        overlap: Minimum overlap of adjacent windows, as a ratio of the window.
        stride: Output stride in pixels.

    Raises:
        ValueError: If the overlap leaves a step below the stride.
    """
    step = (window - math.ceil(overlap * window)) // stride  # in units of the stride, as all values below
    if step < 1:
        raise ValueError(
            f"the step between windows must be at least {stride} pixels; reduce the overlap. "
            f"Received: window={window}, overlap={overlap}"
        )
    last = math.ceil(max(0, side - window) / stride)
    gaps = math.ceil(last / step)
    return tuple(stride * (number * last // gaps) for number in range(gaps + 1)) if gaps else (0,)


def _add_window(logits: CoarseLogits, *, total: Tensor, counts: Tensor, corner: tuple[int, int]) -> None:
    """Add the logits of a window without padding to the total, and increment the counts."""
    rows, columns = (_cells(side, logits.stride) for side in logits.size)
    top, left = (start // logits.stride for start in corner)
    region = (..., slice(top, top + rows), slice(left, left + columns))
    total[region] += logits.values[:, :rows, :columns]
    counts[region] += 1


def _cells(side: int, stride: int) -> int:
    """Return the number of logits along a side; the last one may cover less than a stride."""
    return math.ceil(side / stride)
