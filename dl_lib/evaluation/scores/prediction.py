"""What a model says about one image, in the form in which everything that looks at it gets it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dl_lib.evaluation.scores.costs import ImageCosts

__all__ = ["Prediction", "read_outputs"]

_CLASSES_OF_A_BYTE = 256


@dataclass(frozen=True, eq=False)
class Prediction:
    """One image, as the model saw it; the logits have done their work.

    Attributes:
        image_id: unique within the data set.
        file_name: of the image.
        classes: (height, width) the class of every pixel, at the size asked for, on the model's device; uint8 where
            the classes fit into it, else int32.
        input_sizes: (height, width) in pixels of the image in each pass of the network over it.
        costs: of all passes together.
        gates: float64 (edges,) on the CPU, mean over the passes; None for networks without gates.
    """

    image_id: str
    file_name: str
    classes: Tensor
    input_sizes: tuple[tuple[int, int], ...]
    costs: ImageCosts
    gates: Tensor | None


def read_outputs(
    inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]], *, num_classes: int, seconds: float
) -> list[Prediction]:
    """The predictions of one batch.

    Args:
        inputs: samples with `image` (3, H, W), `image_id`, `file_name`.
        outputs: for each of them `sem_seg` logits (classes, height, width), `flops`, and, where there are any, `gates`
            (edges,); `input_sizes`, if the image was not run once and as it is.
        num_classes: that the data set has.
        seconds: wall time that the model took for the batch.

    Raises:
        KeyError: if an output has no costs.
        ValueError: if there is not one output for each input, or the classes are not as many as they should be.
    """
    if len(inputs) != len(outputs):
        raise ValueError(
            "a model has to return one output for each input. "
            f"Received: len(inputs)={len(inputs)}, len(outputs)={len(outputs)}"
        )
    return [
        Prediction(
            image_id=sample["image_id"],
            file_name=sample["file_name"],
            classes=_most_likely(output["sem_seg"], num_classes=num_classes),
            input_sizes=output.get("input_sizes", (tuple(sample["image"].shape[-2:]),)),
            costs=ImageCosts.from_flops(output["flops"], seconds=seconds / len(inputs)),
            gates=output["gates"].double().cpu() if "gates" in output else None,
        )
        for sample, output in zip(inputs, outputs, strict=True)
    ]


def _most_likely(logits: Tensor, *, num_classes: int) -> Tensor:
    if logits.ndim != 3 or len(logits) != num_classes:
        raise ValueError(
            f"the data set has {num_classes} classes, so logits have to be ({num_classes}, height, width); see "
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES. Received: logits.shape={tuple(logits.shape)}"
        )
    return logits.argmax(dim=0).to(torch.uint8 if num_classes <= _CLASSES_OF_A_BYTE else torch.int32)
