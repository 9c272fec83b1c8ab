"""File with the images and counts of an evaluation that its report page shows, report_data.npz."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from dl_lib.evaluation.report.npz_file import Arrays, arrays_as_npz, read_npz, unique_names
from dl_lib.evaluation.scores.calibration import NUM_BINS, CalibrationCounts
from dl_lib.evaluation.scores.image_encoding import MAX_CLASSES, decode_class_indices, ignored_index
from dl_lib.evaluation.scores.report_data import (
    MAX_SAMPLES,
    MAX_THUMBNAILS,
    SAMPLE_SIDE_PX,
    THUMBNAIL_SIDE_PX,
    ReportData,
    SampleImage,
)

__all__ = ["ReportData", "SampleImage", "read_report_data", "report_data_as_npz"]

_SAMPLES = ("worst", "most_expensive")
_GROUPS = {"thumbnails": 1, **dict.fromkeys(_SAMPLES, 3)}  # files of an image: JPEG, prediction, label
_CALIBRATION = {field.name: f"calibration_{field.name}" for field in fields(CalibrationCounts)}
_MAX_PIXELS = 2**40  # of one class in one image, so that sums do not overflow


def report_data_as_npz(data: ReportData) -> bytes:
    """Return the content of report_data.npz, which `numpy.load` reads without pickle.

    It holds `image_ids` (N,), `class_colors` (classes, 3) and, with ground truth, `class_counts` (N, 3, classes) and
    `calibration_pixels`, `calibration_correct` and `calibration_confidence`. The files of each group of images,
    `thumbnails`, `worst` and `most_expensive`, are joined to one array of bytes, next to `<group>_images` (K,), the
    positions of the images in `image_ids`, and `<group>_sizes` (K, files per image), the bytes of each file; a missing
    label has none.
    """
    arrays: dict[str, np.ndarray] = {"image_ids": np.array(data.image_ids), "class_colors": data.class_colors}
    if data.class_counts is not None:
        arrays["class_counts"] = data.class_counts
    if data.calibration is not None:
        arrays |= {name: getattr(data.calibration, field) for field, name in _CALIBRATION.items()}
    files: dict[str, dict[str, tuple[bytes, ...]]]
    files = {"thumbnails": {image_id: (jpeg,) for image_id, jpeg in data.thumbnails.items()}}
    for group, samples in zip(_SAMPLES, (data.worst, data.most_expensive), strict=True):
        files[group] = {sample.image_id: (sample.image, sample.prediction, sample.label or b"") for sample in samples}
    positions = {image_id: position for position, image_id in enumerate(data.image_ids)}
    for group, by_image in files.items():
        sizes = [[len(file) for file in parts] for parts in by_image.values()]
        arrays[group] = np.frombuffer(b"".join(file for parts in by_image.values() for file in parts), np.uint8)
        arrays[f"{group}_images"] = np.array([positions[image_id] for image_id in by_image], np.int64)
        arrays[f"{group}_sizes"] = np.array(sizes, np.int64).reshape(-1, _GROUPS[group])
    return arrays_as_npz(arrays)


def read_report_data(path: Path) -> ReportData:
    """Read a file of `report_data_as_npz`.

    Raises:
        ConfigError: If it is missing, damaged, or a file of another kind.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's warnings of implausible sizes
        return read_npz(
            path,
            _parse,
            names=(
                "image_ids",
                "class_colors",
                *(f"{group}{part}" for group in _GROUPS for part in ("", "_images", "_sizes")),
            ),
            optional=("class_counts", *_CALIBRATION.values()),
            contents="the images and counts of an evaluation",
            advice="evaluate the run with TEST.REPORT_DATA: True (dl_lib evaluate --config-file RUN)",
        )


def _parse(arrays: Arrays) -> ReportData:
    image_ids = unique_names(arrays["image_ids"])
    counts = _class_counts(arrays["class_counts"], num_images=len(image_ids)) if "class_counts" in arrays else None
    colors = arrays["class_colors"]
    _check_dtypes("class_colors", {np.uint8: (colors,)})
    if colors.ndim != 2 or colors.shape[1] != 3 or (counts is not None and counts.shape[-1] != len(colors)):
        raise ValueError(f"class_colors have shape {colors.shape}")
    num_classes = len(colors)
    if num_classes > MAX_CLASSES:
        raise ValueError(f"class_colors have {num_classes} classes")
    files = _files(arrays, "thumbnails", image_ids=image_ids, max_images=MAX_THUMBNAILS)
    for (jpeg,) in files.values():
        _check_jpeg(jpeg, max_side=THUMBNAIL_SIDE_PX)
    return ReportData(
        image_ids=image_ids,
        class_colors=colors,
        class_counts=counts,
        thumbnails={image_id: jpeg for image_id, (jpeg,) in files.items()},
        worst=_samples(arrays, "worst", image_ids=image_ids, num_classes=num_classes),
        most_expensive=_samples(arrays, "most_expensive", image_ids=image_ids, num_classes=num_classes),
        calibration=_calibration(arrays) if arrays.keys() & {*_CALIBRATION.values()} else None,
    )


