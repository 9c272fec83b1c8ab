"""What a network says about an image at its own coarse resolution, and how that becomes logits at another size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["CoarseLogits", "CoarsePrediction", "requested_size"]


@dataclass(frozen=True, eq=False)
class CoarseLogits:
    """Logits of one image, before they are resized.

    Attributes:
        values: (classes, rows, columns); those of padding at the right and bottom may be among them.
        size: (height, width) of the image in pixels, without padding.
        stride: of the values, in pixels.
        upsample: (1, 1, rows, columns) to pixels; it treats the classes alike and one by one.
    """

    values: Tensor
    size: tuple[int, int]
    stride: int
    upsample: Callable[[Tensor], Tensor]

    def blank(self, size: tuple[int, int]) -> Tensor:
        """Zeros (classes, *size) to add logits to, in the type of these and where they are."""
        return self.values.new_zeros((len(self.values), *size))

    def add_to(self, total: Tensor, *, mirrored: bool = False) -> None:
        """Adds the logits to a total (classes, height, width), bilinearly resized to its size.

        First to the pixels of the image and from there to the total, as the published code does, because two steps
        are not the same as one. Class by class: beside the total, no more than one class exists at full size.

        Args:
            total: is changed.
            mirrored: whether the network saw the image's mirror image; its logits are turned back.
        """
        height, width = self.size
        for index in range(len(total)):
            fine = self.upsample(self.values[None, index : index + 1])[..., :height, :width]
            if fine.shape[-2:] != total.shape[-2:]:
                fine = interpolate(fine, size=total.shape[-2:], mode="bilinear", align_corners=False)
            total[index] += (fine.flip(-1) if mirrored else fine)[0, 0]


@dataclass(frozen=True, eq=False)
class CoarsePrediction:
    """One image after one pass of the network.

    Attributes:
        logits: before they are resized.
        flops: MFLOPs of this pass, see `DynamicNet4Seg.forward`.
        gates: (E,) gate values, on the CPU; None for networks without gates.
    """

    logits: CoarseLogits
    flops: Mapping[str, float]
    gates: Tensor | None

    def as_output(self, size: tuple[int, int]) -> dict[str, Any]:
        """The model's output for the image, with logits of this size."""
        logits = self.logits.blank(size)
        self.logits.add_to(logits)
        output = {"sem_seg": logits, "flops": dict(self.flops)}
        return output if self.gates is None else {**output, "gates": self.gates}


def requested_size(request: Mapping[str, Any]) -> tuple[int, int]:
    """The `height` and `width` that an input asks for; without them, its image's own."""
    height, width = request["image"].shape[-2:]
    return request.get("height", height), request.get("width", width)
