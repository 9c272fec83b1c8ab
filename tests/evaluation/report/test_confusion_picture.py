"""What the pixels of the picture say about the matrix."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.evaluation.report.canvas import ramp_color
from dl_lib.evaluation.report.confusion_picture import draw_confusion

NAMES = [f"class {index}" for index in range(300)]
CELL = 36  # up to about 40 classes


def grid_of(counts, *, cell=CELL, names=NAMES):
    """The pixels of the grid alone, which ends where its dark frame does; (classes, classes, cell, cell, 3)."""
    picture = draw_confusion(torch.tensor(counts), class_names=names[: len(counts)], title="Confusion").astype(int)
    side = cell * len(counts)
    dark = (picture.sum(axis=2) < 300).astype(int)
    top = int(np.argmax(dark[:, :].sum(axis=1) > 0.9 * side))
    left = int(np.argmax(dark[top : top + side].sum(axis=0) > 0.9 * side))
    grid = picture[top : top + side, left : left + side]
    return grid.reshape(len(counts), cell, len(counts), cell, 3).swapaxes(1, 2)


def colour_of(cell):
    """Of a cell, beside its number and away from the frame."""
    return cell[5, 5]


matrices = st.integers(2, 6).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 99), min_size=n, max_size=n), min_size=n, max_size=n)
)


@settings(max_examples=15, deadline=None)
@given(matrices)
def test_each_cell_has_the_colour_of_its_share_of_the_row(counts):
    grid = grid_of(counts)
    for row, numbers in enumerate(counts):
        for column, number in enumerate(numbers):
            share = number / max(1, sum(numbers))
            expected = ramp_color(share) if share >= 0.005 else (255, 255, 255) if sum(numbers) else (224, 224, 224)
            assert np.abs(colour_of(grid[row, column]) - expected).max() <= 2


def test_numbers_are_written_where_there_is_something_to_say():
    """96, 4, 0.4 and 0 percent; light on dark and dark on light."""
    grid = grid_of([[960, 40, 0], [996, 0, 4], [0, 0, 5]])
    inner = grid[:, :, 8:-8, 6:-6].reshape(3, 3, -1, 3)
    has_ink = np.abs(inner - inner[:, :, :1]).sum(axis=3).max(axis=2) > 100
    assert has_ink.tolist() == [[True, True, False], [True, False, False], [False, False, True]]
    assert inner[0, 0].max() > 200 and inner[0, 1].min() < 100


@pytest.mark.parametrize(("count", "cell"), [(1, 36), (19, 36), (41, 36), (100, 15), (150, 10), (300, 5)])
def test_everything_fits_with_a_white_margin_also_with_many_classes(count, cell):
    names = ["a name that is much longer than the others are", *NAMES[1:]]
    counts = torch.eye(count, dtype=torch.int64)
    picture = draw_confusion(counts, class_names=names[:count], title="Confusion on some data set")
    assert picture.dtype == np.uint8
    margins = (picture[:8], picture[-8:], picture[:, :8], picture[:, -8:])
    assert all((margin == 255).all() for margin in margins)
    assert cell * count < min(picture.shape[:2]) < max(picture.shape[:2]) < cell * count + 600


def test_the_picture_grows_with_the_names_to_the_left_and_above():
    counts = torch.eye(20, dtype=torch.int64)
    short, long = (draw_confusion(counts, class_names=[*NAMES[:19], name]) for name in ("c", "a much longer name"))
    height, width = (after - before for before, after in zip(short.shape[:2], long.shape[:2], strict=True))
    assert height == width > 20


def test_thousands_of_classes_are_still_drawn():
    counts = torch.eye(2000, dtype=torch.int64)
    picture = draw_confusion(counts, class_names=[str(index) for index in range(2000)])
    assert 2000 < picture.shape[0] < 2200
