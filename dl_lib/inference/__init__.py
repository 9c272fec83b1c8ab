"""Models for deployment: copies of trained models that run faster, and files that other runtimes execute."""

from dl_lib.inference.exporting.api import export
from dl_lib.inference.exporting.description import ModelDescription
from dl_lib.inference.exporting.onnx_runtime import OnnxModel
from dl_lib.inference.folding import fold_batch_norms
from dl_lib.inference.optimization import optimize

__all__ = ["ModelDescription", "OnnxModel", "export", "fold_batch_norms", "optimize"]
