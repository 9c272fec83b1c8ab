"""Scores against the published evaluator's figures, closed forms and loops in exact fractions."""

import json
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.evaluation.confusion import ConfusionMatrix
from dl_lib.evaluation.metrics import segmentation_metrics

REFERENCE = json.loads((Path(__file__).parents[1] / "reference/evaluation/sem_seg_evaluator.json").read_text())
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


def test_counts_equal_those_of_the_published_evaluator(reference_counts):
    published = torch.tensor(REFERENCE["conf_matrix_rows_pred_cols_gt_last_is_ignore"])
    assert reference_counts.tolist() == published[:19, :19].T.tolist()


def test_all_but_the_mean_iou_equal_the_published_evaluator(reference_counts):
    metrics, published = segmentation_metrics(reference_counts, class_names=NAMES), REFERENCE["published"]
    assert 100 * metrics.frequency_weighted_iou == pytest.approx(published["fwIoU"], rel=1e-12)
    assert 100 * metrics.mean_accuracy == pytest.approx(published["mACC"], rel=1e-12)
    assert 100 * metrics.pixel_accuracy == pytest.approx(published["pACC"], rel=1e-12)
    assert [score.true_pixels for score in metrics.classes] == REFERENCE["per_class"]["gt"]
    assert [score.predicted_pixels for score in metrics.classes] == REFERENCE["per_class"]["pred"]


def test_the_published_mean_iou_books_a_class_that_is_predicted_but_absent_as_zero(reference_counts):
    """Classes 7 and 11 do not occur; 7 is predicted on 133 pixels, 11 never."""
    metrics = segmentation_metrics(reference_counts, class_names=NAMES)
    assert metrics.absent == ("class_7", "class_11")
    assert [metrics.classes[index].predicted_pixels for index in (7, 11)] == [133, 0]
    assert 100 * metrics.mean_iou == pytest.approx(REFERENCE["miou_if_averaged_over_gt_classes_only"], rel=1e-12)
    assert f"{100 * metrics.mean_iou:.3f}" == "46.338"
    # Theirs: the same 17 values, divided by 18.
    published = 100 * metrics.mean_iou * 17 / 18
    assert published == pytest.approx(REFERENCE["published"]["mIoU"], rel=1e-12)
    assert f"{published:.3f}" == "43.764"


def scores_by_loops(counts):
    """All scores as exact fractions."""
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


def test_false_positives_of_an_absent_class_count_against_the_classes_they_belong_to():
    right = segmentation_metrics(torch.tensor([[8, 0, 0], [0, 8, 0], [0, 0, 0]]), class_names="abc")
    wrong = segmentation_metrics(torch.tensor([[4, 0, 4], [0, 8, 0], [0, 0, 0]]), class_names="abc")
    assert (right.mean_iou, right.absent) == (1.0, ("c",))
    assert (wrong.mean_iou, wrong.absent) == (0.75, ("c",))
    assert wrong.classes[2].iou is None and wrong.classes[2].predicted_pixels == 4


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match=r"ignore value.*Received: counts.sum\(\)=0$"):
        segmentation_metrics(torch.zeros(2, 2, dtype=torch.int64), class_names="ab")


def test_names_have_to_fit_the_matrix():
    with pytest.raises(ValueError, match=r"shape \(3, 3\)\. Received: counts.shape=\(2, 2\)$"):
        segmentation_metrics(torch.eye(2, dtype=torch.int64), class_names="abc")
