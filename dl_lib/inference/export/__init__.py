"""Export of trained models to files that other runtimes execute.

`export` writes and verifies a file, see `dl_lib.inference.export.api`; `OnnxModel` runs ONNX files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dl_lib.inference.export.api import export
    from dl_lib.inference.export.description import ModelDescription
    from dl_lib.inference.export.onnx_runtime import OnnxModel

__all__ = ["ModelDescription", "OnnxModel", "export"]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: the command line reads suffixes without torch."""
    if name == "export":
        from dl_lib.inference.export.api import export

        return export
    if name == "ModelDescription":
        from dl_lib.inference.export.description import ModelDescription

        return ModelDescription
    if name == "OnnxModel":
        from dl_lib.inference.export.onnx_runtime import OnnxModel

        return OnnxModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
