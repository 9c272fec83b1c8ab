"""What the parts of a step have to know of each other, so that their losses add up to that of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dl_lib.modeling.losses.cross_entropy import PixelCrossEntropy
from dl_lib.utils import comm

__all__ = ["StepMeans"]


@dataclass(frozen=True, eq=False)
class StepMeans:
    """Means over the parts of a step, on all processes; 0-d tensors without gradients.

    Attributes:
        label_weight: of the weights that the labels of a part have in the cross-entropy.
        expected_mflops: of the expected cost of an image; None where no budget asks for it.
    """

    label_weight: Tensor
    expected_mflops: Tensor | None = None

    @classmethod
    def of(cls, labels: Sequence[Tensor], *, loss: PixelCrossEntropy, num_parts: int, like: Tensor) -> StepMeans:
        """Of the labels of all parts of this process; every process has to call it.

        Args:
            labels: maps of class ids.
            loss: which weighs them.
            num_parts: how many parts they are of.
            like: of whose type and device the means are.
        """
        weights = [loss.weight_of(label, like=like) for label in labels]
        return cls(comm.average(sum(weights[1:], weights[0]) / num_parts))
