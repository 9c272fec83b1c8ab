"""Report data on disk: round trip, damaged and foreign files."""

import io
from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image

from dl_lib.config import ConfigError
from dl_lib.evaluation.report.report_file import read_report_data, report_data_as_npz
from dl_lib.evaluation.scores.calibration import NUM_BINS, CalibrationCounts
from dl_lib.evaluation.scores.image_encoding import encode_class_indices
from tests.helpers.report_data import jpeg, report_data, sample_image

VALID = report_data()


def arrays_of(data=VALID):
    with np.load(io.BytesIO(report_data_as_npz(data)), allow_pickle=False) as file:
        return dict(file)


def npz(**replaced):
    arrays = {name: array for name, array in {**arrays_of(), **replaced}.items() if array is not None}
    np.savez(file := io.BytesIO(), **arrays)
    return file.getvalue()


def samples_as_tuples(samples):
    return [(one.image_id, one.image, one.prediction, one.label) for one in samples]


@pytest.mark.parametrize(
    "data",
    [
        VALID,
        report_data(labelled=False),
        report_data(num_images=1),
        replace(VALID, thumbnails={}, worst=(), most_expensive=(), calibration=None),
    ],
)
def test_round_trip(data, tmp_path):
    (tmp_path / "report_data.npz").write_bytes(report_data_as_npz(data))
    read = read_report_data(tmp_path / "report_data.npz")
    assert (read.image_ids, read.thumbnails) == (data.image_ids, data.thumbnails)
    for group in ("worst", "most_expensive"):
        assert samples_as_tuples(getattr(read, group)) == samples_as_tuples(getattr(data, group))
    np.testing.assert_array_equal(read.class_counts, data.class_counts)
    assert (read.calibration is None) == (data.calibration is None)
    for field in fields(CalibrationCounts) if data.calibration is not None else ():
        np.testing.assert_array_equal(getattr(read.calibration, field.name), getattr(data.calibration, field.name))


def counts(*, image=0, kind=0, change=0):
    changed = VALID.class_counts.copy()
    changed[image, kind, 0] += change
    return changed


def encoded(mode, size, *, kind):
    Image.new(mode, size).save(file := io.BytesIO(), kind)
    return file.getvalue()


def constant(value):
    return encode_class_indices(np.full((6, 9), value), num_classes=3)


def with_worst(**replaced):
    """File whose worst images are one sample with some of its files replaced."""
    sample = replace(sample_image(VALID.image_ids[0]), **replaced)
    return report_data_as_npz(replace(VALID, worst=(sample,)))


def with_thumbnail(content):
    return report_data_as_npz(replace(VALID, thumbnails={VALID.image_ids[0]: content}))


