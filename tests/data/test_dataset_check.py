"""Every defect that can be put into a data set is found, and the counts are those of a loop."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dl_lib.data.catalog import DatasetMeta
from dl_lib.data.dataset_check import IssueKind, check_sample, check_samples, class_weights, summarize
from dl_lib.data.errors import InvalidSampleError, UnknownLabelError, UnreadableFileError

META = DatasetMeta(("road", "car", "sky", "moon"), ((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3)), ignore_value=255)


class Samples:
    """Samples with these labels; an exception in the place of a label is raised."""

    def __init__(self, *labels, image_size=(2, 3)):
        self.labels, self.image_size = labels, image_size

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        label = self.labels[index]
        if isinstance(label, Exception):
            raise label
        sample = {"image": np.zeros((*self.image_size, 3), np.uint8), "image_id": f"i{index}", "file_name": "f.png"}
        return sample if label is None else {**sample, "sem_seg": np.array(label, np.uint8)}


@pytest.mark.parametrize(
    ("label", "kind", "message"),
    [
        (
            [[0, 1, 2], [2, 255, 9]],
            IssueKind.UNKNOWN_ID,
            r"i0 \(f.png\): ids \[9\] in 17 % of the pixels, expected 0\.\.3 or",
        ),
        ([[0, 1], [2, 2]], IssueKind.SIZES, r"image \(2, 3\), label \(2, 2\)"),
        (UnreadableFileError("cut off"), IssueKind.UNREADABLE, "cut off"),
        (UnknownLabelError("id 77"), IssueKind.UNKNOWN_ID, "id 77"),
        (InvalidSampleError("no polygon"), IssueKind.INVALID, "no polygon"),
    ],
)
def test_what_is_wrong_with_a_sample(label, kind, message):
    (issue,) = check_sample(Samples(label), 0, meta=META).issues
    assert issue.kind is kind
    assert re.search(message, issue.message)
    assert not summarize([check_sample(Samples(label), 0, meta=META)], meta=META).usable_for_training


def test_two_things_may_be_wrong_with_one():
    kinds = [issue.kind for issue in check_sample(Samples([[9]]), 0, meta=META).issues]
    assert kinds == [IssueKind.SIZES, IssueKind.UNKNOWN_ID]


def test_errors_of_other_kinds_are_defects():
    with pytest.raises(ZeroDivisionError):
        check_sample(Samples(ZeroDivisionError()), 0, meta=META)


@pytest.mark.parametrize("workers", [0, 1])
def test_counts_by_hand(workers):
    samples = Samples([[0, 0, 1], [1, 255, 255]], [[0, 0, 0], [0, 0, 2]])
    report = summarize(check_samples(samples, meta=META, workers=workers), meta=META)
    assert report.num_samples == 2
    assert report.pixels == (7, 2, 1, 0)
    assert report.images == (2, 1, 1, 0)
    assert report.ignored_pixels == 2
    assert report.absent_classes == ("moon",)
    frequencies = [7 / 10, 2 / 4, 1 / 6]
    assert report.weights == pytest.approx((*(0.5 / f for f in frequencies), 0.0))
    assert report.usable_for_training, "a class that never occurs is no reason not to train"


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9))
def test_balanced_classes_weigh_one_and_the_median_is_one(pixels):
    weights = class_weights(pixels, labelled_where_present=[sum(pixels)] * len(pixels))
    present = [weight for weight, count in zip(weights, pixels, strict=True) if count]
    assert all((weight == 0) == (count == 0) for weight, count in zip(weights, pixels, strict=True))
    if len(present) % 2:
        assert sorted(present)[len(present) // 2] == pytest.approx(1)
    if len({count for count in pixels if count}) == 1:
        assert present == pytest.approx([1] * len(present))


def test_without_labels_there_is_nothing_to_train_on():
    assert not summarize([check_sample(Samples(None), 0, meta=META)], meta=META).usable_for_training
    assert not summarize([check_sample(Samples([[255] * 3] * 2), 0, meta=META)], meta=META).usable_for_training
