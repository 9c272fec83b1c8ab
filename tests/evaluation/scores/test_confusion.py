"""Confusion matrix, compared with loops over pixels and scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from dl_lib.evaluation.scores.confusion import ConfusionMatrix, count_confusion

IGNORE = 255


def count_by_loops(prediction, label, num_classes, ignore_value):
    counts = [[0] * num_classes for _ in range(num_classes)]
    for row_predicted, row_true in zip(prediction.tolist(), label.tolist(), strict=True):
        for predicted, true in zip(row_predicted, row_true, strict=True):
            if true != ignore_value:
                counts[true][predicted] += 1
    return counts


@st.composite
def images(draw):
    num_classes = draw(st.integers(1, 7))
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    ignore_value = draw(st.sampled_from([IGNORE, -1, 0, num_classes]))  # 0: an ignored class
    labels = st.sampled_from([*range(num_classes), ignore_value])
    predictions = st.integers(0, num_classes - 1)

    def pixels(values):
        return torch.tensor(draw(st.lists(values, min_size=height * width, max_size=height * width))).view(height, -1)

    return num_classes, ignore_value, pixels(predictions), pixels(labels)


@settings(max_examples=150, deadline=None)
@given(images())
def test_equals_loops_over_pixels(drawn):
    num_classes, ignore_value, prediction, label = drawn
    counts = count_confusion(prediction, label=label, num_classes=num_classes, ignore_value=ignore_value)
    assert counts.dtype == torch.int64
    assert counts.tolist() == count_by_loops(prediction, label, num_classes, ignore_value)
    assert counts.sum() == (label != ignore_value).sum()


def test_equals_scikit_learn_with_uint8():
    generator = np.random.default_rng(0)
    label, prediction = generator.integers(0, 19, (2, 40, 50))
    expected = confusion_matrix(label.ravel(), prediction.ravel(), labels=range(19))
    for dtype in (torch.uint8, torch.int32, torch.int64):
        counts = count_confusion(
            torch.from_numpy(prediction), label=torch.from_numpy(label).to(dtype), num_classes=19, ignore_value=IGNORE
        )
        assert counts.tolist() == expected.tolist()


@settings(max_examples=30, deadline=None)
@given(images(), st.randoms())
def test_accumulation_is_independent_of_the_order(drawn, random):
    num_classes, ignore_value, prediction, label = drawn
    rows = list(zip(prediction, label, strict=True))
    random.shuffle(rows)
    matrix = ConfusionMatrix(num_classes, ignore_value=ignore_value)
    for row_predicted, row_true in rows:
        with torch.inference_mode(random.random() < 0.5):
            matrix.update(row_predicted, label=row_true)
    assert matrix.counts.tolist() == count_by_loops(prediction, label, num_classes, ignore_value)
    matrix.reset()
    assert not matrix.counts.any()


def test_counts_do_not_overflow_32_bit():
    matrix = ConfusionMatrix(2, ignore_value=IGNORE)
    matrix._counts[1, 1] = 2**31 - 1
    matrix.update(torch.ones(2, 2, dtype=torch.int64), label=torch.ones(2, 2, dtype=torch.int64))
    assert matrix.counts[1, 1] == 2**31 + 3


@pytest.mark.parametrize(
    ("label", "received"),
    [
        ([[0, 3], [200, 255]], "values 3, 200"),
        ([[0, -1], [1, 255]], "values -1"),
        ([list(range(100, 120))], "values 100.*, 109, ..."),
    ],
)
def test_invalid_label_is_an_error_and_not_counted(label, received):
    label = torch.tensor(label)
    matrix = ConfusionMatrix(3, ignore_value=IGNORE)
    with pytest.raises(ValueError, match=rf"0 to 2 or the ignore value 255.*Received: label with {received}$"):
        matrix.update(torch.zeros_like(label), label=label)
    assert not matrix.counts.any()


def test_invalid_prediction_is_an_error():
    label = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"Expected 0 to 2; .*Received: prediction with values 3$"):
        count_confusion(torch.tensor([[0, 3]]), label=label, num_classes=3, ignore_value=IGNORE)


def test_broadcastable_shapes_are_rejected():
    with pytest.raises(ValueError, match=r"Received: prediction=\(4, 1\), label=\(4, 6\)$"):
        count_confusion(
            torch.zeros(4, 1, dtype=torch.int64),
            label=torch.zeros(4, 6, dtype=torch.int64),
            num_classes=2,
            ignore_value=IGNORE,
        )


def test_floating_point_logits_are_rejected():
    label = torch.zeros(2, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"argmax.*Received: prediction.dtype=torch.float32$"):
        count_confusion(torch.zeros(2, 2), label=label, num_classes=2, ignore_value=IGNORE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_counts_are_on_the_device_of_the_prediction():
    label = torch.randint(0, 5, (30, 40))
    prediction = torch.randint(0, 5, (30, 40))
    matrix = ConfusionMatrix(5, ignore_value=IGNORE)
    matrix.update(prediction.cuda(), label=label)
    assert matrix.counts.is_cuda
    assert matrix.counts.tolist() == count_by_loops(prediction, label, 5, IGNORE)


@pytest.mark.parametrize("dtype", [np.uint8, ">u2", np.int64])
def test_arrays_are_counted_like_tensors(dtype):
    rng = np.random.default_rng(0)
    prediction, label = rng.integers(0, 3, (2, 6, 7)).astype(dtype)
    label[0, :3] = 200
    prediction.flags.writeable = False
    settings = {"num_classes": 3, "ignore_value": 200}
    tensors = [torch.from_numpy(values.astype(int)) for values in (prediction, label)]
    expected = count_confusion(tensors[0], label=tensors[1], **settings)
    for found, reference in ((prediction, label), (prediction[::-1], label[::-1]), (tensors[0], label)):
        assert torch.equal(count_confusion(found, label=reference, **settings), expected)
    matrix = ConfusionMatrix(3, ignore_value=200)
    matrix.update(prediction, label=label)
    assert torch.equal(matrix.counts, expected)
    with pytest.raises(ValueError, match=r"Received: prediction\.dtype=torch\.float64"):
        count_confusion(prediction / 2, label=label, **settings)
