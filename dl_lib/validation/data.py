"""Checks of `DATASETS`, `DATALOADER` and `INPUT`, also against the model that the images are for."""

from __future__ import annotations

from typing import Any

import dl_lib.data  # noqa: F401  (registers the data sets that come with the library)
from dl_lib.data.catalog import DatasetCatalog, DatasetMeta
from dl_lib.data.datasets.configured import parse_folders
from dl_lib.data.errors import DataError
from dl_lib.layers import BATCH_NORMS, SYNCHRONIZED_NORMS
from dl_lib.utils.names import nearest_names
from dl_lib.validation.model import coarsest_stride, has_small_gates
from dl_lib.validation.report import Interval, Report

__all__ = ["check_data"]

CHANNEL_ORDERS = ("BGR", "RGB")
RANGES = {
    "DATALOADER.NUM_WORKERS": Interval(0),
    "DATALOADER.MAX_SKIPPED": Interval(0),
    "INPUT.FLIP_PROB": Interval(0, 1),
    "INPUT.MIN_SIZE_TEST": Interval(0),
    "INPUT.CROP_IMAGE_PAD_VALUE": Interval(0, 255),
    "INPUT.CROP_MAX_CLASS_RATIO": Interval(0, 1, open_low=True),
    "INPUT.ROTATION_DEGREES": Interval(0, 180),
    "INPUT.BLUR_PROB": Interval(0, 1),
    "INPUT.PHOTOMETRIC.BRIGHTNESS": Interval(0, 255),
    "INPUT.PHOTOMETRIC.CONTRAST": Interval(0, 1),
    "INPUT.PHOTOMETRIC.SATURATION": Interval(0, 1),
    "INPUT.PHOTOMETRIC.HUE_DEGREES": Interval(0, 180),
}
CHOICES = {
    "INPUT.FORMAT": (CHANNEL_ORDERS, "channel order"),
    "INPUT.BACKEND": (("cv2", "pil"), "way of resizing"),
    "DATALOADER.CACHE": (("none", "memmap"), "cache"),
    "DATALOADER.ON_ERROR": (("raise", "skip"), "way to deal with unusable samples"),
}


def check_data(report: Report) -> None:
    """Note everything that is wrong with the data and with how it fits the model."""
    for key, interval in RANGES.items():
        report.within(key, interval)
    for key, (names, what) in CHOICES.items():
        report.one_of(key, names, what=what)
    _check_datasets(report)
    _check_labels(report)
    _check_sizes(report)
    _check_crop(report)


def _check_datasets(report: Report) -> None:
    folders = parse_folders(report.value("DATASETS.FOLDERS"))
    report.problems += folders.problems
    known = {*DatasetCatalog.names(), *folders.names}
    if report.trains and not report.value("DATASETS.TRAIN"):
        report.add("DATASETS.TRAIN", "there is nothing to train on", expected=f"some of {', '.join(sorted(known))}")
    if len(set(report.value("DATASETS.TEST"))) < len(report.value("DATASETS.TEST")):
        report.add("DATASETS.TEST", "a data set is evaluated once, results go by its name", expected="each name once")
    for key in ("DATASETS.TRAIN", "DATASETS.TEST") if report.trains else ("DATASETS.TEST",):
        for name in dict.fromkeys(report.value(key)):
            if name in folders.sources:
                _check_classes(report, key, name, meta=folders.sources[name].meta)
            elif name in DatasetCatalog.names():
                _check_registered(report, key, name)
            elif name not in folders.names:  # else, what is wrong with the entry is in the list already
                near = nearest_names(name, known)
                report.add(
                    key,
                    f"no data set is registered under {name!r} (yet)",
                    mend=f"{near}. DATASETS.FOLDERS, or a net.py beside the config, can register data sets of your own",
                )


def _check_registered(report: Report, key: str, name: str) -> None:
    try:
        meta = DatasetCatalog.meta(name)
    except DataError as error:  # of a data set whose classes stand in a file
        report.problems.append(f"{key}: the classes of {name} cannot be read: {error}")
    else:
        _check_classes(report, key, name, meta=meta)


def _check_classes(report: Report, key: str, name: str, *, meta: DatasetMeta) -> None:
    if report.trains and not meta.labelled:
        report.add(key, f"the data set {name} has no labels to train on or to score against")
    for head_key, expected, wrong in (
        (
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES",
            meta.num_classes,
            f"the data set {name} has {meta.num_classes} classes",
        ),
        (
            "MODEL.SEM_SEG_HEAD.IGNORE_VALUE",
            meta.ignore_value,
            f"the data set {name} marks ignored pixels with {meta.ignore_value}",
        ),
    ):
        if report.value(head_key) != expected:
            report.add(head_key, wrong, expected=f"{expected}")


