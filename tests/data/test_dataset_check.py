"""Dataset check: all kinds of issues, and pixel counts and class weights."""

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
    """Dataset with the given labels; an exception given instead of a label is raised."""

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
        (UnreadableFileError("truncated"), IssueKind.UNREADABLE, "truncated"),
        (UnknownLabelError("id 77"), IssueKind.UNKNOWN_ID, "id 77"),
        (InvalidSampleError("no polygon"), IssueKind.INVALID, "no polygon"),
    ],
)
def test_sample_with_one_issue(label, kind, message):
    (issue,) = check_sample(Samples(label), 0, meta=META).issues
    assert issue.kind is kind
    assert re.search(message, issue.message)
    assert not summarize([check_sample(Samples(label), 0, meta=META)], meta=META).usable_for_training


def test_sample_with_two_issues():
    kinds = [issue.kind for issue in check_sample(Samples([[9]]), 0, meta=META).issues]
    assert kinds == [IssueKind.SIZES, IssueKind.UNKNOWN_ID]


def test_other_errors_are_raised():
    with pytest.raises(ZeroDivisionError):
        check_sample(Samples(ZeroDivisionError()), 0, meta=META)


@pytest.mark.parametrize("workers", [0, 1])
def test_pixel_and_image_counts(workers):
    samples = Samples([[0, 0, 1], [1, 255, 255]], [[0, 0, 0], [0, 0, 2]])
    report = summarize(check_samples(samples, meta=META, workers=workers), meta=META)
    assert report.num_samples == 2
    assert report.pixels == (7, 2, 1, 0)
    assert report.images == (2, 1, 1, 0)
    assert report.ignored_pixels == 2
    assert report.absent_classes == ("moon",)
    frequencies = [7 / 10, 2 / 4, 1 / 6]
    assert report.weights == pytest.approx((*(0.5 / f for f in frequencies), 0.0))
    assert report.usable_for_training


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9))
def test_class_weights_are_zero_for_absent_classes_and_have_median_one(pixels):
    weights = class_weights(pixels, labelled_where_present=[sum(pixels)] * len(pixels))
    present = [weight for weight, count in zip(weights, pixels, strict=True) if count]
    assert all((weight == 0) == (count == 0) for weight, count in zip(weights, pixels, strict=True))
    if len(present) % 2:
        assert sorted(present)[len(present) // 2] == pytest.approx(1)
    if len({count for count in pixels if count}) == 1:
        assert present == pytest.approx([1] * len(present))


def test_dataset_without_labelled_pixels_is_not_usable_for_training():
    assert not summarize([check_sample(Samples(None), 0, meta=META)], meta=META).usable_for_training
    assert not summarize([check_sample(Samples([[255] * 3] * 2), 0, meta=META)], meta=META).usable_for_training
