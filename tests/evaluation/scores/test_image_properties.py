"""Properties of label maps and rank correlations, compared with scipy."""

import math

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from dl_lib.evaluation.scores.image_properties import (
    ImageProperties,
    RankCorrelation,
    image_properties,
    property_correlations,
    rank_correlation,
)

IGNORE = 255


def random_label(seed, *, size=(40, 56)):
    """Return a label of rectangles of 5 classes, with ignored pixels."""
    rng = np.random.default_rng(seed)
    label = np.zeros(size, np.uint8)
    for _ in range(25):
        top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
        label[top : top + rng.integers(1, 9), left : left + rng.integers(1, 9)] = rng.choice([0, 1, 2, 3, 4, IGNORE])
    return label


def brute_force(label, *, background):
    classes = [int(index) for index in np.unique(label) if index not in (background, IGNORE)]
    areas = []
    for index in classes:
        components, count = scipy.ndimage.label(label == index, structure=np.ones((3, 3)))
        areas += [int((components == number).sum()) for number in range(1, count + 1)]
    foreground = np.isin(label, classes).sum() / (label != IGNORE).sum()
    return ImageProperties(
        objects=len(areas),
        object_scale_px=pytest.approx(np.median([math.sqrt(area) for area in areas])),
        foreground_ratio=None if background is None else pytest.approx(foreground),
        classes=len(classes),
    )


@pytest.mark.parametrize("names", [["sky", "background", "a", "b", "c"], ["sky", "d", "a", "b", "c"]])
def test_properties_equal_brute_force(names):
    background = names.index("background") if "background" in names else None
    for seed in range(10):
        label = random_label(seed)
        expected = brute_force(label, background=background)
        for dtype in (np.uint8, np.int64):
            found = image_properties(label.astype(dtype), class_names=names, ignore_value=IGNORE)
            assert found == expected
    assert found.objects > 5


def test_large_labels_are_subsampled():
    blocks = np.zeros((1024, 2048), np.uint8)
    blocks[100:200, 100:300] = blocks[600:640, 1000:1040] = 1
    found = image_properties(blocks, class_names=("background", "a"), ignore_value=IGNORE)
    ratio = (100 * 200 + 40 * 40) / blocks.size
    scale = (math.sqrt(100 * 200) + 40) / 2
    assert found == ImageProperties(2, pytest.approx(scale), pytest.approx(ratio), 1)


def test_labels_without_objects():
    names = ("background", "a")
    empty = np.zeros((4, 6), np.int32)
    assert image_properties(empty, class_names=names, ignore_value=-1) == ImageProperties(0, None, 0.0, 0)
    assert image_properties(empty - 1, class_names=names, ignore_value=-1) is None


@pytest.mark.parametrize("seed", range(10))
def test_rank_correlation_equals_scipy(seed):
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 8, 50) if seed % 2 else rng.normal(size=50)  # with and without ties
    other = rng.integers(0, 30, 50) + one
    assert rank_correlation(one, other) == pytest.approx(scipy.stats.spearmanr(one, other).statistic, abs=1e-12)


def test_constant_series_have_no_correlation():
    assert rank_correlation([1.0, 1.0, 1.0], [1, 2, 3]) is None and rank_correlation([1, 2, 3], [4, 4, 4]) is None


def test_images_without_a_property_are_excluded_from_its_correlation():
    properties = [ImageProperties(2, 9.0, None, 1), ImageProperties(0, None, None, 1), ImageProperties(5, 3.0, None, 1)]
    correlations = property_correlations([1.0, 9.0, 2.0, 5.0], [*properties, None], min_images=2)
    assert correlations == {
        "objects": RankCorrelation(pytest.approx(-0.5), images=3),
        "object_scale_px": RankCorrelation(pytest.approx(-1), images=2),
        "foreground_ratio": RankCorrelation(None, images=0),
        "classes": RankCorrelation(None, images=3),
    }
    again = property_correlations([1.0, 9.0, 2.0, 5.0], [*properties, None], min_images=3)
    assert again == correlations | {"object_scale_px": RankCorrelation(None, images=2)}
