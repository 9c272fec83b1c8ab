"""Rules for `INPUT`, and for datasets and sizes against the model."""

from __future__ import annotations

from dl_lib.config.crop_size import has_automatic_crop
from dl_lib.validation.datasets import check_datasets
from dl_lib.validation.model import coarsest_channels, coarsest_stride, smallest_side
from dl_lib.validation.norms import check_crop_norm
from dl_lib.validation.report import Report

__all__ = ["check_data"]


def check_data(report: Report) -> None:
    """Report problems with datasets, labels and image sizes."""
    check_datasets(report)
    _check_sizes(report)
    if report.value("INPUT.CROP_SIZE"):
        if report.accepts("INPUT.CROP_SIZE") and not has_automatic_crop(report.cfg):
            _check_crop(report)
    elif report.value("INPUT.CROP_MAX_CLASS_RATIO") < 1:
        report.add("INPUT.CROP_MAX_CLASS_RATIO", "must be 1 without a crop; set INPUT.CROP_SIZE")


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
        channels = coarsest_channels(report)
        check_crop_norm(report, "MODEL.BACKBONE.NORM", cell_px=smallest, channels=channels)
        check_crop_norm(report, "MODEL.SEM_SEG_HEAD.NORM", cell_px=divisor, channels=channels)