def _check_labels(report: Report) -> None:
    ignore = report.value("MODEL.SEM_SEG_HEAD.IGNORE_VALUE")
    classes = report.value("MODEL.SEM_SEG_HEAD.NUM_CLASSES")
    if 0 <= ignore < classes:
        report.add(
            "MODEL.SEM_SEG_HEAD.IGNORE_VALUE",
            "a class would be left out of loss and evaluation",
            expected=f"a label beyond the classes 0..{classes - 1}, usually 255",
        )


def _check_sizes(report: Report) -> None:
    scales = report.value("INPUT.SCALE_RANGE_TRAIN")
    if scales:
        _check_range(report, "INPUT.SCALE_RANGE_TRAIN", what="of the image's own size; [] resizes to MIN_SIZE_TRAIN")
    _check_range(report, "INPUT.BLUR_SIGMA", what="of the blur in pixels")
    shorter = report.value("INPUT.MIN_SIZE_TRAIN")
    if any(size < 1 for size in shorter):
        report.add("INPUT.MIN_SIZE_TRAIN", "a size is in pixels", expected="numbers of 1 or more; [] keeps the size")
    for low_key, high_key, low in (
        ("INPUT.MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN", 1 if scales else max(shorter, default=0)),
        ("INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", report.value("INPUT.MIN_SIZE_TEST")),
    ):
        if low and report.value(high_key) < low:
            report.add(
                high_key,
                f"the longer edge would be shorter than the shorter edge of {low_key}",
                expected=f"at least {low}",
            )


def _check_range(report: Report, key: str, *, what: str) -> None:
    values = report.value(key)
    if len(values) != 2 or not all(map(_is_number, values)) or not 0 < values[0] <= values[1]:
        report.add(key, "a range has two ends", expected=f"[lowest, highest], both above 0, {what}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_crop(report: Report) -> None:
    crop = report.value("INPUT.CROP_SIZE")
    if not crop:
        if report.value("INPUT.CROP_MAX_CLASS_RATIO") < 1:
            report.add("INPUT.CROP_MAX_CLASS_RATIO", "there is no crop to choose", mend="give INPUT.CROP_SIZE")
        return
    if len(crop) != 2 or min(crop) < 1:
        report.add("INPUT.CROP_SIZE", "a crop has two sides", expected="[height, width] in pixels; [] does not crop")
        return
    divisor = coarsest_stride(report)
    if divisor is None:
        return
    if any(side % divisor for side in crop):
        # Such a crop would run, padded by the model: every batch would pay for a border that nothing is learnt from.
        nearest = [max(divisor, round(side / divisor) * divisor) for side in crop]
        report.add(
            "INPUT.CROP_SIZE",
            f"sides that are no multiples of the network's coarsest stride {divisor} are padded in every batch",
            expected=f"multiples of {divisor}, such as {nearest}",
        )
    small_gate = has_small_gates(report)
    if small_gate and min(crop) < 4 * divisor:
        report.add(
            "INPUT.CROP_SIZE",
            "MODEL.GATE.SMALL_GATE looks at a quarter of the sides, and nothing is left of the coarsest maps",
            expected=f"sides of at least {4 * divisor}",
        )
    elif report.trains and not any(side % divisor for side in crop):
        _check_norm_samples(report, "MODEL.BACKBONE.NORM", cell_px=divisor * (4 if small_gate else 1))
        _check_norm_samples(report, "MODEL.SEM_SEG_HEAD.NORM", cell_px=divisor)


def _check_norm_samples(report: Report, norm_key: str, *, cell_px: int) -> None:
    """Note a norm over the batch that would see one value: one image, and one pixel of the coarsest map."""
    norm = report.value(norm_key)
    processes = 1 if norm in SYNCHRONIZED_NORMS else report.world_size
    images = report.value("SOLVER.IMS_PER_BATCH") // processes
    height, width = (side // cell_px for side in report.value("INPUT.CROP_SIZE"))
    if norm in BATCH_NORMS and images * height * width == 1:
        report.add(
            "INPUT.CROP_SIZE",
            f"a step has one image whose coarsest map is one pixel, and {norm_key}={norm} needs two values",
            expected=f"a side of at least {2 * cell_px}",
            mend="or more images in SOLVER.IMS_PER_BATCH, or GN",
        )
