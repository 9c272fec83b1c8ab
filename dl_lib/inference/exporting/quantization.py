"""Post-training static quantization of ONNX models to 8-bit integers."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dl_lib.inference.exporting.metadata import INPUT_NAME
from dl_lib.inference.exporting.requirements import import_extra, import_onnx

__all__ = ["quantize"]


def quantize(model: Any, images: Iterable[np.ndarray]) -> Any:
    """Return an ONNX model whose weights and feature maps are integers of 8 bits where ONNX Runtime has an operator.

    Weights have one scale per output channel and are signed. Feature maps are unsigned, which on CPUs without
    instructions for signed ones is several times faster; their ranges are those of the calibration images.

    Args:
        model: Static ONNX model (`onnx.ModelProto`) with the input `image`.
        images: Calibration images (1, 3, H, W), float32, normalized.

    Raises:
        MissingExtraError: If onnx or onnxruntime are not installed.
    """
    onnx = import_onnx()
    import_extra("onnxruntime", extra="onnx")
    quantization = importlib.import_module("onnxruntime.quantization")
    preparation = importlib.import_module("onnxruntime.quantization.shape_inference")
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder, f"{name}.onnx") for name in ("source", "prepared", "quantized"))
        onnx.save(_with_distinct_names(model), source)
        preparation.quant_pre_process(source, prepared, skip_symbolic_shape=True)  # the graph states its shapes
        quantization.quantize_static(
            prepared,
            target,
            _Reader(images),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return onnx.load(target)


def _with_distinct_names(model: Any) -> Any:
    """Return the model with a prefix before the names of its weights.

    ONNX Runtime copies a bias that several convolutions share and appends a number to its name, which can become the
    name of a feature map: `val_7` and `val_70`.
    """
    others = ("nodes", "edges", "inputs", "outputs", "value_infos", "functions")
    kept = {f"rename_{name}": False for name in others}
    return import_onnx().compose.add_prefix(model, "weight_", rename_initializers=True, **kept)


class _Reader:
    """Calibration images in the form that ONNX Runtime reads."""

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {INPUT_NAME: image}
