"""Predictions at the network's output stride, before they are resized to the requested size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from dl_lib.modeling.costs.costs import Costs

__all__ = ["CoarseLogits", "CoarsePrediction", "requested_size"]

MAX_ELEMENTS = 2**16  # of classes that are resized together


@dataclass(frozen=True, eq=False)
class CoarseLogits:
    """Logits of one image at the network's output stride.

    Attributes:
        values: Logits (classes, rows, columns); may cover padding at the right and bottom.
        size: (height, width) of the image in pixels, without padding.
        stride: Output stride in pixels.
        upsample: Function from (classes, 1, rows, columns) to full resolution.
    """

    values: Tensor
    size: tuple[int, int]
    stride: int
    upsample: Callable[[Tensor], Tensor]

    def new_zeros(self, size: tuple[int, int]) -> Tensor:
        """Return zeros (classes, *size) with the dtype and device of the logits, as a total for `add_to`."""
        return self.values.new_zeros((len(self.values), *size))

    def add_to(self, total: Tensor, *, flipped: bool = False) -> None:
        """Add the logits, resized as by `write_to`, to `total` (classes, height, width) in place.

        `flipped` flips the logits of a horizontally flipped image back.
        """
        for classes in self._chunks(total):
            total[classes] += self._resized(classes, total, flipped=flipped)

    def write_to(self, output: Tensor) -> None:
        """Write the logits, bilinearly resized, to `output` (classes, height, width).

        They are resized to the image size first and from there to the size of `output`, as in the published code,
        because the result differs from that of a single resize.
        """
        for classes in self._chunks(output):
            output[classes] = self._resized(classes, output)

    @staticmethod
    def _chunks(output: Tensor) -> Iterator[slice]:
        """Yield classes to resize together: one at a time at high resolution, where only one fits into the caches."""
        step = max(1, MAX_ELEMENTS // output[0].numel()) if len(output) else 1
        for first in range(0, len(output), step):
            yield slice(first, first + step)

    def _resized(self, classes: slice, like: Tensor, *, flipped: bool = False) -> Tensor:
        height, width = self.size
        logits = self.upsample(self.values[classes, None])[..., :height, :width]
        if logits.shape[-2:] != like.shape[-2:]:
            logits = interpolate(logits, size=like.shape[-2:], mode="bilinear", align_corners=False)
        return (logits.flip(-1) if flipped else logits)[:, 0]


@dataclass(frozen=True, eq=False)
class CoarsePrediction:
    """Prediction for one image from one forward pass.

    Attributes:
        logits: Logits at the output stride.
        costs: Costs of this pass.
        gates: Gate values (E,) on the CPU; None without gates.
    """

    logits: CoarseLogits
    costs: Costs[float]
    gates: Tensor | None

    def as_output(self, size: tuple[int, int]) -> dict[str, Any]:
        """Return the model's output dict for the image, with logits of this size."""
        logits = self.logits.values.new_empty((len(self.logits.values), *size))
        self.logits.write_to(logits)
        output = {"sem_seg": logits, "flops": self.costs.to_flops_dict()}
        return output if self.gates is None else {**output, "gates": self.gates}


def requested_size(inputs: Mapping[str, Any]) -> tuple[int, int]:
    """Return the output size that an input dict asks for: `height` and `width`, by default those of its image."""
    height, width = inputs["image"].shape[-2:]
    return inputs.get("height", height), inputs.get("width", width)