def _class_counts(counts: np.ndarray, *, num_images: int) -> npt.NDArray[np.int64]:
    _check_dtypes("class_counts", {np.int64: (counts,)})
    if counts.ndim != 3 or counts.shape[:2] != (num_images, 3) or not counts.size:
        raise ValueError(f"class_counts have shape {counts.shape}")
    if counts.min() < 0 or counts.max() > _MAX_PIXELS:
        raise ValueError("class_counts are not numbers of pixels")
    intersection, predicted, labelled = counts.transpose(1, 0, 2)
    if (intersection > np.minimum(predicted, labelled)).any() or (predicted.sum(1) != labelled.sum(1)).any():
        raise ValueError("class_counts contradict each other")
    return counts


def _calibration(arrays: Arrays) -> CalibrationCounts:
    counts = CalibrationCounts(**{field: arrays[name] for field, name in _CALIBRATION.items()})
    pixels, correct, confidence = counts.pixels, counts.correct, counts.confidence
    _check_dtypes("the calibration", {np.int64: (pixels, correct), np.float64: (confidence,)})
    if not pixels.shape == correct.shape == confidence.shape == (NUM_BINS,):
        raise ValueError(f"the calibration has shapes {pixels.shape}, {correct.shape}, {confidence.shape}")
    if not ((pixels >= 0) & (pixels <= _MAX_PIXELS)).all() or not pixels.any():
        raise ValueError("calibration_pixels are not numbers of pixels")
    if not ((correct >= 0) & (correct <= pixels) & (confidence >= 0) & (confidence <= pixels)).all():
        raise ValueError("the calibration has more correct pixels or confidence than pixels")
    return counts


def _files(arrays: Arrays, group: str, *, image_ids: Sequence[str], max_images: int) -> dict[str, tuple[bytes, ...]]:
    """Return the files of a group of images by image id."""
    content, positions, sizes = (arrays[f"{group}{part}"] for part in ("", "_images", "_sizes"))
    _check_dtypes(group, {np.uint8: (content,), np.int64: (positions, sizes)})
    if content.ndim != 1 or positions.ndim != 1 or sizes.shape != (len(positions), _GROUPS[group]):
        raise ValueError(f"{group} have shapes {content.shape}, {positions.shape}, {sizes.shape}")
    if not ((positions >= 0) & (positions < len(image_ids))).all() or len(np.unique(positions)) < len(positions):
        raise ValueError(f"{group} are not at the positions of different images")
    if len(positions) > max_images:
        raise ValueError(f"{group} have {len(positions)} images")
    if not ((sizes >= 0) & (sizes <= len(content))).all() or sizes.sum() != len(content):
        raise ValueError(f"{group} have sizes of files that do not add up to {len(content)} bytes")
    ends = np.cumsum(sizes).reshape(sizes.shape)
    return {
        image_ids[position]: tuple(content[end - size : end].tobytes() for end, size in zip(*parts, strict=True))
        for position, *parts in zip(positions.tolist(), ends.tolist(), sizes.tolist(), strict=True)
    }


def _samples(arrays: Arrays, group: str, *, image_ids: Sequence[str], num_classes: int) -> tuple[SampleImage, ...]:
    files = _files(arrays, group, image_ids=image_ids, max_images=MAX_SAMPLES)
    for image, prediction, label in files.values():
        size = _check_jpeg(image, max_side=SAMPLE_SIDE_PX)
        _check_class_indices(prediction, size=size, num_classes=num_classes, may_be_ignored=False)
        if label:
            _check_class_indices(label, size=size, num_classes=num_classes, may_be_ignored=True)
    return tuple(
        SampleImage(image_id, image, prediction, label or None)
        for image_id, (image, prediction, label) in files.items()
    )


def _check_dtypes(name: str, arrays: Mapping[type[np.generic], Sequence[np.ndarray]]) -> None:
    for dtype, same in arrays.items():
        for array in same:
            if array.dtype != dtype:
                raise ValueError(f"{name}: dtype {array.dtype} instead of {np.dtype(dtype)}")


def _check_jpeg(jpeg: bytes, *, max_side: int) -> tuple[int, int]:
    """Return height and width of a JPEG, from its header.

    Raises:
        ValueError: If it is not an RGB JPEG with sides of at most `max_side` pixels.
    """
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        if image.mode != "RGB" or max(image.size) > max_side:
            raise ValueError(f"JPEG has mode {image.mode} and size {image.size}")
        return image.height, image.width


def _check_class_indices(png: bytes, *, size: tuple[int, int], num_classes: int, may_be_ignored: bool) -> None:
    indices = decode_class_indices(png)
    if indices.shape != size:
        raise ValueError(f"PNG has shape {indices.shape}, its image {size}")
    is_class = indices < num_classes
    if may_be_ignored:
        is_class |= indices == ignored_index(num_classes)
    if not is_class.all():
        raise ValueError(f"PNG has values that are not classes, up to {indices.max()}")
