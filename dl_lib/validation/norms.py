"""Rules for norms that would normalize single values."""

from __future__ import annotations

from dl_lib.layers import BATCH_NORMS, SYNCHRONIZED_NORMS
from dl_lib.layers.norm import MAX_GROUPS
from dl_lib.validation.report import Report

__all__ = ["check_crop_norm", "check_squeeze_norm"]


def check_squeeze_norm(report: Report, key: str, *, inside: str) -> None:
    """Check a norm on 1x1 feature maps inside a layer, for which a batch norm needs two images per forward pass."""
    norm = report.value(key)
    images = _images(report, norm)
    if report.trains and images < 2 and norm in BATCH_NORMS:
        report.add(
            key,
            f"must be FrozenBN, GN or, with several processes, SyncBN: {inside} normalizes 1x1 feature maps, for which "
            f"batch norm needs at least two images per forward pass (this run: {max(1, images)}); alternatively, "
            "increase SOLVER.IMS_PER_BATCH",
        )


def check_crop_norm(report: Report, key: str, *, cell_px: int, channels: int | None) -> None:
    """Check a norm of the coarsest feature map, which must not normalize single values.

    Args:
        report: Report to add to.
        key: Key of the norm.
        cell_px: Stride of the normalized feature map.
        channels: Fewest channels of that feature map; None if they are too many for groups of one channel.
    """
    norm = report.value(key)
    height, width = (side // cell_px for side in report.value("INPUT.CROP_SIZE"))
    if height * width != 1:
        return
    if norm in BATCH_NORMS and _images(report, norm) < 2:
        reason, remedy = "one image per forward pass", "use GN or increase SOLVER.IMS_PER_BATCH"
    elif norm == "GN" and channels is not None and MAX_GROUPS % channels == 0:
        reason, remedy = f"groups of one of {channels} channels", "use SyncBN or increase MODEL.BACKBONE.INIT_CHANNEL"
    else:
        return
    report.add(
        "INPUT.CROP_SIZE",
        f"must be at least {2 * cell_px} in one direction: with {reason} and a coarsest feature map of one pixel, "
        f"{key}={norm} normalizes a single value; alternatively, {remedy}",
    )


def _images(report: Report, norm: str) -> int:
    """Return the number of images per forward pass that a batch norm sees."""
    processes = 1 if norm in SYNCHRONIZED_NORMS else report.world_size
    return int(report.value("SOLVER.IMS_PER_BATCH")) // (processes * max(1, report.value("SOLVER.ACCUMULATION_STEPS")))
