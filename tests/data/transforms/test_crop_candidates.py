import numpy as np
import pytest

from dl_lib.data.transforms import (
    CropCandidates,
    CropPad,
    RandomCropPad,
    RandomFlip,
    ResizeShortestEdge,
    sample_transforms,
)
from dl_lib.data.transforms.crop_candidates import largest_class_ratio


def column(left):
    """Return a 4 x 4 crop at a column."""
    return CropPad(0, left, (4, 4), (4, 4), 0, 255)


def select(label, lefts, *, max_ratio=0.75):
    evaluated = []

    def crop_label(crop):
        evaluated.append(crop.left)
        return crop.apply_label(label)

    selected = CropCandidates(tuple(map(column, lefts)), max_ratio, 255).select(crop_label)
    return selected.left, evaluated


@pytest.fixture
def label():
    """Class 1 in columns 0..9, class 2 in 10..19, ignored pixels in 20..29, half class 3 and half ignored in 30..39."""
    label = np.ones((4, 40), np.uint8)
    label[:, 10:20] = 2
    label[:, 20:30] = 255
    label[:2, 30:], label[2:, 30:] = 3, 255
    return label


def test_first_accepted_crop_is_selected_without_evaluating_others(label):
    assert select(label, [0, 9, 8, 7]) == (9, [0, 9])  # a ratio of 12/16 = 0.75 is accepted


def test_max_ratio_is_inclusive(label):
    assert select(label, [0, 9, 8], max_ratio=0.7) == (8, [0, 9, 8])


def test_ignored_pixels_are_excluded(label):
    assert select(label, [18, 28, 9]) == (9, [18, 28, 9])  # class 2 only, class 3 only
    assert select(label, [22, 9]) == (9, [22, 9])  # ignored pixels only


def test_smallest_ratio_is_selected_if_none_is_accepted(label):
    assert select(label, [0, 9, 22, 19], max_ratio=0.5) == (9, [0, 9, 22, 19])


def test_largest_class_ratio_matches_counting():
    rng = np.random.default_rng(0)
    for dtype in (np.uint8, np.int16, np.int64):
        label = rng.integers(0, 5, (30, 30)).astype(dtype)
        label[label == 4] = 255 if dtype == np.uint8 else -1
        counts = [(label == value).sum() for value in range(4)]
        ignore = 255 if dtype == np.uint8 else -1
        assert largest_class_ratio(label, ignore_value=ignore) == max(counts) / sum(counts)


def test_selection_uses_the_label_after_previous_transforms():
    """Class 2 is in the right fifth, after resize and flip in the left one, which few random crops overlap."""
    label = np.ones((20, 50), np.uint8)
    label[:, 40:] = 2
    previous = [ResizeShortestEdge((40,), 999), RandomFlip(1.0)]
    selected, random = [], []
    for seed in range(40):
        for lefts, max_ratio in ((selected, 0.75), (random, 1.0)):
            augmentations = [*previous, RandomCropPad((20, 20), max_class_ratio=max_ratio)]
            drawn = sample_transforms(augmentations, rng=np.random.default_rng(seed), size=label.shape, label=label)
            lefts.append(drawn[-1].left)
    accepted = [5 <= left <= 15 for left in selected]  # class 2 is in columns 0..19: 5 to 15 of a crop's 20 columns
    assert sum(accepted) > 24
    assert sum(5 <= left <= 15 for left in random) < 12
    assert all(left <= 19 or left in random for left in selected)


def test_number_of_draws_does_not_depend_on_the_label():
    augmentations = [RandomCropPad((4, 4), max_class_ratio=0.5), RandomFlip(0.5)]
    after = []
    for label in (np.zeros((9, 9), np.uint8), np.random.default_rng(0).integers(0, 9, (9, 9)).astype(np.uint8), None):
        rng = np.random.default_rng(0)
        sample_transforms(augmentations, rng=rng, size=(9, 9), label=label)
        after.append(rng.random())
    assert len(set(after)) == 1