SIZES, POSITIONS = (arrays_of()[f"worst_{part}"] for part in ("sizes", "images"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK", "File is not a zip file"),
        (npz(image_ids=np.arange(4)), "names have dtype"),
        (npz(image_ids=np.array(["a"] * 4)), "a name is repeated"),
        (npz(image_ids=np.array(["a"])), "class_counts have"),
        (npz(thumbnails=None), "thumbnails.npy"),
        (npz(class_counts=VALID.class_counts.astype(np.int32)), "class_counts: dtype int32 instead of int64"),
        (npz(class_counts=VALID.class_counts[:, :2]), "class_counts have shape"),
        (npz(class_counts=VALID.class_counts[..., :0]), "class_counts have shape"),
        (npz(class_counts=np.zeros((4, 3), np.int64)), "class_counts have shape"),
        (npz(class_counts=counts(change=-100)), "class_counts are not"),
        (npz(class_counts=counts(change=2**62)), "class_counts are not"),
        (npz(class_counts=counts(change=1000)), "class_counts contradict"),
        (npz(class_counts=counts(kind=1, change=1)), "class_counts contradict"),
        (npz(class_counts=None, class_colors=np.zeros((2**16, 3), np.uint8)), "class_colors have 65536 classes"),
        (npz(calibration_pixels=None), "calibration_pixels"),
        (npz(calibration_pixels=np.arange(3)), "the calibration has shapes"),
        (npz(calibration_correct=np.ones(NUM_BINS)), "the calibration: dtype float64"),
        (npz(calibration_correct=np.full(NUM_BINS, 99)), "more correct pixels"),
        (npz(calibration_confidence=np.full(NUM_BINS, np.nan)), "more correct pixels or confidence"),
        (npz(**{f"calibration_{name}": np.zeros(NUM_BINS, np.int64) for name in ("pixels", "correct")}), "not numbers"),
        (npz(worst=np.zeros((2, 2), np.uint8)), "worst have shapes"),
        (npz(worst_images=POSITIONS.astype(np.int32)), "worst: dtype int32"),
        (npz(worst_images=POSITIONS - 2), "worst are not at the positions"),
        (npz(worst_images=POSITIONS * 0), "worst are not at the positions"),
        (npz(worst_images=POSITIONS + 1), "worst are not at the positions"),
        (npz(worst_sizes=SIZES + 1), "worst have sizes of files"),
        (npz(worst_sizes=SIZES * [[1, 1, -1]]), "worst have sizes of files"),
        (npz(worst_sizes=SIZES + 2**62), "worst have sizes of files"),
        (npz(worst_sizes=SIZES[:, :2]), "worst have shapes"),
        (npz(worst_sizes=np.roll(SIZES, 1)), "Truncated File Read|cannot identify image"),
        (with_thumbnail(jpeg(4, 129)), r"JPEG has mode RGB and size \(129, 4\)"),
        (with_thumbnail(encoded("L", (4, 4), kind="JPEG")), "JPEG has mode L"),
        (with_thumbnail(encoded("RGB", (4, 4), kind="PNG")), "cannot identify image"),
        (with_thumbnail(b"<svg/>"), "cannot identify image"),
        (with_worst(image=jpeg(9, 6)), r"PNG has shape \(6, 9\), its image \(9, 6\)"),
        (with_worst(image=jpeg(6, 385)), "JPEG has mode RGB and size"),
        (with_worst(prediction=encoded("RGB", (9, 6), kind="PNG")), "PNG has mode RGB"),
        (with_worst(prediction=encoded("L", (20_000, 20_000), kind="PNG")), "exceeds limit|PNG has mode L and size"),
        (with_worst(label=sample_image("a").label[:-30]), "truncated|Truncated|broken|Error"),
        (
            with_worst(prediction=constant(3)),
            "values that are not classes, up to 3",
        ),
        (with_worst(prediction=constant(255)), "values that are not classes"),
    ],
)
def test_damaged_and_foreign_files_are_refused(content, message, tmp_path):
    path = tmp_path / "report_data.npz"
    path.write_bytes(content)
    with pytest.raises(
        ConfigError, match=rf"report_data.npz is not a file with the images .* Received: .*(?:{message})"
    ):
        read_report_data(path)


def test_number_of_images_is_bounded(tmp_path):
    many = report_data(num_images=12)
    assert len(many.worst) == 11
    (tmp_path / "report_data.npz").write_bytes(report_data_as_npz(many))
    with pytest.raises(ConfigError, match="worst have 11 images"):
        read_report_data(tmp_path / "report_data.npz")


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"report_data.npz cannot be read \(No such file .*TEST.REPORT_DATA: True"):
        read_report_data(tmp_path / "report_data.npz")


def test_16_bit_class_indices(tmp_path):
    """300 classes need 16 bits; ignored pixels are then 65535."""
    indices = np.arange(300).reshape(15, 20)
    label = np.where(indices % 7 == 0, 65535, indices)
    one = replace(
        sample_image("a"),
        image=jpeg(15, 20),
        prediction=encode_class_indices(indices, num_classes=300),
        label=encode_class_indices(label, num_classes=300),
    )
    class_counts = np.ones((1, 3, 300), np.int64)
    data = replace(
        VALID,
        image_ids=("a",),
        class_colors=np.zeros((300, 3), np.uint8),
        class_counts=class_counts,
        thumbnails={},
        worst=(one,),
        most_expensive=(),
    )
    (tmp_path / "report_data.npz").write_bytes(report_data_as_npz(data))
    (read,) = read_report_data(tmp_path / "report_data.npz").worst
    assert (read.prediction, read.label) == (one.prediction, one.label)
