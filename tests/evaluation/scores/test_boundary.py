"""Boundary IoU, compared with the authors' erosion of each class mask and with explicit distances."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.evaluation.scores.boundary import boundary_distance, count_boundary

IGNORE = 255


def region_by_erosion(mask, distance):
    """Return the mask minus its erosion, with zero padding."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)
    return mask & (eroded[1:-1, 1:-1] == 0)


def count_by_erosion(prediction, label, num_classes):
    kept = label != IGNORE
    distance = boundary_distance(*label.shape)
    rows = []
    for index in range(num_classes):
        true, predicted = (region_by_erosion((x == index) & kept, distance) for x in (label, prediction))
        rows.append(((true & predicted).sum(), (true | predicted).sum()))
    return np.array(rows).T.tolist()


def blobs(generator, size, num_classes, cell):
    """Return a class map of patches with ragged edges."""
    coarse = generator.integers(0, num_classes, [-(-side // cell) for side in size])
    y, x = np.mgrid[: size[0], : size[1]]
    shift = generator.integers(0, 3, size)
    rows, columns = ((place + shift) // cell for place in (y, x))
    return coarse[np.minimum(rows, coarse.shape[0] - 1), np.minimum(columns, coarse.shape[1] - 1)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 90), st.integers(1, 200)),
    st.integers(1, 5),
    st.sampled_from([1, 4, 12, 60]),
    st.sampled_from([0.0, 0.05, 0.6, 1.0]),
)
def test_equals_erosion_of_each_mask(seed, size, num_classes, cell, ignored):
    generator = np.random.default_rng(seed)
    label, prediction = (blobs(generator, size, num_classes, cell) for _ in range(2))
    label[generator.random(size) < ignored] = IGNORE
    counts = count_boundary(
        torch.from_numpy(prediction).to(torch.uint8),
        label=torch.from_numpy(label),
        num_classes=num_classes,
        ignore_value=IGNORE,
    )
    assert counts.dtype == torch.int64
    assert counts.tolist() == count_by_erosion(prediction, label, num_classes)


def test_arrays_give_the_counts_of_tensors():
    prediction, label = np.random.default_rng(0).integers(0, 3, (2, 30, 40), np.uint8)
    label[:5] = IGNORE
    found = count_boundary(prediction, label=label, num_classes=3, ignore_value=IGNORE)
    assert found.tolist() == count_by_erosion(prediction, label, 3)


def test_equals_explicit_distances():
    """Loop over all pairs of pixels: Chebyshev distance d to a pixel outside the mask."""
    generator = np.random.default_rng(0)
    label = blobs(generator, (40, 90), 3, 25)
    distance = boundary_distance(40, 90)
    y, x = np.mgrid[-1:41, -1:91]
    framed = np.pad(label, 1, constant_values=-1)
    near = np.zeros(label.shape, bool)
    for i in range(40):
        for j in range(90):
            others = framed != label[i, j]
            near[i, j] = (np.maximum(abs(y - i), abs(x - j))[others]).min() <= distance
    expected = np.bincount(label[near], minlength=3)
    counts = count_boundary(torch.from_numpy(label), label=torch.from_numpy(label), num_classes=3, ignore_value=IGNORE)
    assert counts.tolist() == [expected.tolist()] * 2
    assert 0 < near.sum() < near.size


@pytest.mark.parametrize(("size", "distance"), [((1024, 2048), 46), ((375, 500), 12), ((3, 4), 1), ((1, 1), 1)])
def test_distance_is_two_percent_of_the_diagonal(size, distance):
    """Two percent of diagonals of 2289.7 and 625 pixels are 45.8 and 12.5 pixels (rounded to even)."""
    assert boundary_distance(*size) == distance


def test_prediction_on_ignored_pixels_does_not_matter():
    generator = np.random.default_rng(1)
    label, prediction, other = (torch.from_numpy(blobs(generator, (60, 100), 4, 20)) for _ in range(3))
    is_ignored = torch.from_numpy(generator.random((60, 100)) < 0.2)
    label[is_ignored] = IGNORE
    counts, same = (
        count_boundary(torch.where(is_ignored, x, prediction), label=label, num_classes=4, ignore_value=IGNORE)
        for x in (prediction, other)
    )
    assert counts.tolist() == same.tolist()
    assert counts.sum() < 2 * 6000


def test_thin_error_lowers_boundary_iou_more_than_iou():
    """A 200 x 200 square predicted one pixel too small on every side."""
    label = torch.zeros(400, 600, dtype=torch.int64)
    label[100:300, 100:300] = 1
    prediction = torch.zeros(400, 600, dtype=torch.int64)
    prediction[101:299, 101:299] = 1
    intersection, union = count_boundary(prediction, label=label, num_classes=2, ignore_value=IGNORE)[:, 1].tolist()
    # d = 14: each has a frame of 14 pixels, of which 13 overlap.
    assert intersection == 198**2 - 172**2
    assert union == 200**2 - 170**2
    assert intersection / union < 0.94 < 198**2 / 200**2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_result_is_on_the_device_of_the_prediction():
    generator = np.random.default_rng(2)
    label, prediction = (blobs(generator, (60, 100), 4, 20) for _ in range(2))
    counts = count_boundary(
        torch.from_numpy(prediction).cuda(), label=torch.from_numpy(label), num_classes=4, ignore_value=IGNORE
    )
    assert counts.is_cuda and counts.tolist() == count_by_erosion(prediction, label, 4)
