"""Exported programs of torch, files that run without the code of the model."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.inference.exporting.exported_model import ExportedModel
from dl_lib.inference.exporting.metadata import METADATA_KEY, ExportMetadata
from dl_lib.utils.files import write_atomically

__all__ = ["TorchProgramModel", "write_program"]

_METADATA_FILE = f"{METADATA_KEY}.json"  # inside the archive


def write_program(
    program: ExportedProgram, metadata: ExportMetadata, divisor: int, path: str | os.PathLike[str]
) -> None:
    """Write a program; images are padded to the divisor outside of it."""
    content = io.BytesIO()  # torch ends the process if it cannot write to a file
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No complete tensor found")  # of weights that are views
        torch.export.save(program, content, extra_files={_METADATA_FILE: metadata.to_json()})
    write_atomically(path, content.getbuffer())


class TorchProgramModel(ExportedModel):
    """Exported program with the call interface of a model in evaluation.

    Args:
        path: File that `dl_lib export` wrote. `torch.export.load` may execute code in it: open files only from sources
            that you trust.

    Raises:
        CheckpointError: If the file cannot be read or was not written by `dl_lib export`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path, texts = os.fspath(path), {_METADATA_FILE: ""}
        try:
            program = torch.export.load(path, extra_files=texts)
        except Exception as error:  # damaged archives raise various types
            raise CheckpointError(
                "the file must be a program that dl_lib export --format torch-export wrote, undamaged; export the run "
                f"again. Received: path={path!r}, {type(error).__name__}: {error}"
            ) from error
        super().__init__(ExportMetadata.from_json(texts[_METADATA_FILE], path=path), path=path)
        self._program: Any = program.module()

    def run(self, image: np.ndarray) -> Mapping[str, np.ndarray]:
        with torch.inference_mode():
            outputs = self._program(torch.from_numpy(image))
        return {name: output.numpy() for name, output in zip(self.metadata.outputs, outputs, strict=True)}
