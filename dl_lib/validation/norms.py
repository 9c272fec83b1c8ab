"""Rules for batch norms that would normalize a single value per channel."""

from __future__ import annotations

from dl_lib.layers import BATCH_NORMS, SYNCHRONIZED_NORMS
from dl_lib.validation.report import Report

__all__ = ["check_crop_norm", "check_squeeze_norm"]


def check_squeeze_norm(report: Report, key: str, *, inside: str) -> None:
    """Check a norm on 1x1 feature maps inside a layer, for which a batch norm needs two images per forward pass."""
    norm = report.value(key)
    images = _images(report, norm) // max(1, report.value("SOLVER.ACCUMULATION_STEPS"))
    if report.trains and images < 2 and norm in BATCH_NORMS:
        report.add(
            key,
            f"must be FrozenBN, GN or, with several processes, SyncBN: {inside} normalizes 1x1 feature maps, for which "
            f"batch norm needs at least two images per forward pass (this run: {max(1, images)}); alternatively, "
            "increase SOLVER.IMS_PER_BATCH",
        )


def check_crop_norm(report: Report, key: str, *, cell_px: int) -> None:
    """Check a norm of the coarsest feature map, for which a batch norm needs at least two pixels or two images.

    `cell_px` is the stride of the normalized feature map.
    """
    norm = report.value(key)
    height, width = (side // cell_px for side in report.value("INPUT.CROP_SIZE"))
    if norm in BATCH_NORMS and _images(report, norm) * height * width == 1:
        report.add(
            "INPUT.CROP_SIZE",
            f"must be at least {2 * cell_px} in one direction: with one image per process and a coarsest feature map "
            f"of one pixel, {key}={norm} normalizes a single value; alternatively, use GN or increase "
            "SOLVER.IMS_PER_BATCH",
        )


def _images(report: Report, norm: str) -> int:
    """Return the number of images per step that a batch norm sees."""
    processes = 1 if norm in SYNCHRONIZED_NORMS else report.world_size
    return int(report.value("SOLVER.IMS_PER_BATCH")) // processes
