"""Bootstrap intervals: against SciPy, coverage of the true value, and paired differences."""

import numpy as np
import pytest
from scipy import stats

from dl_lib.evaluation.scores.bootstrap import bootstrap_difference, bootstrap_iou


def make_counts(rng, *, images=80, classes=3, quality=0.8):
    """Counts of images whose labels have up to 100 pixels of each class."""
    labelled = rng.integers(1, 100, (images, classes))
    intersection = rng.binomial(labelled, quality)
    predicted = intersection + rng.integers(0, 20, (images, classes))
    return np.stack([intersection, predicted, labelled], axis=1)


def test_equal_to_scipy():
    counts = make_counts(np.random.default_rng(0))
    found = bootstrap_iou(counts)
    for number, (intersection, predicted, labelled) in enumerate(counts.transpose(2, 1, 0)):
        expected = stats.bootstrap(
            (intersection, predicted + labelled - intersection),
            lambda intersection, union, axis: intersection.sum(axis=axis) / union.sum(axis=axis),
            paired=True,
            method="percentile",
            n_resamples=9999,
            rng=np.random.default_rng(1),
        ).confidence_interval
        np.testing.assert_allclose(found.classes[number], [expected.low, expected.high], atol=2e-3)


def test_coverage_of_the_true_value():
    rng, true_iou, datasets, covered = np.random.default_rng(0), 0.7, 200, 0
    for seed in range(datasets):
        intersection = rng.binomial(50, rng.beta(7, 3, (60, 1)))  # mean 0.7, some images are more difficult
        labelled = np.full_like(intersection, 50)
        low, high = bootstrap_iou(np.stack([intersection, intersection, labelled], axis=1), seed=seed).mean
        covered += low <= true_iou <= high
    assert 0.89 <= covered / datasets <= 0.99  # 0.95, with a standard deviation of 0.015


def test_one_image_has_no_spread():
    counts = np.array([[[3, 0, 0], [5, 0, 0], [4, 2, 0]]])
    found = bootstrap_iou(counts)
    np.testing.assert_allclose(found.classes, [[0.5, 0.5], [0, 0], [np.nan, np.nan]])
    np.testing.assert_allclose(found.mean, [0.25, 0.25])


def test_classes_that_few_images_have():
    counts = make_counts(np.random.default_rng(0), images=20)
    counts[1:, :, 2] = 0  # a third of the resampled datasets do not contain it
    found = bootstrap_iou(counts)
    iou = counts[0, 0, 2] / (counts[0, 1, 2] + counts[0, 2, 2] - counts[0, 0, 2])
    np.testing.assert_allclose(found.classes[2], [iou, iou])
    assert np.isfinite(found.mean).all()


def test_differences_are_paired():
    rng = np.random.default_rng(0)
    first = make_counts(rng, quality=0.6)
    better = first.copy()
    better[:, 0] = np.minimum(first[:, 0] + 1, first[:, 1])  # one more correct pixel of those predicted
    assert not bootstrap_difference(first, first).classes.any()
    paired = bootstrap_difference(first, better)
    assert (paired.mean > 0).all()
    assert np.ptp(paired.mean) < 0.2 * np.ptp(bootstrap_iou(first).mean)
    np.testing.assert_allclose(bootstrap_difference(better, first).classes, -paired.classes[:, ::-1])
    with pytest.raises(ValueError, match="must have the same images and classes"):
        bootstrap_difference(first, better[1:])


def test_memory_is_bounded(monkeypatch):
    counts = make_counts(np.random.default_rng(0))
    expected = bootstrap_iou(counts)
    monkeypatch.setattr("dl_lib.evaluation.scores.bootstrap._MAX_WEIGHTS", 100)
    np.testing.assert_array_equal(bootstrap_iou(counts).classes, expected.classes)
