"""Prediction of one image, the common input of evaluators and writers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dl_lib.data.catalog import MAX_UINT8_CLASSES
from dl_lib.evaluation.scores.calibration import confidence_of
from dl_lib.modeling.costs.costs import Costs

__all__ = ["CONFIDENCE_STRIDE", "Prediction", "class_indices", "read_outputs"]

CONFIDENCE_STRIDE = 4  # pixels between the rows and columns with a confidence; softmax of all pixels would be expensive


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted classes, costs and gates of one image, without logits.

    Attributes:
        image_id: Identifier, unique within the dataset.
        file_name: Image file.
        classes: Class indices (H, W) at the requested size, on the model's device; uint8 if they fit, else int32.
        input_sizes: Image size (height, width) in pixels in each pass.
        costs: Multiply-adds, summed over all passes.
        seconds: Wall time of the model, without loading and scoring.
        gates: Gate values, float64 (edges,) on the CPU, mean over the passes; None without gates.
        confidence: Confidence of every `CONFIDENCE_STRIDE`-th row and column of the classes, float32, on the model's
            device; None if not requested.
    """

    image_id: str
    file_name: str
    classes: Tensor
    input_sizes: tuple[tuple[int, int], ...]
    costs: Costs[float]
    seconds: float
    gates: Tensor | None
    confidence: Tensor | None = None


def read_outputs(
    inputs: Sequence[Mapping[str, Any]],
    outputs: Sequence[Mapping[str, Any]],
    *,
    num_classes: int,
    seconds: float,
    with_confidence: bool = False,
) -> list[Prediction]:
    """Convert the outputs of a batch to predictions.

    Args:
        inputs: Samples with `image` (3, H, W), `image_id`, `file_name`.
        outputs: One dict per sample with `sem_seg`, logits (classes, H, W), and `flops`; `gates` (edges,) if there are
            gates; `input_sizes` unless the network ran once, on the unchanged image.
        num_classes: Number of classes of the dataset.
        seconds: Wall time of the model for the batch.
        with_confidence: Whether to compute the confidence.

    Raises:
        KeyError: If an output has no costs.
        ValueError: If the number of outputs or of classes is wrong.
    """
    if len(inputs) != len(outputs):
        raise ValueError(
            "the model must return one output per input. "
            f"Received: len(inputs)={len(inputs)}, len(outputs)={len(outputs)}"
        )
    return [
        Prediction(
            image_id=sample["image_id"],
            file_name=sample["file_name"],
            classes=class_indices(output["sem_seg"], num_classes=num_classes),
            input_sizes=output.get("input_sizes", (tuple(sample["image"].shape[-2:]),)),
            costs=Costs.from_flops_dict(output["flops"]),
            seconds=seconds / len(inputs),
            gates=output["gates"].double().cpu() if "gates" in output else None,
            confidence=confidence_of(output["sem_seg"][:, ::CONFIDENCE_STRIDE, ::CONFIDENCE_STRIDE])
            if with_confidence
            else None,
        )
        for sample, output in zip(inputs, outputs, strict=True)
    ]


def class_indices(logits: Tensor, *, num_classes: int) -> Tensor:
    """Return the class with the largest logit of each pixel (H, W): uint8 if the classes fit, else int32.

    Raises:
        ValueError: If the number of classes is wrong.
    """
    if logits.ndim != 3 or len(logits) != num_classes:
        raise ValueError(
            f"sem_seg must have shape ({num_classes}, height, width), as the dataset has {num_classes} classes; check "
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES. Received: logits.shape={tuple(logits.shape)}"
        )
    return logits.argmax(dim=0).to(torch.uint8 if num_classes <= MAX_UINT8_CLASSES else torch.int32)
