"""A crop that is chosen by what its label shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dl_lib.data.transforms.geometry import CropPad

__all__ = ["CropChoice", "largest_class_ratio"]


@dataclass(frozen=True)
class CropChoice:
    """Crops that were drawn, of which the label decides: the first in which no class has too much.

    Where each of them shows too much of one class, it is that with the least.

    Args:
        crops: in the order in which they were drawn.
        max_ratio: of a class, among the pixels that are not ignored. One class alone, or none, is too much of one.
        ignore_value: of the pixels that are not counted.
    """

    crops: tuple[CropPad, ...]
    max_ratio: float
    ignore_value: int

    def choose(self, look: Callable[[CropPad], np.ndarray]) -> CropPad:
        """The crop.

        Args:
            look: gives the label as a crop shows it; is called for as many of them as have to be looked at.
        """
        shares: list[float] = []
        for crop in self.crops:
            shares.append(largest_class_ratio(look(crop), ignore_value=self.ignore_value))
            if shares[-1] <= self.max_ratio:
                return crop
        return self.crops[shares.index(min(shares))]


def largest_class_ratio(label: np.ndarray, *, ignore_value: int) -> float:
    """Share of the most frequent class among the pixels that are not ignored; 1 where all are."""
    counts = np.unique(label[label != ignore_value], return_counts=True)[1]
    return float(counts.max() / counts.sum()) if len(counts) else 1.0
