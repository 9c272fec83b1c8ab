"""ONNX models of graphs, and their files."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from dl_lib.inference.exporting.metadata import INPUT_NAME, METADATA_KEY, ExportMetadata
from dl_lib.inference.exporting.onnx_preprocessing import NETWORK_LOGITS, add_preprocessing
from dl_lib.inference.exporting.quantization import quantize
from dl_lib.inference.exporting.requirements import import_onnx
from dl_lib.utils.files import write_atomically

__all__ = ["onnx_model", "to_onnx", "write_onnx"]


def to_onnx(program: ExportedProgram, *, output_names: tuple[str, ...]) -> Any:
    """Return the ONNX model (`onnx.ModelProto`) of a graph with the input `image`."""
    converted = torch.onnx.export(
        program,
        dynamo=True,
        external_data=False,
        input_names=[INPUT_NAME],
        output_names=list(output_names),
        dynamic_shapes=({0: "batch"},),  # only its name; the graph decides whether it is dynamic
        verbose=False,
        optimize=False,
    )
    assert converted is not None
    _simplify(converted.model)
    return converted.model_proto


def _simplify(model: Any) -> None:
    """Fold constants, and remove zero biases, unused and duplicate nodes.

    The optimization of `torch.onnx.export` also applies rewrite rules, in a time that is quadratic in the number of
    nodes: minutes for a lattice of 16 layers. Their results are not faster, as ONNX Runtime has its own rules. Only
    the one for zero biases is needed: quantized to int8, each bias is stored with its scales.
    """
    passes = importlib.import_module("onnx_ir.passes.common")
    rules = importlib.import_module("onnxscript.rewriter.rules.common")
    importlib.import_module("onnxscript.optimizer").fold_constants(model)
    rules.remove_optional_bias_from_conv_rule.apply_to_model(model)
    for simplify in (
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.LiftSubgraphInitializersToMainGraphPass(),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.NameFixPass(),
        passes.ClearMetadataAndDocStringPass(),  # paths and source lines of this machine
    ):
        simplify(model)


def onnx_model(
    program: ExportedProgram, metadata: ExportMetadata, divisor: int, *, calibration: Iterable[np.ndarray] = ()
) -> Any:
    """Return the ONNX model of the graph of a network, with preprocessing and metadata.

    Args:
        program: Graph of the network itself.
        metadata: Metadata of the model.
        divisor: Divisor of the sides of images for the network.
        calibration: Images (1, 3, H, W) for the network, with which it is quantized if the precision is int8.
    """
    wraps = metadata.with_preprocessing or metadata.size is None
    model = to_onnx(program, output_names=(NETWORK_LOGITS if wraps else "logits", *metadata.outputs[1:]))
    if metadata.precision == "int8":
        model = quantize(model, calibration)
    if wraps:
        model = add_preprocessing(model, metadata, divisor=divisor)
    import_onnx().helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    return model


def write_onnx(
    program: ExportedProgram,
    metadata: ExportMetadata,
    divisor: int,
    path: Path,
    *,
    calibration: Iterable[np.ndarray] = (),
) -> None:
    """Write the ONNX model of the graph of a network, see `onnx_model`."""
    write_atomically(path, onnx_model(program, metadata, divisor, calibration=calibration).SerializeToString())
