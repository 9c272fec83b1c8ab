"""COCO regions: masks against pycocotools, overlap order, and invalid regions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from dl_lib.data.datasets.coco_regions import Region, rasterize_regions, region_mask
from dl_lib.data.errors import InvalidSampleError
from tests.helpers.dataset_files import as_counts, as_text

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in pycocotools' decode
MASKS = arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.booleans(), fill=st.booleans())


@settings(deadline=None)  # the machine may be under load
@given(MASKS)
def test_run_lengths_round_trip(mask):
    for form in (as_counts, as_text):
        np.testing.assert_array_equal(region_mask(form(mask), size=mask.shape), mask)


def test_long_compressed_runs():
    """Numbers with several characters, and negative differences."""
    mask = np.zeros((700, 900), bool)
    mask[:, 300:303] = mask[5:9, 400] = mask[:, 800:] = True
    np.testing.assert_array_equal(region_mask(as_text(mask), size=mask.shape), mask)


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-10, 60), min_size=6, max_size=12).filter(lambda p: len(p) % 2 == 0), min_size=1))
def test_polygons_match_pycocotools(polygons):
    parts = [coco_mask.decode(coco_mask.frPyObjects([polygon], 35, 30))[..., 0] for polygon in polygons]
    np.testing.assert_array_equal(region_mask(polygons, size=(35, 30)), np.any(parts, axis=0))


def square(top, left, side):
    """Return the run lengths of a square in a 12 x 12 image."""
    mask = np.zeros((12, 12), bool)
    mask[top : top + side, left : left + side] = True
    return as_counts(mask)


def test_small_regions_are_on_top_and_crowds_at_the_bottom():
    label = np.zeros((12, 12), np.uint8)
    rasterize_regions(
        label,
        [
            Region(1, 1, False, square(1, 1, 2)),
            Region(2, 255, True, square(0, 0, 3)),  # a crowd, although smaller than the next one
            Region(3, 3, False, square(0, 0, 8)),
            Region(4, 255, True, square(2, 2, 10)),
            Region(5, 5, False, square(6, 6, 2)),
            Region(6, 6, False, square(7, 7, 2)),  # of equal area: the later one is on top
        ],
    )
    expected = np.zeros((12, 12), int)
    expected[2:12, 2:12] = 255
    expected[0:8, 0:8] = 3
    expected[1:3, 1:3] = 1
    expected[6:8, 6:8] = 5
    expected[7:9, 7:9] = 6
    np.testing.assert_array_equal(label, expected)


@pytest.mark.parametrize(
    ("segmentation", "complaint"),
    [
        (None, "must be a list of polygons or a dict of run lengths; .*Received: segmentation=NoneType None"),
        ([], r"draw the outline of objects that only have a box.*Received: segmentation=list \[\]"),
        ([[1, 2, 3, 4, 5, 6], []], r"three corners\. Received: polygon=\[\]"),
        ([[1, 2, 3, 4, 5, "6"]], "three corners"),
        ([[1, 2, 3, 4, 5, [6]]], "three corners"),
        ([[1, 2, 3, 4, 5, 2**70]], "three corners"),
        ([{"size": [12, 10], "counts": [120]}], "three corners"),
        ([[-12, -12, 24, 24] * 9999 + [0, 0]], r"longer than 1680 pixels.*Received: 719\d{3} pixels, 19999 corners"),
        ([[1, 2, 3, 4]], r"three corners\. Received: polygon=\[1, 2, 3, 4\]"),  # pycocotools interprets this as a box
        ([[1, 2, 3, 4, 5, 6, 7]], "three corners"),
        ([1, 2, 3, 4, 5, 6], "three corners"),
        ([[1, 2, 3, 4, 5, "a"]], "three corners"),
        ([[[1, 2], [3, 4], [5, 6]]], "three corners"),
        ([[1, 2, 3, 4, 5, float("nan")]], "within its image, 12 x 10 pixels"),
        ([[1, 2, 3, 4, 5, 1e9]], "within its image, 12 x 10 pixels"),
        ({"size": [10, 12], "counts": [120]}, r"\[12, 10\], the size of the image\. Received: size=\[10, 12\]"),
        ({"counts": [120]}, "Received: size=None"),
        ({"size": [12, 10]}, "sum 120, .*Received: counts=None"),
        ({"size": [12, 10], "counts": []}, r"sum 120, .*Received: counts=\[\]"),
        ({"size": [12, 10], "counts": [60, 59]}, "sum 120"),
        ({"size": [12, 10], "counts": [60, 61]}, "sum 120"),
        ({"size": [12, 10], "counts": [130, -10]}, "sum 120"),
        ({"size": [12, 10], "counts": [60.0, 60.0]}, "sum 120"),
        ({"size": [12, 10], "counts": [2**70]}, "sum 120"),
        ({"size": [12, 10], "counts": [2**63 - 1, 2**63 - 1, 122]}, "sum 120"),  # the sum of int64 overflows to 120
        ({"size": [12, 10], "counts": [2**63, 2**63, 120]}, "sum 120"),
        ({"size": [12, 10], "counts": [[60, 60]]}, "sum 120"),
        ({"size": [12, 10], "counts": [60, [60]]}, "sum 120"),
        ({"size": [12, 10], "counts": {"60": 60}}, "sum 120"),
        ({"size": [12, 10], "counts": "o" * 20 + "0"}, "sum 120"),  # a number of 105 bits
        ({"size": [12, 10], "counts": "oooooooooooO" * 9}, "sum 120"),  # numbers of 60 bits
        ({"size": "12", "counts": [120]}, r"\[12, 10\], .* Received: size='12'"),
        ({"size": [12, 10], "counts": ""}, "sum 120, .*Received: counts=''"),
        ({"size": [12, 10], "counts": as_text(np.eye(12, 10, dtype=bool))["counts"][:-2]}, "sum 120"),
        ({"size": [12, 10], "counts": "é"}, "characters '0' to 'o'. Received: 'é'"),
    ],
)
def test_invalid_region_raises_with_its_annotation(segmentation, complaint):
    label = np.zeros((12, 10), np.uint8)
    regions = [Region(1, 1, False, as_counts(np.ones((12, 10), bool))), Region(17, 2, False, segmentation)]
    with pytest.raises(InvalidSampleError, match=rf"^annotation 17: .*{complaint}"):
        rasterize_regions(label, regions)
    assert not label.any()
