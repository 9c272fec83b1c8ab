"""Suffixes of exported files, without imports that the command line would wait for."""

from __future__ import annotations

__all__ = ["EXPORT_SUFFIXES"]

EXPORT_SUFFIXES = {  # by format; first that of the file to open
    "onnx": (".onnx",),
    "torch-export": (".pt2",),
    "openvino": (".xml", ".bin"),
    "weights": (".safetensors",),
}
