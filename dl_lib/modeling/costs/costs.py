"""Costs of an image in multiply-adds, under the four conventions that the library reports.

Multiply-adds are the unit inside the library. They become MFLOPs (millions of multiply-adds, as the field reports
them) in the `flops` dict that models return, and GFLOPs in tables, logs and result files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

__all__ = ["FLOPS_KEYS", "MADDS_PER_GFLOP", "MADDS_PER_MFLOP", "MFLOPS_PER_GFLOP", "Costs"]

MADDS_PER_MFLOP = 1e6
MADDS_PER_GFLOP = 1e9
MFLOPS_PER_GFLOP = MADDS_PER_GFLOP / MADDS_PER_MFLOP

# Field of `Costs` -> key of the `flops` dict that models return.
FLOPS_KEYS = {
    "expected": "expt_flops",
    "real": "real_flops",
    "real_complete": "real_flops_complete",
    "executed": "executed_flops",
}

Value = TypeVar("Value", float, Tensor)


@dataclass(frozen=True)
class Costs(Generic[Value]):
    """Multiply-adds per image: numbers for one image, or tensors (B,) for a batch.

    Attributes:
        expected: Cells and transitions weighted by their gate values (arXiv 2003.10401, equations 8 to 10). The budget
            constraint limits this cost.
        real: Modules that the routing requires, counted as in the paper.
        real_complete: All modules that the routing requires.
        executed: Modules that were observed to run.
    """

    expected: Value
    real: Value
    real_complete: Value
    executed: Value

    @classmethod
    def uniform(cls, madds: Value) -> Costs[Value]:
        """Return the costs of a static network, which are equal under every convention."""
        return Costs(madds, madds, madds, madds)

    @classmethod
    def from_flops_dict(cls, flops: Mapping[str, float]) -> Costs[float]:
        """Read the `flops` dict of a model's output, in MFLOPs.

        Raises:
            KeyError: If a key is missing.
        """
        missing = [key for key in FLOPS_KEYS.values() if key not in flops]
        if missing:
            raise KeyError(
                f"flops must contain {', '.join(FLOPS_KEYS.values())} (MFLOPs) for every image; "
                f"{', '.join(missing)} missing. Received: flops={sorted(flops)}"
            )
        return Costs(**{field: float(flops[key]) * MADDS_PER_MFLOP for field, key in FLOPS_KEYS.items()})

    def to_flops_dict(self) -> dict[str, Value]:
        """Return the `flops` dict of a model's output, in MFLOPs."""
        return {key: getattr(self, field) / MADDS_PER_MFLOP for field, key in FLOPS_KEYS.items()}

    def of_image(self, index: int) -> Costs[float]:
        """Return the costs of one image of a batch."""
        return Costs(**{field: getattr(self, field)[index].item() for field in FLOPS_KEYS})

    def __add__(self, other: Costs[Value]) -> Costs[Value]:
        return Costs(**{field: getattr(self, field) + getattr(other, field) for field in FLOPS_KEYS})
