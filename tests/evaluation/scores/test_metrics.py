"""Segmentation metrics, compared with the published evaluator, closed forms and exact fractions."""

import json
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.evaluation.scores.confusion import ConfusionMatrix
from dl_lib.evaluation.scores.metrics import ImageScores, class_counts, image_scores, segmentation_metrics

REFERENCE = json.loads((Path(__file__).parents[2] / "reference/evaluation/sem_seg_evaluator.json").read_text())
NAMES = tuple(f"class_{index}" for index in range(19))
IGNORE = 255


def reference_label(k, height, width):
    y, x = np.mgrid[:height, :width]
    value = (x // 16 + 3 * (y // 12) + 5 * k) % 20
    value[value == 19] = IGNORE
    value[value == 7] = IGNORE
    value[value == 11] = 3
    return value


def reference_scores(k, label):
    height, width = label.shape
    generator = np.random.default_rng(zlib.crc32(f"evalpred:{k}".encode()))
    scores = generator.standard_normal((19, height, width))
    y, x = np.mgrid[:height, :width]
    right = ((x + y + k) % 3 != 0) & (label != IGNORE)
    scores[label[right], y[right], x[right]] += 4
    scores[11] = -100
    return scores


@pytest.fixture(scope="module")
def reference_counts():
    matrix = ConfusionMatrix(19, ignore_value=IGNORE)
    for k, (height, width) in enumerate(REFERENCE["sizes"]):
        label = reference_label(k, height, width)
        prediction = torch.from_numpy(reference_scores(k, label)).argmax(dim=0)
        matrix.update(prediction, label=torch.from_numpy(label))
    return matrix.counts


def test_counts_equal_the_published_evaluator(reference_counts):
    published = torch.tensor(REFERENCE["conf_matrix_rows_pred_cols_gt_last_is_ignore"])
    assert reference_counts.tolist() == published[:19, :19].T.tolist()


def test_all_but_the_mean_iou_equal_the_published_evaluator(reference_counts):
    metrics, published = segmentation_metrics(reference_counts, class_names=NAMES), REFERENCE["published"]
    assert 100 * metrics.frequency_weighted_iou == pytest.approx(published["fwIoU"], rel=1e-12)
    assert 100 * metrics.mean_accuracy == pytest.approx(published["mACC"], rel=1e-12)
    assert 100 * metrics.pixel_accuracy == pytest.approx(published["pACC"], rel=1e-12)
    assert [score.true_pixels for score in metrics.classes] == REFERENCE["per_class"]["gt"]
    assert [score.predicted_pixels for score in metrics.classes] == REFERENCE["per_class"]["pred"]


def test_published_mean_iou_counts_predicted_absent_classes_as_zero(reference_counts):
    metrics = segmentation_metrics(reference_counts, class_names=NAMES, absent_rule="zero_if_predicted")
    assert 100 * metrics.mean_iou == pytest.approx(REFERENCE["published"]["mIoU"], rel=1e-12)
    assert f"{100 * metrics.mean_iou:.2f}" == "43.76"
    assert (metrics.classes[7].iou, metrics.classes[11].iou) == (0, None)
    assert (metrics.absent, metrics.predicted_absent) == (("class_7", "class_11"), ("class_7",))
    left_out = segmentation_metrics(reference_counts, class_names=NAMES)
    for name in ("frequency_weighted_iou", "mean_accuracy", "pixel_accuracy"):
        assert getattr(metrics, name) == getattr(left_out, name)


def test_absent_classes_are_excluded_by_default(reference_counts):
    """Classes 7 and 11 do not occur; 7 is predicted on 133 pixels, 11 never."""
    metrics = segmentation_metrics(reference_counts, class_names=NAMES)
    assert metrics.absent == ("class_7", "class_11")
    assert [metrics.classes[index].predicted_pixels for index in (7, 11)] == [133, 0]
    assert 100 * metrics.mean_iou == pytest.approx(REFERENCE["miou_if_averaged_over_gt_classes_only"], rel=1e-12)
    assert f"{100 * metrics.mean_iou:.3f}" == "46.338"


def scores_by_loops(counts):
    """Return all scores as exact fractions."""
    classes = range(len(counts))
    pixels = sum(map(sum, counts))
    iou, accuracy, weights = [], [], []
    for c in classes:
        true = sum(counts[c])
        if true:
            predicted = sum(counts[t][c] for t in classes)
            iou.append(Fraction(counts[c][c], true + predicted - counts[c][c]))
            accuracy.append(Fraction(counts[c][c], true))
            weights.append(Fraction(true, pixels))
    return {
        "mean_iou": sum(iou) / len(iou),
        "frequency_weighted_iou": sum(weight * value for weight, value in zip(weights, iou, strict=True)),
        "mean_accuracy": sum(accuracy) / len(accuracy),
        "pixel_accuracy": Fraction(sum(counts[c][c] for c in classes), pixels),
        "iou": iou,
        "accuracy": accuracy,
    }


count_matrices = (
    st.integers(1, 6)
    .flatmap(
        lambda n: st.lists(
            st.one_of(st.just([0] * n), st.lists(st.integers(0, 10**12), min_size=n, max_size=n)),
            min_size=n,
            max_size=n,
        )
    )
    .filter(lambda rows: any(map(any, rows)))
)


@settings(max_examples=150, deadline=None)
@given(count_matrices)
def test_equals_exact_fractions(counts):
    metrics = segmentation_metrics(torch.tensor(counts), class_names=[str(c) for c in range(len(counts))])
    expected = scores_by_loops(counts)
    for name in ("mean_iou", "frequency_weighted_iou", "mean_accuracy", "pixel_accuracy"):
        assert getattr(metrics, name) == pytest.approx(float(expected[name]), rel=1e-12)
    for name in ("iou", "accuracy"):
        present = [getattr(score, name) for score in metrics.classes if getattr(score, name) is not None]
        assert present == pytest.approx([float(value) for value in expected[name]], rel=1e-12)
    assert metrics.absent == tuple(str(c) for c, row in enumerate(counts) if not any(row))
    assert metrics.pixels == sum(map(sum, counts))


def test_pixels_predicted_as_an_absent_class_are_errors_of_their_true_class():
    right = segmentation_metrics(torch.tensor([[8, 0, 0], [0, 8, 0], [0, 0, 0]]), class_names="abc")
    metrics = segmentation_metrics(torch.tensor([[4, 0, 4], [0, 8, 0], [0, 0, 0]]), class_names="abc")
    assert (right.mean_iou, right.absent) == (1.0, ("c",))
    assert (metrics.mean_iou, metrics.absent) == (0.75, ("c",))
    assert metrics.classes[2].iou is None and metrics.classes[2].predicted_pixels == 4


def test_boundary_iou_is_averaged_over_the_same_classes():
    counts = torch.tensor([[8, 0, 2], [0, 8, 0], [0, 0, 0]])
    boundary = torch.tensor([[1, 3, 0], [4, 4, 2]])
    left_out, zero = (
        segmentation_metrics(counts, class_names="abc", absent_rule=rule, boundary=boundary)
        for rule in ("exclude", "zero_if_predicted")
    )
    assert [score.boundary_iou for score in left_out.classes] == [0.25, 0.75, None]
    assert [score.boundary_iou for score in zero.classes] == [0.25, 0.75, 0]
    assert (left_out.mean_boundary_iou, zero.mean_boundary_iou) == (0.5, 1 / 3)
    plain = segmentation_metrics(counts, class_names="abc")
    assert plain.mean_boundary_iou is None and plain.classes[0].boundary_iou is None
    assert plain.mean_iou == left_out.mean_iou


@settings(max_examples=50, deadline=None)
@given(count_matrices)
def test_image_scores_equal_those_of_a_data_set_of_one_image(counts):
    counts = torch.tensor(counts)
    metrics = segmentation_metrics(counts, class_names=[str(c) for c in range(len(counts))])
    assert image_scores(class_counts(counts)) == ImageScores(metrics.mean_iou, metrics.pixel_accuracy)


def test_image_without_labelled_pixels_has_no_scores():
    assert image_scores(class_counts(torch.zeros(3, 3, dtype=torch.int64))) is None


def test_no_labelled_pixel_is_an_error():
    with pytest.raises(ValueError, match=r"ignore value.*Received: counts.sum\(\)=0$"):
        segmentation_metrics(torch.zeros(2, 2, dtype=torch.int64), class_names="ab")


def test_shape_must_match_the_class_names():
    with pytest.raises(ValueError, match=r"shape \(3, 3\)\. Received: counts.shape=\(2, 2\)$"):
        segmentation_metrics(torch.eye(2, dtype=torch.int64), class_names="abc")


def test_arrays_of_counts_have_the_scores_of_tensors():
    counts, boundary = torch.tensor([[5, 2], [1, 9]]), torch.tensor([[3, 4], [5, 6]])
    expected = segmentation_metrics(counts, class_names=["a", "b"], boundary=boundary)
    assert segmentation_metrics(counts.numpy(), class_names=["a", "b"], boundary=boundary.numpy()) == expected
