"""Rules for `DATASETS` and `INPUT`, also against the model."""

from __future__ import annotations

import dl_lib.data  # noqa: F401  (registers the built-in datasets)
from dl_lib.config.crop_size import has_automatic_crop
from dl_lib.config.errors import shown
from dl_lib.data.catalog import DatasetCatalog, DatasetMeta
from dl_lib.data.datasets.configured import parse_folders
from dl_lib.data.errors import DataError
from dl_lib.utils.names import nearest_names
from dl_lib.validation.model import coarsest_stride, smallest_side
from dl_lib.validation.norms import check_crop_norm
from dl_lib.validation.report import Report

__all__ = ["check_data"]

_NUM_CLASSES, _IGNORE_VALUE = "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "MODEL.SEM_SEG_HEAD.IGNORE_VALUE"


def check_data(report: Report) -> None:
    """Report problems with datasets, labels and image sizes."""
    _check_datasets(report)
    classes = report.value(_NUM_CLASSES)
    if 0 <= report.value(_IGNORE_VALUE) < classes:
        report.add(_IGNORE_VALUE, f"must not be a class id (0 to {classes - 1}); use 255")
    _check_sizes(report)
    if report.value("INPUT.CROP_SIZE"):
        if report.accepts("INPUT.CROP_SIZE") and not has_automatic_crop(report.cfg):
            _check_crop(report)
    elif report.value("INPUT.CROP_MAX_CLASS_RATIO") < 1:
        report.add("INPUT.CROP_MAX_CLASS_RATIO", "must be 1 without a crop; set INPUT.CROP_SIZE")


def _check_datasets(report: Report) -> None:
    folders = parse_folders(report.value("DATASETS.FOLDERS") if report.accepts("DATASETS.FOLDERS") else [])
    report.problems += folders.problems
    known = {*DatasetCatalog.names(), *folders.names}
    if report.trains and not report.value("DATASETS.TRAIN"):
        report.add("DATASETS.TRAIN", f"must name a dataset to train on; available: {', '.join(sorted(known))}")
    for key in ("DATASETS.TRAIN", "DATASETS.TEST") if report.trains else ("DATASETS.TEST",):
        for name in dict.fromkeys(report.value(key)) if report.accepts(key) else ():
            if name in folders.sources:
                _check_classes(report, key, name, meta=folders.sources[name].meta)
            elif name in DatasetCatalog.names():
                _check_registered(report, key, name)
            elif name not in folders.names:  # an invalid entry of FOLDERS has its own line
                report.add(
                    key,
                    f"contains {shown(name)}, which is not a registered dataset; {nearest_names(name, known)}; "
                    "register your own in DATASETS.FOLDERS or in a net.py next to the config",
                )


def _check_registered(report: Report, key: str, name: str) -> None:
    try:
        meta = DatasetCatalog.meta(name)
    except DataError as error:  # the classes of some datasets are read from a file
        report.problems.append(f"{key}: the classes of {name} cannot be read: {error}")
    else:
        _check_classes(report, key, name, meta=meta)


def _check_classes(report: Report, key: str, name: str, *, meta: DatasetMeta) -> None:
    if report.trains and not meta.labelled:
        report.add(key, f"contains {name}, which has no labels; all datasets of a training run need labels")
    if report.value(_NUM_CLASSES) != meta.num_classes:
        report.add(_NUM_CLASSES, f"must be {meta.num_classes}, the number of classes of the dataset {name}")
    if report.value(_IGNORE_VALUE) != meta.ignore_value:
        report.add(_IGNORE_VALUE, f"must be {meta.ignore_value}, the ignore value of the dataset {name}")


def _check_sizes(report: Report) -> None:
    scales, shorter = report.value("INPUT.SCALE_RANGE_TRAIN"), report.value("INPUT.MIN_SIZE_TRAIN")
    for low_key, high_key, low in (
        ("INPUT.MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN", 1 if scales else max(shorter, default=0)),
        ("INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", report.value("INPUT.MIN_SIZE_TEST")),
    ):
        if low and report.value(high_key) < low:
            report.add(high_key, f"must be at least {low}" + ("" if low == 1 else f", the shorter edge ({low_key})"))


def _check_crop(report: Report) -> None:
    crop, divisor, smallest = report.value("INPUT.CROP_SIZE"), coarsest_stride(report), smallest_side(report)
    if divisor is None or smallest is None:
        return
    if padded := any(side % divisor for side in crop):
        # The model would pad such crops: every batch would include border pixels without labels.
        nearest = [max(divisor, round(side / divisor) * divisor) for side in crop]
        report.add(
            "INPUT.CROP_SIZE",
            f"must be multiples of {divisor}, the coarsest stride of the network, or every batch is padded; "
            f"use {nearest}",
        )
    if smallest > divisor and min(crop) < smallest:
        report.add(
            "INPUT.CROP_SIZE",
            f"must be at least {smallest} in both directions with MODEL.GATE.SMALL_GATE=True, which shrinks the "
            "coarsest feature map to a quarter",
        )
    elif report.trains and not padded:
        check_crop_norm(report, "MODEL.BACKBONE.NORM", cell_px=smallest)
        check_crop_norm(report, "MODEL.SEM_SEG_HEAD.NORM", cell_px=divisor)
