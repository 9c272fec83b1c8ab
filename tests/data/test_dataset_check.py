"""Dataset check: all kinds of issues, and pixel counts and class weights."""

import re
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dl_lib.config.choices import LabelShortcoming
from dl_lib.data.catalog import DatasetCatalog, DatasetMeta
from dl_lib.data.dataset_check import IssueKind, check_sample, check_samples, class_weights, summarize
from dl_lib.data.datasets.folder import FolderSource
from dl_lib.data.errors import InvalidSampleError, UnknownLabelError, UnreadableFileError
from tests.helpers.dataset_files import save_png
from tests.helpers.image_files import exif

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
            r"i0 \(f.png\): ids \[9\] in 16\.7 % of the pixels, expected 0\.\.3 or",
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
    assert not report.usable_for_training
    assert report.shortcomings == {"absent-classes": "no pixel of class 'moon'"}
    accepted = summarize(check_samples(samples, meta=META, workers=0), meta=META, allowed=["absent-classes"])
    assert accepted.usable_for_training


@pytest.mark.parametrize(
    ("ignored", "sparse", "shortcomings"),
    [
        (0, False, {}),
        (36, False, {}),  # exactly 90 %
        (40, False, {"ignored-pixels": "90.9 % of the pixels have the ignore value 255"}),
        (400, True, {}),  # Cityscapes coarse
    ],
)
def test_mostly_ignored_pixels(ignored, sparse, shortcomings):
    label = [[0, 1, 2, 3] + [255] * ignored]
    samples, meta = Samples(label, image_size=(1, 4 + ignored)), replace(META, sparse=sparse)
    checks = [check_sample(samples, 0, meta=meta)]
    report = summarize(checks, meta=meta)
    assert report.shortcomings == shortcomings
    assert report.usable_for_training is not bool(shortcomings)
    assert summarize(checks, meta=meta, allowed=["ignored-pixels"]).usable_for_training


def test_a_single_class_is_not_usable():
    meta = DatasetMeta(("object",), ((0, 0, 0),))
    report = summarize([check_sample(Samples([[0, 255]], image_size=(1, 2)), 0, meta=meta)], meta=meta)
    assert not report.usable_for_training
    assert "a binary task has two classes" in report.shortcomings["one-class"]


def test_coarse_annotations_are_known_to_be_sparse():
    names = [name for name in DatasetCatalog.names() if "coarse" in name]
    assert names == ["cityscapes_coarse_sem_seg_train_extra"]
    assert DatasetCatalog.meta(names[0]).sparse
    assert not DatasetCatalog.meta("cityscapes_fine_sem_seg_train").sparse


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_a_warning(root, ending):
    for name, orientation in (("a", 3), ("b", 1), ("c", 6)):
        (root / "images").mkdir(exist_ok=True)
        image = Image.fromarray(np.zeros((2, 3, 3), np.uint8))
        image.save(root / "images" / f"{name}.{ending}", exif=exif(orientation))
        save_png(root / "labels" / f"{name}.png", np.array([[0, 1, 2], [3, 0, 0]], np.uint8))
    report = summarize(
        check_samples(FolderSource("images", "labels", META.class_names)(), meta=META, workers=0), meta=META
    )
    assert [issue.kind for issue in report.issues] == [IssueKind.ORIENTATION] * 2
    assert [issue.message.split(": ")[-1] for issue in report.issues] == ["orientation 3", "orientation 6"]
    assert report.usable_for_training


@pytest.mark.parametrize(("settings", "kinds"), [({}, [IssueKind.PALETTE]), ({"color_map": META.class_colors}, [])])
def test_palettes_that_differ_are_a_warning(tmp_path, monkeypatch, settings, kinds):
    monkeypatch.setenv("DL_DATASETS", str(tmp_path))
    for name, first in (("a", 0), ("b", 2)):  # the palette of b begins with the color of class 2
        save_png(tmp_path / "images" / f"{name}.png", np.zeros((2, 2, 3), np.uint8))
        label = Image.fromarray(np.array([[0, 0], [1, 1]], np.uint8))
        label.putpalette([first] * 3 + [1] * 3 + [0] * 3)
        (tmp_path / "labels").mkdir(exist_ok=True)
        label.save(tmp_path / "labels" / f"{name}.png")
    dataset = FolderSource("images", "labels", META.class_names, **settings)()
    report = summarize(check_samples(dataset, meta=META, workers=0), meta=META, allowed=["absent-classes"])
    assert [issue.kind for issue in report.issues] == kinds
    assert all(issue.message.endswith("b.png): index 0 is (2, 2, 2), elsewhere (0, 0, 0)") for issue in report.issues)
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
    for label, shortcomings in (
        (None, {"unread-labels": "no label could be read"}),
        ([[9] * 3] * 2, {"no-labels": "no pixel of a class"}),
    ):
        assert summarize([check_sample(Samples(label), 0, meta=META)], meta=META).shortcomings == shortcomings
    report = summarize(
        [check_sample(Samples([[255] * 3] * 2), 0, meta=META)], meta=META, allowed=get_args(LabelShortcoming)
    )
    assert report.shortcomings == {"no-labels": "all pixels have the ignore value 255"}
    assert not report.usable_for_training
