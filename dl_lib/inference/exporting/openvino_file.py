"""Exported networks in OpenVINO's format: a .xml file with the graph and a .bin file with the weights."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.inference.exporting.exported_model import ExportedModel
from dl_lib.inference.exporting.metadata import METADATA_KEY, ExportMetadata
from dl_lib.inference.exporting.onnx_file import onnx_model
from dl_lib.inference.exporting.requirements import import_extra
from dl_lib.utils.files import WriteError

__all__ = ["OpenVinoModel", "write_openvino"]


def write_openvino(program: ExportedProgram, metadata: ExportMetadata, divisor: int, path: Path) -> None:
    """Write the ONNX model of a graph in OpenVINO's format.

    Raises:
        WriteError: If the files cannot be written.
    """
    openvino = import_extra("openvino", extra="openvino")
    converted = openvino.convert_model(io.BytesIO(onnx_model(program, metadata, divisor).SerializeToString()))
    converted.set_rt_info(metadata.to_json(), [METADATA_KEY])
    try:
        openvino.save_model(converted, path, compress_to_fp16=metadata.precision == "fp16")
    except RuntimeError as error:  # without the reason of the operating system
        reason = f"OpenVINO failed ({error}), the disk may be full"
        raise WriteError(errno.EIO, reason, os.fspath(path)) from error


class OpenVinoModel(ExportedModel):
    """OpenVINO file of `dl_lib export` with the call interface of a model in evaluation, on the CPU.

    Args:
        path: The .xml file; the .bin file is next to it.

    Raises:
        CheckpointError: If the file cannot be read or was not written by `dl_lib export`.
        MissingExtraError: If openvino is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        openvino, path = import_extra("openvino", extra="openvino"), os.fspath(path)
        core = openvino.Core()
        try:
            model = core.read_model(path)
            text = model.get_rt_info([METADATA_KEY]).astype(str)
        except RuntimeError as error:
            raise CheckpointError(
                "the file must be one that dl_lib export --format openvino wrote, undamaged; export the run again. "
                f"Received: path={path!r}, {error}"
            ) from error
        super().__init__(ExportMetadata.from_json(text, path=path), path=path)
        threads = torch.get_num_threads()  # as for models of torch, whatever the number of cores
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        self._compiled: Any = core.compile_model(model, "CPU", options)

    def run(self, image: np.ndarray) -> Mapping[str, np.ndarray]:
        outputs = self._compiled.create_infer_request().infer(image)  # the model's own request is for one thread
        arrays = {name: array for port, array in outputs.items() for name in port.names}
        return {name: arrays[name] for name in self.metadata.outputs if name in arrays}
