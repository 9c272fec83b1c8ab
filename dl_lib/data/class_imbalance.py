"""Imbalance of the classes of a dataset by labelled pixels."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["MAX_IMBALANCE", "imbalance_warning"]

MAX_IMBALANCE = 1000  # pixels of the most frequent class for each pixel of the rarest one, without a warning


def imbalance_warning(pixels: Sequence[int], *, class_names: Sequence[str]) -> str | None:
    """Return a sentence about classes beyond an imbalance of 1:1000; None below, or with fewer than two classes.

    Args:
        pixels: Labelled pixels of each class; classes without a pixel do not count.
        class_names: Their names.
    """
    present = [(number, name) for number, name in zip(pixels, class_names, strict=True) if number]
    if not present:
        return None
    (fewest, rare), (most, frequent) = (choose(present, key=lambda one: one[0]) for choose in (min, max))
    if most <= MAX_IMBALANCE * fewest:
        return None
    return (
        f"Class imbalance of 1:{most / fewest:,.0f}, beyond 1:{MAX_IMBALANCE}: {fewest:,} labelled pixels of {rare!r}, "
        f"{most:,} of {frequent!r}. MODEL.LOSS.CLASS_WEIGHTS balances the loss; dl_lib check-dataset prints weights."
    )
