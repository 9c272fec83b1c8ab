"""A check of norms that see one value of each image."""

from __future__ import annotations

from dl_lib.layers import BATCH_NORMS, SYNCHRONIZED_NORMS
from dl_lib.validation.report import Report

__all__ = ["check_squeeze_norm"]


def check_squeeze_norm(report: Report, key: str, *, inside: str) -> None:
    """Note a batch norm inside squeeze-and-excitation, on maps of one pixel, that would see one image at a time."""
    norm = report.value(key)
    processes = 1 if norm in SYNCHRONIZED_NORMS else report.world_size
    images = report.value("SOLVER.IMS_PER_BATCH") // (processes * max(1, report.value("SOLVER.ACCUMULATION_STEPS")))
    if report.trains and images < 2 and norm in BATCH_NORMS:
        report.add(
            key,
            f"{inside} has norms on maps of one pixel, where a batch norm needs two images, and a process trains on "
            f"{max(1, images)} at a time",
            expected="FrozenBN or GN, or, with several processes, SyncBN",
            mend="more images in SOLVER.IMS_PER_BATCH do, too",
        )
