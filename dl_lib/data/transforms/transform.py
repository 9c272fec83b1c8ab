"""What transforms have in common."""

from __future__ import annotations

from typing import Protocol

import numpy as np

__all__ = ["Transform"]


class Transform(Protocol):
    """What happens to one image and its label; nothing in it is random any more. What goes in is left as it was."""

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of what comes out when (height, width) goes in."""
        ...

    def apply_image(self, image: np.ndarray) -> np.ndarray: ...

    def apply_label(self, label: np.ndarray) -> np.ndarray: ...
