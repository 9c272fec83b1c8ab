"""Sliding windows: coverage, overlap and averaging."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.evaluation.runner.windows import run_in_windows, window_starts
from dl_lib.modeling.meta_arch.coarse import CoarseLogits

EIGHTHS = st.integers(0, 7).map(lambda number: number / 8)  # exact in binary


@given(st.integers(1, 3000), st.integers(2, 64).map(lambda cells: 32 * cells), EIGHTHS)
def test_windows_cover_a_side_with_the_minimum_overlap(side, window, overlap):
    starts = window_starts(side, window=window, overlap=overlap, stride=4)
    assert starts[0] == 0 and all(start % 4 == 0 for start in starts)
    assert starts[-1] + window >= side and (len(starts) == 1 or side - starts[-1] > window - 4)
    gaps = [after - before for before, after in pairwise(starts)]
    assert all(0 < gap <= window - overlap * window for gap in gaps)
    if gaps:
        assert max(gaps) - min(gaps) <= 4
        # The number of windows is minimal.
        most = (window - overlap * window) // 4 * 4
        assert (len(gaps) - 1) * most + window < side + 4


@pytest.mark.parametrize(
    ("side", "window", "overlap", "starts"),
    [
        (2048, 768, 0.0, (0, 640, 1280)),
        (1024, 768, 0.33, (0, 256)),
        (1024, 1024, 0.5, (0,)),
        (100, 64, 0.5, (0, 16, 36)),
        (102, 64, 0.5, (0, 20, 40)),
        (5, 64, 0.5, (0,)),
    ],
)
def test_window_starts(side, window, overlap, starts):
    assert window_starts(side, window=window, overlap=overlap, stride=4) == starts


def test_step_below_the_stride_is_rejected():
    with pytest.raises(ValueError, match=r"at least 4 pixels.*Received: window=64, overlap=0.95$"):
        window_starts(200, window=64, overlap=0.95, stride=4)


def logits_of(image, *, padding):
    """Network that returns the mean of each 4 x 4 cell, and arbitrary values for padding."""
    rows, columns = (-(-side // 4) for side in image.shape[-2:])
    padded = torch.zeros(3, 4 * rows, 4 * columns, dtype=torch.float64)
    padded[:, : image.shape[1], : image.shape[2]] = image
    means = padded.reshape(3, rows, 4, columns, 4).mean(dim=(2, 4))
    values = torch.full((3, rows + padding, columns + padding), 1e6, dtype=torch.float64)
    values[:, :rows, :columns] = means
    return CoarseLogits(values, tuple(image.shape[-2:]), stride=4, upsample=None)


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 150), st.integers(1, 150)),
    st.tuples(st.sampled_from([32, 64]), st.sampled_from([32, 96])),
    st.floats(0, 0.8),
)
def test_windows_equal_the_whole_image_for_a_local_network(size, window, overlap):
    image = torch.rand(3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    runs = []

    def run(view):
        runs.append(tuple(view.shape[-2:]))
        return logits_of(view, padding=2)

    logits = run_in_windows(image, run=run, window=window, overlap=overlap)
    assert logits.size == size
    rows, columns = (-(-side // 4) for side in size)
    torch.testing.assert_close(
        logits.values[:, :rows, :columns], logits_of(image, padding=0).values, rtol=1e-12, atol=0
    )
    # Only windows at the bottom or right border can be smaller, by up to 3 pixels, unless the image is smaller.
    assert all(min(w, s) - 4 < side <= w for view in runs for side, w, s in zip(view, window, size, strict=True))


def test_differing_windows_are_averaged():
    """Window k returns k: on 16 cells, windows of 8 with half overlap start at 0, 4 and 8."""
    number = iter(range(3))

    def run(view):
        return CoarseLogits(torch.full((1, 8, 8), float(next(number))), tuple(view.shape[-2:]), stride=4, upsample=None)

    logits = run_in_windows(torch.zeros(3, 32, 64), run=run, window=(32, 32), overlap=0.5)
    assert logits.values[0, 0].tolist() == [0] * 4 + [0.5] * 4 + [1.5] * 4 + [2] * 4
    assert (logits.values == logits.values[:, :1]).all()
