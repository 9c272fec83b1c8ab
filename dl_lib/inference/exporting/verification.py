"""Verification of exported files: their outputs for sample images and those of the model in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.inference.exporting.exported_model import ExportedModel
from dl_lib.inference.exporting.metadata import Precision

__all__ = ["LOGITS_TOLERANCES", "Verification", "VerificationError", "verify"]

# Largest difference of a logit, relative to the largest absolute logit.
LOGITS_TOLERANCES: Mapping[Precision, float] = {"float32": 1e-4, "fp16": 2e-2, "int8": 0.15}
_GATE_TOLERANCE = 1e-3  # absolute; gate values are in 0..1


class VerificationError(RuntimeError):
    """Exported file with other outputs than the model."""


@dataclass(frozen=True)
class Verification:
    """Differences between an exported file and the model, over all sample images.

    Attributes:
        sizes: Heights and widths of the images in pixels.
        num_images: Number of predictions.
        tolerance: Largest difference of a logit that is accepted, relative to the largest absolute logit.
        difference: Largest difference of a logit, in the same unit. For files with preprocessing, which return
            labels: half of the largest difference between the model's logits of its own label and of that of the file.
        different_pixels: Number of pixels with another label.
        num_pixels: Number of pixels.
        different_gates: Number of gates that differ; None without gates.
        num_gates: Number of gates.
        gflops_difference: Largest relative difference of the real cost; None if the file does not return it.
    """

    sizes: tuple[tuple[int, int], ...]
    num_images: int
    tolerance: float
    difference: float
    different_pixels: int
    num_pixels: int
    different_gates: int | None
    num_gates: int
    gflops_difference: float | None

    @property
    def passed(self) -> bool:
        """True if the outputs of the file are those of the model, up to rounding."""
        close = self.difference <= self.tolerance and (self.gflops_difference or 0.0) <= self.tolerance
        return close and not self.different_gates

    def __str__(self) -> str:
        sizes = ", ".join(f"{height}x{width}" for height, width in self.sizes)
        lines = [
            f"images: {self.num_images} ({sizes})",
            f"largest difference: {self.difference:.2e} of the largest logit (tolerance: {self.tolerance:g})",
            f"pixels with another label: {self.different_pixels} of {self.num_pixels}",
        ]
        if self.different_gates is not None:
            lines.append(f"gates that differ: {self.different_gates} of {self.num_gates}")
        if self.gflops_difference is not None:
            lines.append(f"largest relative difference of the real cost: {self.gflops_difference:.2e}")
        return "\n".join(lines)


def verify(model: nn.Module, exported: ExportedModel, images: Sequence[Tensor]) -> Verification:
    """Compare an exported file with the model.

    Args:
        model: Model in evaluation mode.
        exported: Its exported file.
        images: Images (3, H, W), uint8 in the channel order of the model, of sizes that the file accepts.
    """
    results = []
    for image in images:
        with torch.inference_mode():
            (expected,) = model([{"image": image}])
        (found,) = exported([{"image": image}])
        results.append(_compare(found, expected))
    gates = [count for count in (result.gates for result in results) if count is not None]
    costs = [cost for cost in (result.gflops for result in results) if cost is not None]
    return Verification(
        sizes=tuple(dict.fromkeys((image.shape[-2], image.shape[-1]) for image in images)),
        num_images=len(images),
        tolerance=LOGITS_TOLERANCES[exported.metadata.precision],
        difference=max(result.logits for result in results),
        different_pixels=sum(result.pixels for result in results),
        num_pixels=sum(image[0].numel() for image in images),
        different_gates=sum(gates) if gates else None,
        num_gates=len(gates) * len(exported.metadata.edges),
        gflops_difference=max(costs) if costs else None,
    )


@dataclass(frozen=True)
class _Differences:
    """Differences for one image; attributes as in `Verification`."""

    logits: float
    pixels: int
    gates: int | None
    gflops: float | None


def _compare(found: Mapping[str, Any], expected: Mapping[str, Any]) -> _Differences:
    logits: Tensor = expected["sem_seg"].cpu()
    largest = max(logits.abs().max().item(), torch.finfo(logits.dtype).tiny)
    if "sem_seg" in found:
        difference = (found["sem_seg"] - logits).abs().max().item()
        labels = found["sem_seg"].argmax(dim=0)
    else:
        labels = found["labels"].long()
        difference = _largest_loss(logits, labels)
    gates, gflops = None, None
    if "gates" in found:
        gates = int(((found["gates"] - expected["gates"]).abs() > _GATE_TOLERANCE).sum())
    if "flops" in found:
        real = expected["flops"]["real_flops"]
        gflops = abs(found["flops"]["real_flops"] - real) / real
    pixels = int((labels != logits.argmax(dim=0)).sum())
    # NaN differs, too.
    return _Differences(difference / largest if difference == difference else float("inf"), pixels, gates, gflops)


def _largest_loss(logits: Tensor, labels: Tensor) -> float:
    """Return half of the largest difference between the largest logit of a pixel and that of its label."""
    if labels.shape != logits.shape[1:] or labels.max() >= len(logits):
        return float("inf")
    chosen = logits.gather(0, labels[None])[0]
    return (logits.amax(dim=0) - chosen).max().item() / 2  # both logits may differ
