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
    """A crop of 4 x 4 pixels."""
    return CropPad(0, left, (4, 4), (4, 4), 0, 255)


def choose(label, lefts, *, max_ratio=0.75):
    looked = []

    def look(crop):
        looked.append(crop.left)
        return crop.apply_label(label)

    chosen = CropCandidates(tuple(map(column, lefts)), max_ratio, 255).select(look)
    return chosen.left, looked


@pytest.fixture
def label():
    """Columns 0..9 are of class 1, 10..19 of class 2, 20..29 ignored, 30..39 half of it 3."""
    label = np.ones((4, 40), np.uint8)
    label[:, 10:20] = 2
    label[:, 20:30] = 255
    label[:2, 30:], label[2:, 30:] = 3, 255
    return label


def test_the_first_with_enough_of_others_is_taken_and_no_further_one_is_looked_at(label):
    assert choose(label, [0, 9, 8, 7]) == (9, [0, 9])  # 4 : 12 is three quarters, which is allowed


def test_the_bound_is_the_share(label):
    assert choose(label, [0, 9, 8], max_ratio=0.7) == (8, [0, 9, 8])


def test_ignored_pixels_do_not_count(label):
    assert choose(label, [18, 28, 9]) == (9, [18, 28, 9])  # 2 alone, 3 alone
    assert choose(label, [22, 9]) == (9, [22, 9])  # nothing at all


def test_where_none_will_do_the_least_one_sided_is_taken(label):
    assert choose(label, [0, 9, 22, 19], max_ratio=0.5) == (9, [0, 9, 22, 19])


def test_share_against_counting():
    draws = np.random.default_rng(0)
    for dtype in (np.uint8, np.int16, np.int64):
        label = draws.integers(0, 5, (30, 30)).astype(dtype)
        label[label == 4] = 255 if dtype == np.uint8 else -1
        counts = [(label == value).sum() for value in range(4)]
        ignore = 255 if dtype == np.uint8 else -1
        assert largest_class_ratio(label, ignore_value=ignore) == max(counts) / sum(counts)


def test_the_label_decides_as_the_transforms_before_leave_it():
    """Class 2 fills the right fifth; after resize and flip it is the left one, which few crops touch by chance."""
    label = np.ones((20, 50), np.uint8)
    label[:, 40:] = 2
    chain = [ResizeShortestEdge((40,), 999), RandomFlip(1.0)]
    chosen, by_chance = [], []
    for seed in range(40):
        for lefts, max_ratio in ((chosen, 0.75), (by_chance, 1.0)):
            augmentations = [*chain, RandomCropPad((20, 20), max_class_ratio=max_ratio)]
            drawn = sample_transforms(augmentations, rng=np.random.default_rng(seed), size=label.shape, label=label)
            lefts.append(drawn[-1].left)
    suits = [5 <= left <= 15 for left in chosen]  # 2 fills columns 0..19: at least 5 and at most 15 of a crop's 20
    assert sum(suits) > 24
    assert sum(5 <= left <= 15 for left in by_chance) < 12
    assert all(left <= 19 or left in by_chance for left in chosen)


def test_choosing_takes_the_same_draws_whatever_the_label():
    augmentations = [RandomCropPad((4, 4), max_class_ratio=0.5), RandomFlip(0.5)]
    after = []
    for label in (np.zeros((9, 9), np.uint8), np.random.default_rng(0).integers(0, 9, (9, 9)).astype(np.uint8), None):
        draws = np.random.default_rng(0)
        sample_transforms(augmentations, rng=draws, size=(9, 9), label=label)
        after.append(draws.random())
    assert len(set(after)) == 1
