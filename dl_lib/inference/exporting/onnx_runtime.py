"""Exported ONNX files in ONNX Runtime."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.inference.exporting.exported_model import ExportedModel
from dl_lib.inference.exporting.metadata import INPUT_NAME, METADATA_KEY, ExportMetadata
from dl_lib.inference.exporting.requirements import import_extra, import_onnx
from dl_lib.inference.exporting.signature import TensorType, check_declared
from dl_lib.utils.files import read_regular

__all__ = ["OnnxModel"]

_MAX_BYTES = 2**31 - 1  # limit of protocol buffers
_DTYPES: Mapping[str, np.dtype] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int32)": np.dtype(np.int32),
}
_FATAL_ONLY = 4  # log severity of ONNX Runtime, which raises errors as well


class OnnxModel(ExportedModel):
    """ONNX file of `dl_lib export` with the call interface of a model in evaluation, on the CPU.

    Args:
        path: File; no code in it is executed, and no other file is read.

    Raises:
        CheckpointError: If the file cannot be read or was not written by `dl_lib export`.
        MissingExtraError: If onnx or onnxruntime are not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = os.fspath(path)
        content = _read(path)
        super().__init__(_metadata(content, path=path), path=path)
        self._session = _session(content, path=path)
        inputs, outputs = map(_declared, (self._session.get_inputs(), self._session.get_outputs()))
        check_declared(self.metadata, inputs=inputs, outputs=outputs, path=path)

    def run(self, image: np.ndarray) -> Mapping[str, np.ndarray]:
        outputs = self._session.run(None, {INPUT_NAME: image})
        return dict(zip(self.metadata.outputs, outputs, strict=True))


def _declared(nodes: Iterable[Any]) -> dict[str, TensorType]:
    """Return the types of inputs or outputs of a session by name."""
    return {
        node.name: TensorType(
            _DTYPES.get(node.type, np.dtype(object)),
            tuple(length if isinstance(length, int) else None for length in node.shape),
        )
        for node in nodes
    }


def _read(path: str) -> bytes:
    try:
        return read_regular(path, max_bytes=_MAX_BYTES)
    except OSError as error:
        raise CheckpointError(
            f"the exported file cannot be read: {error.strerror or error}; name a file that dl_lib export wrote. "
            f"Received: path={path!r}"
        ) from error


def _metadata(content: bytes, *, path: str) -> ExportMetadata:
    """Return the metadata of an ONNX model whose weights are all in the file itself."""
    onnx = import_onnx()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protocol buffers raise various types
        raise _unusable(path, f"{type(error).__name__}: {error}") from error
    external = importlib.import_module("onnx.external_data_helper")
    if any(map(external.uses_external_data, external._get_all_tensors(model))):
        raise _unusable(path, "weights in other files")
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in texts:
        raise _unusable(path, f"no metadata {METADATA_KEY!r}")
    return ExportMetadata.from_json(texts[METADATA_KEY], path=path)


def _session(content: bytes, *, path: str) -> Any:
    onnxruntime = import_extra("onnxruntime", extra="onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # as for models of torch, whatever the number of cores
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the types of ONNX Runtime have no common base
        raise _unusable(path, f"{type(error).__name__}: {error}"[:500]) from error


def _unusable(path: str, reason: str) -> CheckpointError:
    return CheckpointError(
        "the file must be an ONNX file that dl_lib export wrote, undamaged; nothing in it was executed. Copy it "
        f"again, or export the run again. Received: path={path!r}, {reason}"
    )
