"""File formats of exported networks: how each is written, and opened for verification."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch.export import ExportedProgram

from dl_lib.inference.exporting.exported_model import ExportedModel
from dl_lib.inference.exporting.metadata import ExportMetadata
from dl_lib.inference.exporting.onnx_file import write_onnx
from dl_lib.inference.exporting.onnx_runtime import OnnxModel
from dl_lib.inference.exporting.openvino_file import OpenVinoModel, write_openvino
from dl_lib.inference.exporting.requirements import import_extra
from dl_lib.inference.exporting.torch_program import TorchProgramModel, write_program
from dl_lib.utils.run_files import EXPORT_SUFFIXES

__all__ = ["FILE_FORMATS", "FileFormat", "FormatName", "WriteFile"]

FormatName = Literal["onnx", "torch-export", "openvino"]
WriteFile = Callable[[ExportedProgram, ExportMetadata, int, Path], None]


@dataclass(frozen=True)
class FileFormat:
    """Format of exported files.

    Attributes:
        suffixes: Suffixes of the files of an export, first that of the file to open.
        packages: Optional packages, by the extra that installs them.
        write: Function from the graph of a network, its metadata, and the divisor of the sides of its images to a file.
        open: Function that opens a file.
        wraps: Whether `write` adds preprocessing, and padding to the divisor, around the graph of the network itself.
    """

    suffixes: tuple[str, ...]
    packages: Mapping[str, tuple[str, ...]]
    write: WriteFile
    open: Callable[[Path], ExportedModel]
    wraps: bool = True

    def check_installed(self) -> None:
        """Check that the packages of the format are installed.

        Raises:
            MissingExtraError: If one is missing.
        """
        for extra, names in self.packages.items():
            for name in names:
                import_extra(name, extra=extra)

    def rename(self, source: Path, target: Path) -> None:
        """Rename the files of an export; the one to open is last, so that the others exist by then."""
        for suffix in reversed(self.suffixes):
            os.replace(source.with_suffix(suffix), target.with_suffix(suffix))

    def remove(self, path: Path) -> None:
        """Remove those files of an export that exist."""
        for suffix in self.suffixes:
            path.with_suffix(suffix).unlink(missing_ok=True)


_ONNX = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
FILE_FORMATS: Mapping[FormatName, FileFormat] = {
    "onnx": FileFormat(EXPORT_SUFFIXES["onnx"], _ONNX, write_onnx, OnnxModel),
    "torch-export": FileFormat(EXPORT_SUFFIXES["torch-export"], {}, write_program, TorchProgramModel, wraps=False),
    "openvino": FileFormat(
        EXPORT_SUFFIXES["openvino"], _ONNX | {"openvino": ("openvino",)}, write_openvino, OpenVinoModel
    ),
}
