"""ONNX models of graphs."""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram

__all__ = ["to_onnx"]


def to_onnx(program: ExportedProgram, *, output_names: tuple[str, ...]) -> Any:
    """Return the ONNX model (`onnx.ModelProto`) of a graph with the input `image`."""
    converted = torch.onnx.export(
        program,
        dynamo=True,
        external_data=False,
        input_names=["image"],
        output_names=list(output_names),
        verbose=False,
    )
    assert converted is not None
    return converted.model_proto
